package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/campaign/tabletest"
	"github.com/wxcourier/wxcourier/internal/console"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
)

const campaignTemplate = `body:
  touser: "{{openid}}"
  template_id: T1
  data:
    thing1: {value: "{{姓名|cut:5}}，您的券到了"}
`

// campaignFiles changes into a folder with the template and a table of n people, with some rows
// after them.
func campaignFiles(t *testing.T, n int, more string) {
	t.Helper()
	t.Chdir(t.TempDir())
	var table strings.Builder
	table.WriteString("openid,姓名\n")
	for i := range n {
		fmt.Fprintf(&table, "%s%d,王小明\n", openid, i)
	}
	for name, text := range map[string]string{"people.csv": table.String() + more, "message.yaml": campaignTemplate} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func sendArgs(more ...string) []string {
	return append([]string{"send", "--app", testApp, "--type", "send:subscribe", "--batch", "spring", "--table", "people.csv", "--template", "message.yaml"}, more...)
}

// TestSendCommand: a table is checked, sent and reported; rows at fault are left out and listed.
func TestSendCommand(t *testing.T) {
	campaignFiles(t, 30, openid+"3,twice\n"+openid+"30,\n")
	env, wx := newEnv(t)
	got := command(t, env, "", sendArgs("--dry-run", "--report", "dry.csv")...)
	if got.status != statusFailed {
		t.Errorf("dry run: status %d", got.status)
	}
	mentions(t, "the dry run", got.stdout, "people.csv: CSV, UTF-8", "32 rows: 30 can be sent, 2 at fault", "column 姓名: empty", "line 33", "the same receiver as in an earlier row (line 5)",
		"The first message, of line 2:", `"touser":"o…"`, "王小明，您的券到了", "No worker is running", "Estimated end: ")
	mentions(t, "its error", got.stderr, "2 rows at fault")
	if n := command(t, env, "", "status", "--app", testApp, "--batch", "spring"); n.status == statusDone {
		t.Errorf("the dry run enqueued: %s", n.stdout)
	}

	_, workerErr, stop := background(t, env, "worker")
	got = command(t, env, "", sendArgs("--yes", "--report", "report.csv")...)
	if got.status != statusFailed {
		t.Errorf("status %d", got.status)
	}
	mentions(t, "the run", got.stdout, "30 rows enqueued", "All 30 tasks ended: 30 accepted")
	mentions(t, "its messages", got.stderr, "report.csv: what became of 32 rows", "wxcourier: 2 rows at fault")
	if all := audited(t, env); len(all) != 1 || all[0].Action != audit.Campaign || all[0].Target != "spring" || all[0].Count != 30 {
		t.Errorf("the audit: %+v", all)
	}
	report, err := os.ReadFile("report.csv")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat("report.csv"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the report is %v", info.Mode())
	}
	mentions(t, "the report", string(report), "\ufeffline,receiver,", "\r\n2,"+openid+"0,s", ",done,accepted,0,ok,", "32,"+openid+"3,,at fault,", "column 姓名: empty")
	if n := strings.Count(string(report), "\r\n"); n != 33 {
		t.Errorf("the report has %d lines", n)
	}

	got = command(t, env, "", sendArgs("--yes")...)
	mentions(t, "a repetition", got.stdout, "30 rows enqueued, 0 left", "0 rows enqueued, 30 by an earlier run", "All 30 tasks ended")
	mentions(t, "its messages", got.stderr, "--report FILE lists the rows at fault")
	if n := wx.Count(sandbox.Filter{Delivered: true}); n != 30 || len(wx.Duplicates()) != 0 {
		t.Errorf("%d messages, %v twice", n, wx.Duplicates())
	}
	if code := stop(); code != statusDone {
		t.Errorf("worker: %s", workerErr)
	}
}

// TestSendChanged: a table that has changed needs a flag, and no person gets a second message.
func TestSendChanged(t *testing.T) {
	campaignFiles(t, 5, "")
	env, wx := newEnv(t)
	first := command(t, env, "", sendArgs("--yes", "--no-wait")...)
	if first.status != statusDone {
		t.Fatalf("%+v", first)
	}
	table, err := os.ReadFile("people.csv")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("people.csv", append(table, openid+"9,李\n"...), 0o600); err != nil { //nolint:gosec // the test's own file
		t.Fatal(err)
	}
	got := command(t, env, "", sendArgs("--yes", "--no-wait")...)
	if got.status != statusUsage {
		t.Errorf("%+v", got)
	}
	mentions(t, "the error", got.stderr, "the table is not the one with which batch spring began", "--changed-table", "1 row that remain")
	_, _, stop := background(t, env, "worker")
	got = command(t, env, "", sendArgs("--yes", "--changed-table", "--json")...)
	if got.status != statusDone {
		t.Errorf("%+v", got)
	}
	var summary struct {
		Rows, Valid, Earlier int
		Sent                 struct{ Enqueued, Earlier int }
		Progress             struct {
			Total, Done int
			Outcomes    map[string]int
		}
	}
	if err := json.Unmarshal([]byte(got.stdout), &summary); err != nil {
		t.Fatalf("%v: %s", err, got.stdout)
	}
	if summary.Rows != 6 || summary.Earlier != 5 || summary.Sent.Enqueued != 1 || summary.Progress.Done != 6 || summary.Progress.Outcomes["accepted"] != 6 {
		t.Errorf("%+v", summary)
	}
	stop()
	if n := wx.Count(sandbox.Filter{Delivered: true}); n != 6 || len(wx.Duplicates()) != 0 {
		t.Errorf("%d messages, %v twice", n, wx.Duplicates())
	}
}

// TestSendStrict: with --strict a row at fault keeps all others back.
func TestSendStrict(t *testing.T) {
	campaignFiles(t, 3, openid+"1,twice\n")
	env, _ := newEnv(t)
	got := command(t, env, "", sendArgs("--yes", "--strict", "--report", "report.csv")...)
	if got.status != statusFailed {
		t.Errorf("%+v", got)
	}
	mentions(t, "the error", got.stderr, "1 row at fault: nothing was sent (--strict)")
	report, err := os.ReadFile("report.csv")
	if err != nil {
		t.Fatal(err)
	}
	mentions(t, "the report", string(report), "2,"+openid+"0,", "not enqueued", "5,"+openid+"1,,at fault,")
}

// TestSendXLSX: a workbook, a rate, a time, and settings in the template.
func TestSendXLSX(t *testing.T) {
	campaignFiles(t, 0, "")
	env, _ := newEnv(t)
	book := tabletest.XLSX(t, [][]string{{"openid", "姓名"}, {openid + "1", "=cmd"}, {openid + "2", "<script>"}})
	if err := os.WriteFile("people.xlsx", book, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("message.yaml", []byte("app: "+testApp+"\ntype: send:subscribe\nbatch: spring\n"+campaignTemplate), 0o600); err != nil {
		t.Fatal(err)
	}
	got := command(t, env, "", "send", "--table", "people.xlsx", "--template", "message.yaml", "--yes", "--no-wait", "--rate", "0.5", "--at", "2035-12-01 08:00")
	if got.status != statusDone {
		t.Errorf("%+v", got)
	}
	mentions(t, "the check", got.stdout, `people.xlsx: xlsx, sheet "名单"`, "2 rows: 2 can be sent", "=cmd，您", "Estimated end: 2035-12-01 08:00 (Asia/Shanghai)", "at 0.5 a second (--rate)", "2 rows enqueued")
	mentions(t, "the status", command(t, env, "", "status", "--app", testApp).stdout, "2")
}

// TestSendMistakes: what cannot be sent is refused with status 2, before anything is enqueued.
func TestSendMistakes(t *testing.T) {
	env, _ := newEnv(t)
	for name, tt := range map[string]struct {
		table, template string
		args            []string
		want            []string
	}{
		"no terminal":         {"", "", nil, []string{"standard input is not a terminal", "--yes", "--dry-run"}},
		"no such column":      {"open_id,姓名\no1,a\n", "", []string{"--yes"}, []string{"no column {{openid}}", "did you mean {{open_id}}?"}},
		"two of a name":       {"openid,姓名,姓名\no1,a,b\n", "", []string{"--yes"}, []string{"people.csv: line 1", "columns B and C"}},
		"a binary file":       {"\x89PNG\r\n", "", []string{"--yes"}, []string{"people.csv: this is an image"}},
		"an old workbook":     {"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "", []string{"--yes"}, []string{"old .xls workbook"}},
		"a template's fault":  {"", "body: {touser: {{openid}}}", []string{"--yes"}, []string{"message.yaml: line 1", "in quotes"}},
		"a time that is none": {"", "", []string{"--yes", "--at", "tomorrow"}, []string{"--at", "tomorrow"}},
		"a time in the past":  {"", "", []string{"--yes", "--at", "2020-01-01 08:00"}, []string{"--at", "has passed"}},
		"a negative rate":     {"", "", []string{"--yes", "--rate=-1"}, []string{"rate:"}},
		"the table as report": {"", "", []string{"--yes", "--report", "people.csv"}, []string{"--report", "is an input"}},
		"a folder as report":  {"", "", []string{"--yes", "--report", "."}, []string{"--report", "is a folder"}},
		"another app":         {"", "app: wx0000000000000000\n" + campaignTemplate, []string{"--yes"}, []string{"app:", "but the template says"}},
	} {
		t.Run(name, func(t *testing.T) {
			campaignFiles(t, 1, "")
			for file, text := range map[string]string{"people.csv": tt.table, "message.yaml": tt.template} {
				if text != "" {
					if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			got := command(t, env, "", sendArgs(tt.args...)...)
			if got.status != statusUsage {
				t.Errorf("status %d: %s", got.status, got.stderr)
			}
			mentions(t, "the error", got.stderr, tt.want...)
		})
	}
	campaignFiles(t, 0, "")
	got := command(t, env, "", sendArgs("--yes")...)
	if got.status != statusFailed {
		t.Errorf("an empty table: %+v", got)
	}
	mentions(t, "the error", got.stderr, "no row can be sent")
	mentions(t, "a file that is not there", command(t, env, "", "send", "--table", filepath.Join("no", "where.csv"), "--template", "message.yaml", "--yes").stderr, "read the table")
}

// Only y and yes are a consent.
func TestConfirm(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, "YES\n": true, " y ": true, "\n": false, "": false, "n\n": false, "yep\n": false} {
		var asked buffer
		p := &program{ctx: t.Context(), stdin: strings.NewReader(answer), stderr: console.New(&asked)}
		if got, err := confirm(p, "Send 12 messages?"); got != want || err != nil {
			t.Errorf("%q: %v %v", answer, got, err)
		}
		mentions(t, "the question", asked.String(), "Send 12 messages? [y/N] ")
	}
}

// TestSendInterrupted: the first signal ends the watching, and says what becomes of the rest.
func TestSendInterrupted(t *testing.T) {
	campaignFiles(t, 3, "")
	env, _ := newEnv(t)
	stdout, stderr, stop := background(t, env, sendArgs("--yes", "--report", "report.csv")...)
	redistest.Until(t, 20*time.Second, "the rows are enqueued", func() bool { return strings.Contains(stdout.String(), "3 rows enqueued") })
	redistest.Until(t, 20*time.Second, "a message about it", func() bool { return strings.Contains(stdout.String(), "No worker is running") })
	if status := stop(); status != statusFailed {
		t.Errorf("status %d", status)
	}
	mentions(t, "the messages", stderr.String(), "interrupted", "repeat the command", "report.csv")
}
