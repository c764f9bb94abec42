package tasks_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/templates"
	"github.com/wxcourier/wxcourier/tasks"
)

// made makes a task with a constructor, for each of the messages whose fields have kinds by their names.
func made(t *testing.T, id, thing string) map[string]*asynq.Task {
	t.Helper()
	data := tasks.Data{"thing1": {Value: thing}, "time2": {Value: "15:01"}, "enum3": {Value: "上午"}}
	subscribe, err := tasks.NewSubscribeTask(clientApp, tasks.SubscribePayload{ToUser: "oPerson", TemplateID: "S1", Data: data}, tasks.ID(id+"-subscribe"))
	if err != nil {
		t.Fatal(err)
	}
	biz, err := tasks.NewBizSubscribeTask(clientApp, tasks.BizSubscribePayload{ToUser: "oPerson", TemplateID: "S1", Data: data}, tasks.ID(id+"-biz"))
	if err != nil {
		t.Fatal(err)
	}
	e := templated(tasks.TypeSubscribe, "S1", strings.Replace(fitting, "雨伞", thing, 1))
	e.ID = id + "-envelope"
	envelope, err := tasks.NewTask(e)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]*asynq.Task{"subscribe": subscribe, "biz": biz, "envelope": envelope}
}

// TestLengthIsCheckedWhereTheModeIsKnown: a constructor takes a thing of any length. Enqueuing cuts it
// with templates.fix, and refuses it without.
func TestLengthIsCheckedWhereTheModeIsKnown(t *testing.T) {
	const tooLong = "body.data.thing1.value: 30 characters; a thing keyword takes at most 20 characters"
	long, short := strings.Repeat("伞", 30), strings.Repeat("伞", 19)+"…"
	registries := map[string]*templates.Registry{
		"no registry": nil,
		"off":         shopTemplates(templates.Mode{}),
		"warn":        shopTemplates(templates.Mode{Check: templates.CheckWarn}),
		"reject":      shopTemplates(templates.Mode{Check: templates.CheckReject}),
		"fix":         shopTemplates(templates.Mode{Fix: true}),
		"reject, fix": shopTemplates(templates.Mode{Check: templates.CheckReject, Fix: true}),
	}
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		for name, registry := range registries {
			if err := rdb.FlushDB(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			client := tasks.NewClient(rdb)
			if registry != nil {
				storeRegistry(t, rdb, clientApp, registry)
			}
			for kind, task := range made(t, "t", long) {
				receipt, err := client.Enqueue(t.Context(), task)
				if registry != nil && registry.Fix {
					if err != nil || receipt.Already {
						t.Fatalf("%s, %s: %+v, %v", name, kind, receipt, err)
					}
					wantCut(t, rdb, receipt, short)
					continue
				}
				var invalid *tasks.ValidationError
				if !errors.As(err, &invalid) || len(invalid.Fields) != 1 || !strings.Contains(err.Error(), tooLong) {
					t.Errorf("%s, %s: %v", name, kind, err)
				}
				if n := queued(t, rdb, kind); n != 0 {
					t.Errorf("%s, %s: %d tasks were enqueued", name, kind, n)
				}
			}
			client.Close()
		}
	})
}

// queued counts the waiting tasks of a kind of made.
func queued(t *testing.T, rdb redis.UniversalClient, kind string) int64 {
	t.Helper()
	typ := map[string]string{"subscribe": tasks.TypeSubscribe, "biz": tasks.TypeBizSubscribe, "envelope": tasks.TypeSubscribe}[kind]
	n, err := rdb.LLen(t.Context(), "asynq:{"+tasks.QueueName(clientApp, typ, tasks.Urgent)+"}:pending").Result()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// wantCut checks that the payload of an enqueued task has a thing that was cut, and says so.
func wantCut(t *testing.T, rdb redis.UniversalClient, receipt tasks.Receipt, thing string) {
	t.Helper()
	info, err := asynq.NewInspectorFromRedisClient(rdb).GetTaskInfo(receipt.Queue, clientApp+":"+receipt.ID)
	if err != nil {
		t.Fatal(err)
	}
	e, err := tasks.DecodePayload(info.Payload)
	if err != nil || !strings.Contains(string(e.Body), `{"value":"`+thing+`"}`) || len(e.Fixed) != 1 || e.Fixed[0] != "data.thing1.value: cut from 30 to 20 characters" {
		t.Errorf("%s: %s, fixed %q (%v)", receipt.ID, e.Body, e.Fixed, err)
	}
}

// TestConstructorsCheckTheRest: of a thing only the length is left to the client, and a plain asynq.Client
// gets the task as it is.
func TestConstructorsCheckTheRest(t *testing.T) {
	long := strings.Repeat("伞", 30)
	for data, fault := range map[string]string{
		`{"thing1":{"value":""}}`:                 "body.data.thing1.value: empty",
		`{"thing1":{"value":" \t"}}`:              "body.data.thing1.value: empty",
		`{"thing1":{"value":"a\nb` + long + `"}}`: "body.data.thing1.value: a line break at character 2",
		`{"thing1":{"value":"` + long + `"},"letter2":{"value":"` + strings.Repeat("a", 33) + `"}}`: "body.data.letter2.value: 33 characters",
		`{"thing":{"value":"` + long + `"},"phrase1":{"value":"VIP"}}`:                              "body.data.phrase1.value: a letter",
	} {
		_, err := tasks.NewTask(templated(tasks.TypeSubscribe, "S1", data))
		var invalid *tasks.ValidationError
		if !errors.As(err, &invalid) || len(invalid.Fields) != 1 || !strings.HasPrefix(err.Error(), fault) && !strings.Contains(err.Error(), fault) {
			t.Errorf("%s: %v, want %s", data, err, fault)
		}
	}
	task := made(t, "plain", long)["subscribe"]
	e, err := tasks.DecodePayload(task.Payload())
	if err != nil || !strings.Contains(string(e.Body), long) || len(e.Fixed) != 0 {
		t.Errorf("%s (%v)", task.Payload(), err)
	}
}
