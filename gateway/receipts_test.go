package gateway_test

import (
	"crypto/sha1" //nolint:gosec // WeChat signs with it
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

const callbackToken = "receipts-token"

// TestReceiptMetrics: a gateway counts the receipts that were joined to a message, and those that were
// not, with the reason; it says of which apps receipts are expected, as they are configured now.
func TestReceiptMetrics(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFixture(t, rdb)
		f.key(apikey.Key{ID: "any", Scopes: []apikey.Scope{apikey.Read}})
		f.cfg.Gateway.CallbackListen = "127.0.0.1:0"
		f.cfg.Apps[0].Callback = configs.Callback{Token: callbackToken}
		f.serve()
		pushes, err := f.parts.StartCallbacks(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer pushes.Close()
		for name, want := range map[string]string{
			`wxcourier_receipts_expected{app="` + testApp + `"}`:                                         "1",
			`wxcourier_receipts_expected{app="` + otherApp + `"}`:                                        "",
			`wxcourier_receipts_dropped_total{app="` + testApp + `",reason="expired"}`:                   "0",
			`wxcourier_receipts_dropped_total{app="` + testApp + `",reason="repeated"}`:                  "0",
			`wxcourier_receipts_dropped_total{app="` + testApp + `",reason="unmatched"}`:                 "0",
			`wxcourier_receipts_dropped_total{app="` + otherApp + `",reason="unmatched"}`:                "",
			`wxcourier_receipts_total{app="` + testApp + `",receipt="delivered",type="send:subscribe"}`:  "0",
			`wxcourier_receipts_total{app="` + testApp + `",receipt="delivered",type="scheme:generate"}`: "",
			`wxcourier_receipts_total{app="` + otherApp + `",receipt="delivered",type="send:subscribe"}`: "",
		} {
			if got := f.metric(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}

		f.accept("joined", "9001")
		f.accept("expired", "9002")
		f.accept("repeated", "9003")
		_, err = rdb.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			p.Del(t.Context(), ledger.TaskKey(testApp, "expired"))
			p.HSet(t.Context(), ledger.TaskKey(testApp, "repeated"), "receipt", "blocked 1800000000 failed:user block")
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, msgid := range []string{"9001", "9002", "9003"} {
			f.push(pushes.URL(), msgid)
		}
		for name, want := range map[string]string{
			`wxcourier_receipts_total{app="` + testApp + `",receipt="delivered",type="send:subscribe"}`: "1",
			`wxcourier_receipts_dropped_total{app="` + testApp + `",reason="repeated"}`:                 "1",
			`wxcourier_receipts_dropped_total{app="` + testApp + `",reason="expired"}`:                  "1",
			`wxcourier_receipts_dropped_total{app="` + testApp + `",reason="unmatched"}`:                "0",
		} {
			redistest.Until(t, 20*time.Second, name+" is "+want, func() bool { return f.metric(name) == want })
		}

		next := f.cfg
		next.Apps = slices.Clone(f.cfg.Apps)
		next.Apps[0].Callback, next.Apps[1].Callback = configs.Callback{}, configs.Callback{Token: callbackToken}
		if err := f.parts.Apply(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		f.gateway.AppsChanged()
		for name, want := range map[string]string{
			`wxcourier_receipts_expected{app="` + testApp + `"}`:                        "",
			`wxcourier_receipts_expected{app="` + otherApp + `"}`:                       "1",
			`wxcourier_receipts_dropped_total{app="` + otherApp + `",reason="expired"}`: "0",
		} {
			if got := f.metric(name); got != want {
				t.Errorf("with another configuration %s is %q, want %q", name, got, want)
			}
		}
	})
}

// metric returns the value of a series, "" if there is none.
func (f *fixture) metric(series string) string {
	f.Helper()
	for line := range strings.Lines(f.do(http.MethodGet, "/metrics", "", nil).body) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// accept records that WeChat accepted a message, whose receipt is awaited.
func (f *fixture) accept(id, msgid string) {
	f.Helper()
	r := tasks.Result{
		ID: id, App: testApp, Type: tasks.TypeSubscribe, State: tasks.StateDone, Outcome: tasks.OutcomeAccepted, MsgID: msgid, FinishedAt: time.Now().UTC(),
	}
	request := ledger.SettleRequest{Outcome: string(r.Outcome), Result: r.Encode(), Queue: testApp + ":" + r.Type}
	request.AwaitReceipt(msgid, openid)
	if _, err := ledger.New(f.parts.Redis, ledger.Policy{Retention: time.Hour}).Settle(f.Context(), ledger.Ref{App: testApp, ID: id}, request); err != nil {
		f.Fatal(err)
	}
}

// push sends a receipt, as WeChat does in plain mode.
func (f *fixture) push(receiver, msgid string) {
	f.Helper()
	at := strconv.FormatInt(time.Now().Unix(), 10)
	signed := []string{callbackToken, at, "nonce"}
	slices.Sort(signed)
	query := url.Values{
		"timestamp": {at}, "nonce": {"nonce"}, "signature": {fmt.Sprintf("%x", sha1.Sum([]byte(strings.Join(signed, ""))))}, //nolint:gosec // likewise
	}
	body := fmt.Sprintf(`{"ToUserName":"gh_1","FromUserName":%q,"CreateTime":%s,"MsgType":"event","Event":"subscribe_msg_sent_event",`+
		`"List":{"TemplateId":"T1","MsgID":%q,"ErrorCode":"0","ErrorStatus":"success"}}`, openid, at, msgid)
	r, err := http.NewRequestWithContext(f.Context(), http.MethodPost, receiver+"/callback/"+testApp+"?"+query.Encode(), strings.NewReader(body))
	if err != nil {
		f.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if a := f.send(r); a.status != http.StatusOK {
		f.Errorf("the push of %s: %d %s", msgid, a.status, a.body)
	}
}
