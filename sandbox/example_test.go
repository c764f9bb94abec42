package sandbox_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/wxcourier/wxcourier/sandbox"
)

// notifier is a minimal business service under test: it sends a subscribe message and returns the errcode.
type notifier struct{ baseURL, app, secret string }

func (n notifier) call(path, body string) (answer struct {
	AccessToken string `json:"access_token"`
	ErrCode     int    `json:"errcode"`
},
) {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, n.baseURL+path, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		panic(err)
	}
	defer func() { _ = res.Body.Close() }()
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		panic(err)
	}
	return answer
}

func (n notifier) shipped(openid string) int {
	token := n.call("/cgi-bin/stable_token", fmt.Sprintf(`{"grant_type":"client_credential","appid":%q,"secret":%q}`, n.app, n.secret)).AccessToken
	body := fmt.Sprintf(`{"touser":%q,"template_id":"T1","data":{"thing1":{"value":"订单已发货"}}}`, openid)
	return n.call("/cgi-bin/message/subscribe/send?access_token="+token, body).ErrCode
}

// A test points the service at the sandbox, lets it send, and checks what arrived.
func Example() {
	wx := sandbox.New(sandbox.Options{
		Apps:    map[string]string{"wx0123456789abcdef": "app-secret"},
		Credits: 1, // each person accepted one message
	})
	url, stop := wx.Start()
	defer stop()

	service := notifier{baseURL: url, app: "wx0123456789abcdef", secret: "app-secret"}
	fmt.Println("first message:", service.shipped("oAbc"))
	fmt.Println("second message:", service.shipped("oAbc"))
	fmt.Println("to a busy WeChat:", service.shipped("busy-oDef"), "then", service.shipped("busy-oDef"))

	fmt.Println("delivered to oAbc:", wx.Delivered("wx0123456789abcdef", "oAbc", "T1"))
	fmt.Println("refused by the person:", wx.Count(sandbox.Filter{ErrCodes: []int{43101}}))
	fmt.Println("tokens issued:", wx.TokensIssued("wx0123456789abcdef", sandbox.Stable))
	// Output:
	// first message: 0
	// second message: 43101
	// to a busy WeChat: -1 then 0
	// delivered to oAbc: 1
	// refused by the person: 1
	// tokens issued: 1
}

// A rule injects a fault into a share of all calls.
func ExampleServer_AddFault() {
	wx := sandbox.New(sandbox.Options{Seed: 1})
	if _, err := wx.AddFault(sandbox.Fault{Name: "busy", Rate: 0.02}); err != nil {
		fmt.Println(err)
	}
	if _, err := wx.AddFault(sandbox.Fault{ErrCode: 43107, Template: "T-banned"}); err != nil {
		fmt.Println(err)
	}
	_, err := wx.AddFault(sandbox.Fault{Name: "sleepy"})
	fmt.Println(len(wx.Faults()), "rules;", err != nil)
	// Output: 2 rules; true
}
