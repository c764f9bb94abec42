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
	// maxFailed is how many failed attempts a record has. Their texts are shorter than that of the last
	// one: an attempt takes some 120 bytes.
	maxFailed = 10
)

// logLua moves the last answer of the record KEYS[1] to the end of its field log, which has a line for
// each of up to nine attempts: "<wait in ms> <last> <last_msg>", see Answer.fields. Only a task with
// more than one failed attempt has that field, so that most records keep the smaller form.
const logLua = `
local earlier = redis.call("HMGET", KEYS[1], "last", "last_msg", "last_wait", "log")
if earlier[1] then
	local log = (earlier[3] or "0") .. " " .. earlier[1] .. " " .. string.gsub(string.sub(earlier[2] or "", 1, 100), "%c", " ")
	if earlier[4] then log = earlier[4] .. "\n" .. log end
	local _, breaks = string.gsub(log, "\n", "")
	if breaks > 8 then log = string.gsub(log, "^[^\n]*\n", "", 1) end
	redis.call("HSET", KEYS[1], "log", log)
end
`

// FailedAttempt is an attempt that did not end its task.
type FailedAttempt struct {
	Answer
	Wait time.Duration // for which the task was handed back
}

// parseFailed returns the failed attempts of a record, the oldest first, from its fields log, last,
// last_msg and last_wait. It leaves out lines of another form.
func parseFailed(log, last, msg, wait string) []FailedAttempt {
	var all []FailedAttempt
	add := func(wait, last, msg string) {
		ms, _ := strconv.ParseInt(wait, 10, 64)
		if a := parseAnswer(last, strings.ToValidUTF8(msg, "")); !a.At.IsZero() {
			all = append(all, FailedAttempt{a, time.Duration(ms) * time.Millisecond})
		}
	}
	for line := range strings.Lines(log) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 6)
		if len(parts) == 6 {
			add(parts[0], strings.Join(parts[1:5], " "), parts[5])
		}
	}
	add(wait, last, msg)
	return all[max(0, len(all)-maxFailed):]
}

// fields returns an answer as a record stores it: "<code> <time> <class> <rid>" in the field
// last, with the time in the format of marks, and the text in the field last_msg. Both are empty
// for the zero Answer.
func (a Answer) fields() (last, msg string) {
	if a.At.IsZero() {
		return "", ""
	}
	last = strings.Join([]string{strconv.Itoa(a.Code), enqueuedText(a.At), a.Class, shorten(strings.ReplaceAll(a.RID, " ", ""), maxAnswerRID)}, " ")
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

// History is what has happened to a task before.
type History struct {
	Outcomes []PastOutcome   // that redrives have undone, the oldest first; at most ten are kept
	Failed   []FailedAttempt // attempts that did not end the task, the oldest first, likewise; of all generations
}

// History returns what has happened to a task. It is empty for a task without a record.
func (l *Ledger) History(ctx context.Context, app, id string) (h History, err error) {
	values, err := l.rdb.HMGet(ctx, TaskKey(app, id), "history", "log", "last", "last_msg", "last_wait").Result()
	if err != nil {
		return h, fmt.Errorf("read the history of %s: %w", id, err)
	}
	text := func(i int) string { s, _ := values[i].(string); return s }
	if past := text(0); past != "" {
		if err := json.Unmarshal([]byte(past), &h.Outcomes); err != nil {
			return h, fmt.Errorf("read the history of %s: %w", id, err)
		}
	}
	h.Failed = parseFailed(text(1), text(2), text(3), text(4))
	return h, nil
}

// InCanceledBatch reports whether a cancellation of the batch applies to a task with this record.
func (l *Ledger) InCanceledBatch(ctx context.Context, app, batch string, r Record) (bool, error) {
	number, err := l.rdb.HGet(ctx, BatchKey(app, batch), "withdrawn").Int()
	if err != nil && !errors.Is(err, redis.Nil) {
		return false, fmt.Errorf("read the batch: %w", err)
	}
	return number > r.pardon, nil
}
