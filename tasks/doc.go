// Package tasks is the contract between wxcourier and the services that send it tasks: the
// task types, the rules for their bodies, the JSON form of a task, and the result of a task.
//
// A service in Go makes a task with the constructor of its type, and enqueues it with a
// [Client], alone or in bulk:
//
//	task, err := tasks.NewSubscribeTask("wx0123456789abcdef", tasks.SubscribePayload{
//		ToUser:     openid,
//		TemplateID: "T1",
//		Page:       "pages/index/index",
//		Data:       tasks.Data{"thing1": {Value: "订单已发货"}},
//	}, tasks.ID("order-42-shipped"))
//	receipt, err := tasks.NewClient(rdb).Enqueue(ctx, task)
//
// A Client also looks up, waits for and cancels the tasks and batches that its caller names.
// A [Consumer] processes the results of all tasks, shared by a group of processes.
// An [Inspector] is for operators: it lists results and redrives ended tasks of all
// producers.
//
// A plain asynq.Client can enqueue the task too, since the task carries its queue, id and
// retry limit; its id is then unique only within its queue, and only as long as asynq keeps
// the task.
//
// Producers in other languages write the [Envelope], the JSON form of a task.
// [ParseEnvelope] reads it, [Envelope.Prepare] checks it by the rules of the [Catalog], and
// [Envelope.Encode] writes the payload that a worker reads with [DecodePayload]. The body is
// WeChat's own request body, field for field. A body that WeChat would certainly refuse is
// refused with a [ValidationError], which lists every fault with its JSON path. Rules that
// only WeChat can check are not checked.
//
// A service that records OpenTelemetry traces gives a task its trace context, and finds the spans of
// the delivery in the same trace:
//
//	carrier := propagation.MapCarrier{} // of go.opentelemetry.io/otel/propagation
//	propagation.TraceContext{}.Inject(ctx, carrier)
//	task, err := tasks.NewSubscribeTask(app, payload, tasks.TraceParent(carrier.Get("traceparent")))
//
// The files, by what they hold:
//
//	catalog.go                    the task types, one row each
//	payload_*.go                  their bodies as Go types, with a constructor for each
//	check*.go, internal/keyword   the rules for envelopes and bodies
//	envelope.go, decode.go        the envelope and its JSON
//	digest.go                     the digest by which another body is recognized
//	names.go                      apps, ids, batches and queues
//	task.go                       the asynq task of an envelope
//	result.go                     outcomes, states and results
//	client*.go, inspector*.go     Client and Inspector
//	consumer.go                   Consumer: the results for a group of processes
package tasks
