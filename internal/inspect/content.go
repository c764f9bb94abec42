package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/tasks"
)

// Content is what a task's body has, without its values: they are for the receiver alone.
type Content struct {
	Template string   // id of the message template; "": the type has none
	Fields   []string // names of the members of the body, those of data as data.<name>, sorted
	Bytes    int      // size of the body
}

// Content reads the content of a task. It is kept until the task has ended, and then for outcomes that
// a redrive may undo; known is false for others. It takes one round trip.
func (r *Reader) Content(ctx context.Context, t Task) (c Content, known bool, err error) {
	var payload []byte
	if t.Outcome != "" {
		state, err := ledger.New(r.rdb, ledger.Policy{}).RedriveState(ctx, t.App, t.ID)
		if errors.Is(err, ledger.ErrNotFound) {
			return Content{}, false, nil
		}
		if err != nil {
			return Content{}, false, err
		}
		payload = state.Content.Payload
	} else {
		copied, err := asynqwire.ReadCopy(ctx, r.rdb, t.Queue, asynqID(t.App, t.ID))
		if err != nil {
			return Content{}, false, err
		}
		if copied != nil {
			payload = copied.Payload
		}
	}
	e, err := tasks.DecodePayload(payload)
	if err != nil {
		return Content{}, false, nil //nolint:nilerr // there is none, or asynq has another program's
	}
	return Content{Template: e.TemplateID(), Fields: fieldsOf(e.Body), Bytes: len(e.Body)}, true, nil
}

// fieldsOf returns the names of the members of a body.
func fieldsOf(body []byte) []string {
	var members, data map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil {
		return nil
	}
	names := make(map[string]bool)
	for name, value := range members {
		if name != "data" || json.Unmarshal(value, &data) != nil || len(data) == 0 {
			names[name] = true
		}
	}
	for name := range data {
		names["data."+name] = true
	}
	return slices.Sorted(maps.Keys(names))
}
