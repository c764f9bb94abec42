// Package campaign sends one message to each row of a table: it checks all rows first, says when
// the sending will end, enqueues the rows, and reports what became of each. It is the engine of the
// subcommand send and of the console's campaign pages.
//
//	t, err := table.Open(file, size, "people.csv")
//	m, err := campaign.ParseTemplate(text)
//	plan, err := campaign.Plan{App: app, Type: "send:subscribe", Batch: "spring", Table: t, Template: m}.Complete()
//	checked, err := campaign.Check(ctx, plan, time.Now())     // every row; no I/O but the table's
//	sender := campaign.NewSender(rdb)
//	state, err := sender.State(ctx, checked)                  // what an earlier run of the batch did
//	sent, err := sender.Send(ctx, checked, campaign.SendOptions{…})
//	progress, err := sender.Progress(ctx, plan)               // until progress.Drained()
//	err = sender.WriteReport(ctx, w, checked)
//
// [Estimate] is pure arithmetic; [ReadLoad] reads its input from Redis.
//
// Each row has an id that depends on the batch and the receiver alone, so that a person gets at most
// one message of a batch, however often a run is repeated and whatever has changed in the table.
// Which rows were enqueued is kept in Redis beside the batch, since the records of ended tasks
// expire much earlier than people repeat commands; see record.go.
//
// No error, fault or progress of this package contains a cell of the table.
package campaign
