package wxcouriertest

import (
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/wxcourier/wxcourier/sandbox"
)

// The report of a failed test holds this many of the latest calls, results and lines.
const (
	reportedCalls   = 100
	reportedResults = 100
	reportedLines   = 200

	reportedBody = 500 // bytes of a call's body
)

// report describes what happened, for a test that failed.
func (k *Kit) report() string {
	var b strings.Builder
	calls, results, lines := k.WeChat.Calls(sandbox.Filter{}), k.Results(), k.log.lines()
	fmt.Fprintf(&b, "wxcouriertest: calls to WeChat: %d\n", len(calls))
	for _, c := range calls[max(0, len(calls)-reportedCalls):] {
		fmt.Fprintf(&b, "  %s %s %s", c.At.Format("15:04:05.000"), c.App, c.Path)
		for _, part := range []struct{ name, value string }{
			{"openid", c.OpenID}, {"template", c.Template}, {"fault", c.Fault}, {"body", reportedText(c)},
		} {
			if part.value != "" {
				fmt.Fprintf(&b, " %s=%s", part.name, part.value)
			}
		}
		switch {
		case c.ErrCode == sandbox.Unanswered:
			b.WriteString(" → no answer\n")
		case !c.Answered:
			fmt.Fprintf(&b, " → %d, without a complete answer\n", c.ErrCode)
		default:
			fmt.Fprintf(&b, " → %d %s\n", c.ErrCode, c.ErrMsg)
		}
	}
	if k.callbacks != nil {
		b.WriteString(k.reportPushes())
	}
	fmt.Fprintf(&b, "results: %d\n", len(results))
	for _, r := range results[max(0, len(results)-reportedResults):] {
		fmt.Fprintf(&b, "  %s\n", r.Encode())
	}
	fmt.Fprintf(&b, "log of the worker: %d lines\n", len(lines))
	for _, line := range lines[max(0, len(lines)-reportedLines):] {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	return b.String()
}

// reportPushes describes what WeChat has pushed.
func (k *Kit) reportPushes() string {
	var b strings.Builder
	all := k.WeChat.Pushes(sandbox.PushFilter{})
	fmt.Fprintf(&b, "pushes of WeChat: %d\n", len(all))
	for _, p := range all[max(0, len(all)-reportedCalls):] {
		fmt.Fprintf(&b, "  %s %s %s %s", p.At.Format("15:04:05.000"), p.App, p.Event, p.Status)
		for _, part := range []struct{ name, value string }{{"openid", p.OpenID}, {"template", p.Template}, {"msgid", p.MsgID}, {"receipt", p.Receipt}, {"error", p.Error}} {
			if part.value != "" {
				fmt.Fprintf(&b, " %s=%s", part.name, part.value)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// reportedText returns the beginning of a call's body, or its size if it is no text.
func reportedText(c sandbox.Call) string {
	switch {
	case len(c.Body) == 0:
		return ""
	case !utf8.Valid(c.Body), c.Size > len(c.Body):
		return fmt.Sprintf("(%d bytes)", c.Size)
	case len(c.Body) > reportedBody:
		return strings.ToValidUTF8(string(c.Body[:reportedBody]), "") + "…"
	}
	return string(c.Body)
}

// logBuffer collects the log of the worker.
type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBuffer) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := strings.TrimSuffix(l.text.String(), "\n")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}
