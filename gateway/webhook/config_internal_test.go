package webhook

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// All mistakes are reported at once, with their keys, and without secrets.
func TestValidate(t *testing.T) {
	good := Endpoint{Name: "crm", URL: "https://crm.example.com/x", Secret: secret}
	change := func(f func(e *Endpoint)) Endpoint {
		e := good
		f(&e)
		return e
	}
	if err := Validate([]Endpoint{
		good, change(func(e *Endpoint) { e.Name, e.URL, e.AllowPrivate = "b", "http://127.0.0.1:9000", []string{"127.0.0.1"} }),
		change(func(e *Endpoint) {
			e.Name, e.Secret = "c", wechat.Secret("whsec_"+base64.StdEncoding.EncodeToString([]byte(secret)))
			e.Apps, e.Types, e.Outcomes = []string{app}, []string{"send:*", tasks.TypeTextCheck}, tasks.Outcomes()
		}),
	}); err != nil {
		t.Error(err)
	}
	for _, tt := range []struct {
		change func(e *Endpoint)
		want   string
	}{
		{func(e *Endpoint) { e.Name = "" }, "[1].name: required"},
		{func(e *Endpoint) { e.Name = "CRM" }, "[1].name: \"CRM\" is not a name"},
		{func(e *Endpoint) { e.Name = "a:b" }, "[1].name: \"a:b\" is not a name"},
		{func(e *Endpoint) { e.Name = strings.Repeat("a", 41) }, "[1].name: "},
		{func(e *Endpoint) { e.Name = "crm" }, "[1].name: crm is configured twice; the first is webhooks[0]"},
		{func(e *Endpoint) { e.URL = "" }, "[1].url: required"},
		{func(e *Endpoint) { e.URL = "crm.example.com" }, "[1].url: is not an address"},
		{func(e *Endpoint) { e.URL = "ftp://crm.example.com" }, "[1].url: must begin with https://"},
		{func(e *Endpoint) { e.URL = "http://crm.example.com" }, "[1].url: must begin with https://; http is for addresses in allow_private alone"},
		{func(e *Endpoint) { e.URL = "https://a:hidden@crm.example.com" }, "[1].url: holds a user name or a password"},
		{func(e *Endpoint) { e.URL = "https://crm.example.com/#x" }, "[1].url: holds a fragment"},
		{func(e *Endpoint) { e.URL = "https://10.1.2.3/" }, "[1].url: the address is not public: 10.1.2.3; add it to allow_private"},
		{func(e *Endpoint) { e.URL = "https://[::1]/" }, "[1].url: the address is not public: ::1"},
		{func(e *Endpoint) { e.URL = "http://10.1.2.3/"; e.AllowPrivate = []string{"10.1.3.0/24"} }, "[1].url: the address is not public"},
		{func(e *Endpoint) { e.Secret = "" }, "[1].secret: required"},
		{func(e *Endpoint) { e.Secret = "hidden" }, "[1].secret: has 6 bytes, at least 24 are required"},
		{func(e *Endpoint) { e.Secret = "whsec_hidden" }, "[1].secret: is not base64 after whsec_"},
		{func(e *Endpoint) { e.Secret = "whsec_aGlkZGVu" }, "[1].secret: has 6 bytes"},
		{func(e *Endpoint) { e.Apps = []string{"wx12"} }, `[1].apps[0]: "wx12" is not an app id`},
		{func(e *Endpoint) { e.Types = []string{"send:subscrib"} }, `[1].types[0]: there is no task type "send:subscrib"; did you mean send:subscribe?`},
		{func(e *Endpoint) { e.Outcomes = []tasks.Outcome{"good"} }, `[1].outcomes[0]: "good" is not an outcome; they are accepted`},
		{func(e *Endpoint) { e.Receipts = []tasks.DeliveryReceipt{"accepted"} }, `[1].receipts[0]: "accepted" is not a receipt; they are delivered, blocked, failed`},
		{func(e *Endpoint) { e.AllowPrivate = []string{"localhost"} }, `[1].allow_private[0]: "localhost" is neither an address nor a network`},
	} {
		e := change(func(e *Endpoint) { e.Name = "other"; tt.change(e) })
		err := Validate([]Endpoint{good, e})
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hidden") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want %s", err, tt.want)
		}
	}
	if err := Validate([]Endpoint{{}, {}}); err == nil || strings.Count(err.Error(), "required") != 6 {
		t.Errorf("%v", err)
	}
	if text := fmt.Sprintf("%v %+v %#v", good, good, good); strings.Contains(text, secret) {
		t.Errorf("the secret is printed: %s", text)
	}
}
