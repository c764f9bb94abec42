// Package tasks is the contract between wxcourier and the services that hand it
// work: which task types there are, what their bodies may hold, how a task is
// written as JSON, and what its result looks like.
//
// A service in Go makes a task with one constructor a type, and enqueues it with a
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
// A Client also reads results, waits for them, cancels tasks and redrives ended ones. Any
// asynq.Client can enqueue the task, too, which brings its queue, id and retry limit
// along; then its id is unique only within its queue, and only as long as asynq keeps it.
//
// Everything else meets the [Envelope], the JSON form of a task: [ParseEnvelope]
// reads it, [Envelope.Prepare] checks it by the rules of the [Catalog], and
// [Envelope.Encode] writes the payload that a worker reads with [DecodePayload]. A
// body is WeChat's own request body, field for field; what is surely wrong is
// refused at the door with a [ValidationError] that names every fault by its JSON
// path, and what only WeChat can judge passes.
package tasks
