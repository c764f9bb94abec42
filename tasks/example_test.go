package tasks_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/tasks"
)

func ExampleNewSubscribeTask() {
	task, err := tasks.NewSubscribeTask("wx0123456789abcdef", tasks.SubscribePayload{
		ToUser:     "OPENID",
		TemplateID: "TEMPLATE_ID",
		Page:       "pages/index/index",
		Data:       tasks.Data{"thing1": {Value: "订单已发货"}},
	}, tasks.ID("order-42-shipped"), tasks.InBatch("spring-sale"))
	if err != nil {
		fmt.Println(err)
		return
	}
	// client.Enqueue(task), with any asynq.Client
	fmt.Println(task.Type())
	fmt.Println(string(task.Payload()))
	// Output:
	// send:subscribe
	// {"type":"send:subscribe","app":"wx0123456789abcdef","id":"order-42-shipped","body":{"touser":"OPENID","template_id":"TEMPLATE_ID","page":"pages/index/index","data":{"thing1":{"value":"订单已发货"}}},"priority":"urgent","batch":"spring-sale"}
}

func ExampleNewSubscribeTask_refused() {
	_, err := tasks.NewSubscribeTask("wx0123456789abcdef", tasks.SubscribePayload{
		TemplateID:       "TEMPLATE_ID",
		MiniProgramState: "release",
		Data:             tasks.Data{"phrase1": {Value: "正在配送途中"}},
	})
	var invalid *tasks.ValidationError
	if errors.As(err, &invalid) {
		for _, f := range invalid.Fields {
			fmt.Println(f)
		}
	}
	// Output:
	// body.touser: empty: the receiver's openid
	// body.miniprogram_state: "release" is none of developer, trial, formal
	// body.data.phrase1.value: 6 characters; a phrase keyword takes at most 5 Chinese characters and nothing else
}

func ExampleParseEnvelope() {
	line := []byte(`{"type":"scheme:generate","app":"wx0123456789abcdef","id":"link-7",
		"body":{"jump_wxa":{"path":"pages/index/index","query":"id=123"},"expire_type":1,"expire_interval":30}}`)
	e, err := tasks.ParseEnvelope(line)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := e.Prepare(time.Now()); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(e.Queue(), e.TaskID())

	_, err = tasks.ParseEnvelope([]byte(`{"type":"scheme:generate","appid":"wx0123456789abcdef","body":{}}`))
	fmt.Println(err)
	// Output:
	// wx0123456789abcdef:scheme:generate wx0123456789abcdef:link-7
	// appid: unknown field; did you mean "app"?
}

func ExampleNewConsumer() {
	server, err := miniredis.Run() // in place of your Redis
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer func() { _ = rdb.Close() }()
	// A worker writes this entry when the task ends.
	_, _ = server.XAdd("wxcourier:{wx0123456789abcdef}:results", "*", []string{
		"result", `{"id":"order-42-shipped","app":"wx0123456789abcdef","outcome":"refused","errcode":43101}`,
	})

	consumer, err := tasks.NewConsumer(rdb, tasks.ConsumerConfig{
		Group: "billing",
		Apps:  []string{"wx0123456789abcdef"},
		OnDead: func(d tasks.DeadResult) error {
			return fmt.Errorf("store it for a person to look at: %s %s", d.App, d.Result.ID)
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background()) // of the process
	defer cancel()
	err = consumer.Run(ctx, func(r tasks.Result) error {
		fmt.Println(r.ID, r.Outcome, r.ErrCode)
		cancel() // only here, to end the example
		return nil
	})
	fmt.Println(err)
	// Output:
	// order-42-shipped refused 43101
	// <nil>
}
