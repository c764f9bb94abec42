package wxcouriertest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
	"github.com/wxcourier/wxcourier/wxcouriertest"
)

// exampleT stands for the *testing.T of a test.
type exampleT struct {
	testing.TB
	cleanups []func()
}

func (t *exampleT) Helper()                  {}
func (t *exampleT) Failed() bool             { return false }
func (t *exampleT) Context() context.Context { return context.Background() }
func (t *exampleT) Cleanup(f func())         { t.cleanups = append(t.cleanups, f) }

func (t *exampleT) end() {
	for _, f := range t.cleanups {
		f()
	}
}

// notifier is a service under test. It sends at most one message an order.
type notifier struct {
	tasks *tasks.Client
	now   func() time.Time
}

func (n notifier) shipped(order, openid string) error {
	task, err := tasks.NewSubscribeTask(wxcouriertest.App, tasks.SubscribePayload{
		ToUser: openid, TemplateID: "T1", Data: tasks.Data{"thing1": {Value: "订单已发货"}},
	}, tasks.ID("order-"+order), tasks.NotAfter(n.now().Add(12*time.Hour)))
	if err != nil {
		return err
	}
	_, err = n.tasks.Enqueue(context.Background(), task)
	return err
}

// A test lets the service send, waits for the result, and checks what arrived.
func ExampleStart() {
	t := &exampleT{} // the *testing.T of the test
	defer t.end()

	kit := wxcouriertest.Start(t, wxcouriertest.Options{})
	service := notifier{kit.Client(), kit.Now}
	for _, openid := range []string{"oBuyer", "oBuyer"} { // the second is the same order
		if err := service.shipped("42", openid); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(kit.Result("order-42").Outcome)
	fmt.Println("delivered:", kit.WeChat.Delivered(wxcouriertest.App, "oBuyer", "T1"))
	// Output:
	// accepted
	// delivered: 1
}

// A rule makes WeChat refuse calls.
func ExampleKit_Result() {
	t := &exampleT{} // the *testing.T of the test
	defer t.end()

	kit := wxcouriertest.Start(t, wxcouriertest.Options{})
	service := notifier{kit.Client(), kit.Now}
	if _, err := kit.WeChat.AddFault(sandbox.Fault{ErrCode: 43004, OpenID: "oBuyer"}); err != nil {
		fmt.Println(err)
	}
	if err := service.shipped("42", "oBuyer"); err != nil {
		fmt.Println(err)
	}
	result := kit.Result("order-42")
	fmt.Println(result.Outcome, result.ErrCode)
	// Output: refused 43004
}

// The clock moves over the night, in which the app sends nothing.
func ExampleKit_AdvanceTo() {
	t := &exampleT{} // the *testing.T of the test
	defer t.end()

	kit := wxcouriertest.Start(t, wxcouriertest.Options{
		Apps: []worker.App{{ID: wxcouriertest.App, Hours: worker.Hours{"send:*": "08:00-22:00"}}},
	})
	service := notifier{kit.Client(), kit.Now}
	kit.AdvanceTo("23:00")
	if err := service.shipped("42", "oBuyer"); err != nil {
		fmt.Println(err)
	}
	kit.AdvanceTo("07:00")
	fmt.Println("at 07:00:", kit.WeChat.Delivered(wxcouriertest.App, "oBuyer", ""))
	kit.AdvanceTo("08:00")
	fmt.Println("at 08:00:", kit.Result("order-42").Outcome)
	// Output:
	// at 07:00: 0
	// at 08:00: accepted
}

// WeChat's receipt tells what became of a message. The openid decides what it says.
func ExampleKit_Receipt() {
	t := &exampleT{} // the *testing.T of the test
	defer t.end()

	kit := wxcouriertest.Start(t, wxcouriertest.Options{
		Apps: []worker.App{{ID: wxcouriertest.App, Receipts: true}},
	})
	service := notifier{kit.Client(), kit.Now}
	for order, openid := range map[string]string{"42": "oBuyer", "43": "userblock-oBuyer"} {
		if err := service.shipped(order, openid); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(kit.Receipt("order-42").Receipt)
	blocked := kit.Receipt("order-43")
	fmt.Println(blocked.Outcome, blocked.Receipt)
	// Output:
	// delivered
	// accepted blocked
}

// A person accepts one message of a template, in the mini program. WeChat pushes that, and the service
// may ask whether it can write to them.
func ExampleKit_WaitPushes() {
	t := &exampleT{} // the *testing.T of the test
	defer t.end()

	kit := wxcouriertest.Start(t, wxcouriertest.Options{
		Apps: []worker.App{{ID: wxcouriertest.App, Receipts: true, Consent: worker.ConsentEnforce}},
		Templates: map[string][]sandbox.Template{wxcouriertest.App: {
			{ID: "T1", Title: "发货通知", Content: "状态:{{thing1.DATA}}\n", Type: sandbox.OneTime},
		}},
	})
	ask := func() {
		consent, err := kit.Client().Consent(context.Background(), wxcouriertest.App, "oBuyer", "T1")
		fmt.Println(consent.MaySend, consent.Why, err)
	}
	if err := kit.WeChat.Popup(wxcouriertest.App, "oBuyer", sandbox.Choice{Template: "T1", Status: sandbox.Accept}); err != nil {
		fmt.Println(err)
	}
	kit.WaitPushes()
	ask()
	if err := (notifier{kit.Client(), kit.Now}).shipped("42", "oBuyer"); err != nil {
		fmt.Println(err)
	}
	kit.Result("order-42")
	ask()
	// Output:
	// yes credits <nil>
	// no no_credit <nil>
}
