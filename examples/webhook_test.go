package examples_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/subprocess"
)

// TestWebhookReceiver: the receiver takes a signed call once, and no call that is not signed, is
// changed or is old.
func TestWebhookReceiver(t *testing.T) {
	t.Parallel()
	skipWithout(t, []string{"python3", "--version"})
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	const key = "0123456789abcdef0123456789abcdef"
	receiver, err := subprocess.Start(ctx, subprocess.Command{
		Path: "python3", Args: []string{"webhook/receiver.py", "0"},
		Env: append(os.Environ(), "WEBHOOK_SECRET=whsec_"+base64.StdEncoding.EncodeToString([]byte(key)), "PYTHONIOENCODING=utf-8"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(receiver.Kill)
	listening, err := receiver.WaitForOutput(ctx, regexp.MustCompile(`listening on (http://\S+)`))
	if err != nil {
		t.Fatal(err)
	}
	sign := func(id string, at time.Time, body string) string {
		mac := hmac.New(sha256.New, []byte(key))
		_, _ = mac.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "." + body)) // never fails
		return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	const results = `{"type":"results","timestamp":"2026-12-01T00:00:00.000Z","data":{"app":"` + app + `","results":[{"id":"订单-1","app":"` + app + `","outcome":"accepted"}]}}`
	const gap = `{"type":"gap","timestamp":"2026-12-01T00:00:00.000Z","data":{"app":"` + app + `","to":"2026-12-01T00:00:00.000Z"}}`
	now := time.Now()
	for _, call := range []struct {
		name, id, body, signature string
		at                        time.Time
		want                      int
	}{
		{"signed", "msg_1", results, sign("msg_1", now, results), now, http.StatusNoContent},
		{"repeated", "msg_1", results, sign("msg_1", now, results), now, http.StatusNoContent},
		{"two signatures", "msg_2", gap, "v1,AAAA " + sign("msg_2", now, gap), now, http.StatusNoContent},
		{"changed", "msg_3", results + " ", sign("msg_3", now, results), now, http.StatusUnauthorized},
		{"of another id", "msg_4", results, sign("msg_3", now, results), now, http.StatusUnauthorized},
		{"old", "msg_5", results, sign("msg_5", now.Add(-time.Hour), results), now.Add(-time.Hour), http.StatusUnauthorized},
		{"not signed", "msg_6", results, "", now, http.StatusUnauthorized},
	} {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, listening[1], strings.NewReader(call.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Webhook-Id", call.id)
		r.Header.Set("Webhook-Timestamp", strconv.FormatInt(call.at.Unix(), 10))
		r.Header.Set("Webhook-Signature", call.signature)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != call.want {
			t.Errorf("%s: %s", call.name, answer.Status)
		}
	}
	_, handled, _ := strings.Cut(receiver.Output(), "\n")
	if want := app + " 订单-1 accepted\ngap: results of " + app + " until 2026-12-01T00:00:00.000Z were removed before they were sent"; handled != want {
		t.Errorf("handled %q, want %q", handled, want)
	}
}
