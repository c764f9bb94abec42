package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"
)

// Answer is the end of an attempt that did not end its task: WeChat's answer, or why there was
// none.
type Answer struct {
	Code  int    // WeChat's errcode; 0 without an answer
	Class string // of the answer, as in metrics; no blanks
	Msg   string // WeChat's errmsg, or the error without an answer; redacted
	RID   string
	At    time.Time // zero: there is no answer
}

const (
	// maxAnswerMsg bounds the text of an answer in a record, in bytes. Most texts have at most
	// 64 bytes, so that Redis keeps the record in its smaller form, see WaitingKey.
	maxAnswerMsg = 256
	maxAnswerRID = 64
)

// fields returns an answer as a record stores it: "<code> <time> <class> <rid>" in the field
// last, with the time in the format of marks, and the text in the field last_msg. Both are empty
// for the zero Answer.
func (a Answer) fields() (last, msg string) {
	if a.At.IsZero() {
		return "", ""
	}
	last = strings.Join([]string{strconv.Itoa(a.Code), enqueuedText(a.At), a.Class, shorten(a.RID, maxAnswerRID)}, " ")
	return last, shorten(a.Msg, maxAnswerMsg)
}

// parseAnswer is the inverse of fields. It returns the zero Answer for a text of another form.
func parseAnswer(last, msg string) Answer {
	parts := strings.SplitN(last, " ", 4)
	if len(parts) != 4 {
		return Answer{}
	}
	code, err := strconv.Atoi(parts[0])
	if err != nil {
		return Answer{}
	}
	return Answer{Code: code, At: enqueuedTime(parts[1]), Class: parts[2], RID: parts[3], Msg: msg}
}

// shorten cuts a text to a number of bytes, between two characters.
func shorten(text string, bytes int) string {
	if len(text) <= bytes {
		return text
	}
	const ellipsis = "…"
	end := bytes - len(ellipsis)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + ellipsis
}

// History returns the outcomes of a task that redrives have undone, the oldest first; at most
// ten are kept.
func (l *Ledger) History(ctx context.Context, app, id string) ([]PastOutcome, error) {
	text, err := l.rdb.HGet(ctx, TaskKey(app, id), "history").Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	var past []PastOutcome
	if err == nil {
		err = json.Unmarshal(text, &past)
	}
	if err != nil {
		return nil, fmt.Errorf("read the history of %s: %w", id, err)
	}
	return past, nil
}

// InCanceledBatch reports whether a cancellation of the batch applies to a task with this record.
func (l *Ledger) InCanceledBatch(ctx context.Context, app, batch string, r Record) (bool, error) {
	number, err := l.rdb.HGet(ctx, BatchKey(app, batch), "withdrawn").Int()
	if err != nil && !errors.Is(err, redis.Nil) {
		return false, fmt.Errorf("read the batch: %w", err)
	}
	return number > r.pardon, nil
}
