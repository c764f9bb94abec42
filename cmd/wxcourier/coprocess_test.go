package main_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/e2e"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// coprocess is `wxcourier enqueue --json -`, as a program in another language uses it.
type coprocess struct {
	t       *testing.T
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	answers chan string
}

func startCoprocess(t *testing.T, redisAddr string) *coprocess {
	t.Helper()
	path, err := e2e.Binary()
	must(t, err)
	cmd := exec.CommandContext(t.Context(), path, "enqueue", "--json", "-") //nolint:gosec // our own program
	cmd.Env = append(os.Environ(), "WXCOURIER_REDIS_ADDRS="+redisAddr, "WXCOURIER_APPS_WX0123456789ABCDEF_SECRET=s")
	c := &coprocess{t: t, cmd: cmd, answers: make(chan string, 100_000)}
	c.stdin, err = cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	go func() {
		defer close(c.answers)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			c.answers <- lines.Text()
		}
	}()
	return c
}

func (c *coprocess) write(text string) {
	c.t.Helper()
	_, err := io.WriteString(c.stdin, text)
	must(c.t, err)
}

// answer is a line of standard output.
type answer struct {
	Line                           int
	App, ID, Queue, Error          string
	Already, Done, Differs, Repeat bool
	Faults                         []struct{ Path, Problem string }
}

// read returns the next answer, which must come while the input is open.
func (c *coprocess) read(within time.Duration) answer {
	c.t.Helper()
	select {
	case text, ok := <-c.answers:
		if !ok {
			c.t.Fatal("standard output has ended")
		}
		var a answer
		if err := json.Unmarshal([]byte(text), &a); err != nil {
			c.t.Fatalf("%v: %s", err, text)
		}
		return a
	case <-time.After(within):
		c.t.Fatalf("no answer within %v", within)
	}
	return answer{}
}

func coprocessTask(id, text string) string {
	return fmt.Sprintf(`{"type":"send:custom","app":"wx0123456789abcdef","id":%q,"body":{"touser":"oPerson","msgtype":"text","text":{"content":%q}}}`+"\n", id, text)
}

// TestEnqueueAsCoprocess: a program writes a line to enqueue --json -, reads the answer, and then
// writes the next. Bad lines, known ids and lines that Redis does not take get an answer too.
func TestEnqueueAsCoprocess(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs the built program")
	}
	t.Parallel()
	server := redistest.Start(t)
	c := startCoprocess(t, server.Addr())
	const soon = 10 * time.Second
	queue := tasks.QueueName("wx0123456789abcdef", tasks.TypeCustom, tasks.Urgent)

	c.write(coprocessTask("a", "first"))
	if a := c.read(soon); a.Line != 1 || a.App != "wx0123456789abcdef" || a.ID != "a" || a.Queue != queue || a.Already || a.Error != "" {
		t.Errorf("a new task: %+v", a)
	}
	c.write("not JSON\n")
	if a := c.read(soon); a.Line != 2 || a.Error == "" || len(a.Faults) != 1 || a.Repeat {
		t.Errorf("a line that is not JSON: %+v", a)
	}
	c.write("\n" + strings.Replace(coprocessTask("b", "x"), "oPerson", "", 1))
	if a := c.read(soon); a.Line != 4 || a.ID != "b" || len(a.Faults) != 1 || a.Faults[0].Path != "body.touser" || a.Faults[0].Problem == "" || a.Queue != "" {
		t.Errorf("a task without a receiver, after a blank line: %+v", a)
	}
	c.write(coprocessTask("a", "second"))
	if a := c.read(soon); a.Line != 5 || !a.Already || !a.Differs {
		t.Errorf("a known id with another body: %+v", a)
	}
	c.write(coprocessTask("c:1", "x"))
	if a := c.read(soon); a.Line != 6 || a.ID != "" || a.Faults[0].Path != "id" {
		t.Errorf("an invalid id: %+v", a)
	}

	// Many lines at once, of which every tenth is bad and every seventh repeats an id.
	const n = 3000
	var text strings.Builder
	for i := range n {
		switch {
		case i%10 == 3:
			text.WriteString("{}\n")
		case i%7 == 6:
			text.WriteString(coprocessTask(fmt.Sprint("many-", i-1), "again"))
		default:
			text.WriteString(coprocessTask(fmt.Sprint("many-", i), "once"))
		}
	}
	go c.write(text.String())
	for i := range n {
		a := c.read(soon)
		bad, repeated := i%10 == 3, i%10 != 3 && i%7 == 6 && (i-1)%10 != 3
		if a.Line != 7+i || (a.Error != "") != bad || a.Already != repeated || a.Differs != repeated {
			t.Fatalf("line %d of many: %+v", i, a)
		}
	}

	// One line at a time. Each answer needs some round trips to Redis and no timer.
	begun := time.Now()
	for i := range 100 {
		c.write(coprocessTask(fmt.Sprint("single-", i), "x"))
		c.read(soon)
	}
	t.Logf("%v for a line and its answer", time.Since(begun)/100)

	server.Kill()
	c.write(coprocessTask("last", "x"))
	if a := c.read(time.Minute); a.Line != 7+n+100 || a.ID != "last" || !a.Repeat || a.Error == "" {
		t.Errorf("without Redis: %+v", a)
	}
	if err := c.cmd.Wait(); err == nil {
		t.Error("the exit status is 0")
	}
}
