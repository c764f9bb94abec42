package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ingest"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/taskfile"
	"github.com/wxcourier/wxcourier/tasks"
)

// answering returns options whose answers are sent to the channel.
func answering(rdb redis.UniversalClient, answers chan<- ingest.Answer) ingest.Options {
	return ingest.Options{
		Client: tasks.NewClient(rdb), Admit: func(context.Context, string) error { return nil },
		OnBadLine: func(int, error) {}, OnEnqueued: func(int, tasks.Receipt) {}, OnDuplicate: func(int, tasks.Envelope) {},
		OnAnswers: func(all []ingest.Answer) {
			for _, a := range all {
				answers <- a
			}
		},
	}
}

func unbounded(r io.Reader) *taskfile.Source {
	source := taskfile.New(r)
	source.Unbounded = true
	return source
}

func answerLine(id, content string) string {
	return fmt.Sprintf(`{"type":"seccheck:text","app":"%s","id":"%s","body":{"content":"%s","version":2,"scene":1,"openid":"o"}}`+"\n", app, id, content)
}

// TestAnswersComeInOrder: each line has one answer, in the order of the lines, although several
// chunks are submitted at the same time. Of lines with one id the first is enqueued.
func TestAnswersComeInOrder(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		const n = 5000
		var text strings.Builder
		bad, repeated := make(map[int]bool), make(map[int]bool)
		for i := range n {
			switch {
			case i%11 == 10:
				text.WriteString("bad\n")
				bad[i+1] = true
			case i > 600 && i%13 == 12: // an id of another chunk, or of the same
				text.WriteString(answerLine("hot", fmt.Sprint(i)))
				repeated[i+1] = i > 610
			default:
				text.WriteString(answerLine(fmt.Sprint("t", i), "x"))
			}
		}
		answers := make(chan ingest.Answer, n)
		counts, err := ingest.Enqueue(t.Context(), unbounded(strings.NewReader(text.String())), answering(rdb, answers))
		if err != nil || counts.Bad != len(bad) || counts.Lines != n {
			t.Fatalf("%+v, %v", counts, err)
		}
		close(answers)
		line, first := 0, true
		for a := range answers {
			line++
			hot := a.ID == "hot"
			if a.Line != line || (a.Err != nil) != bad[line] || a.Receipt.Differs != (hot && !first) || a.Receipt.Already != (hot && !first) {
				t.Fatalf("answer %d: %+v", line, a)
			}
			if hot {
				first = false
			}
		}
		if line != n || first {
			t.Errorf("%d answers of %d lines", line, n)
		}
	})
}

// TestAnswerDoesNotWaitForMoreLines: each answer comes before the next line is written, at once
// and not after the time for which a chunk may wait for others.
func TestAnswerDoesNotWaitForMoreLines(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		r, w := io.Pipe()
		answers, ended := make(chan ingest.Answer), make(chan error, 1)
		go func() {
			_, err := ingest.Enqueue(t.Context(), unbounded(r), answering(rdb, answers))
			ended <- err
		}()
		const n = 50
		begun := time.Now()
		for i := range n {
			text := answerLine(fmt.Sprint("t", i), "x")
			if i%5 == 4 {
				text = "bad\n"
			}
			go func() { _, _ = io.WriteString(w, text) }()
			select {
			case a := <-answers:
				if a.Line != i+1 || (a.Err != nil) != (i%5 == 4) {
					t.Errorf("line %d: %+v", i+1, a)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("no answer to line %d", i+1)
			}
		}
		if took := time.Since(begun); took > n*15*time.Millisecond {
			t.Errorf("%v for %d lines: the answers waited for further lines", took, n)
		}
		_ = w.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestUnsentLinesAreAnswered: when Redis fails or the run is interrupted, each line that was read
// has an answer, which says that it may be repeated.
func TestUnsentLinesAreAnswered(t *testing.T) {
	for _, interrupted := range []bool{false, true} {
		s := newFixture(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		answers := make(chan ingest.Answer, 10_000)
		o := answering(s.rdb, answers)
		r, w := io.Pipe()
		ended := make(chan error, 1)
		go func() {
			_, err := ingest.Enqueue(ctx, unbounded(r), o)
			ended <- err
		}()
		_, _ = io.WriteString(w, answerLine("first", "x"))
		if a := <-answers; a.Err != nil {
			t.Fatal(a.Err)
		}
		s.mini.SetError("LOADING")
		go func() { _, _ = io.WriteString(w, answerLine("second", "x")+"bad\n"+answerLine("third", "x")) }()
		if interrupted {
			time.AfterFunc(100*time.Millisecond, func() { cancel(); _ = w.Close() })
		}
		for line := 2; line <= 4; line++ {
			select {
			case a := <-answers:
				if a.Line != line || errors.Is(a.Err, ingest.ErrNotEnqueued) != (line != 3) {
					t.Errorf("interrupted %v: %+v", interrupted, a)
				}
			case <-time.After(time.Minute):
				t.Fatalf("interrupted %v: no answer to line %d", interrupted, line)
			}
		}
		_ = w.Close()
		if err := <-ended; !errors.Is(err, ingest.ErrBroken) {
			t.Errorf("interrupted %v: %v", interrupted, err)
		}
		s.mini.SetError("")
	}
}
