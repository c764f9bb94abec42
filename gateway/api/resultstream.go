package api

import (
	"bufio"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/problem"
	"github.com/wxcourier/wxcourier/internal/resultlog"
)

const eventsType = "text/event-stream"

func (a *API) registerResultStream() {
	register(a, apikey.Read, huma.Operation{
		OperationID: "follow-results", Method: http.MethodGet, Path: "/v1/results/stream", Tags: []string{resultsTag},
		Summary: "Follow results",
		Description: "New results as server-sent events, of all selected apps. Without `Last-Event-ID` and `since` it begins with the next result. " +
			"The id of an event is a position in all apps: a client that sends the last one as `Last-Event-ID` misses nothing and gets nothing twice. " +
			"Every 15 s a comment and the current id are sent. A client that does not read for 30 s is disconnected, and every stream ends after 5 minutes " +
			"and when the server shuts down: reconnect, as an EventSource does by itself.\n\n" +
			"- `event: result`, `data:` a result; a receipt of an earlier one has `receipt` and no `finished_at`\n" +
			"- `event: gap`, `data:` {app, start, by_length}: results before `start` are no longer kept and were not sent",
		Responses: map[string]*huma.Response{"200": {Description: "Events.", Content: map[string]*huma.MediaType{
			eventsType: {Schema: &huma.Schema{Type: huma.TypeString}},
		}}},
	}, a.followResults)
}

// streamTimes are the times of streams of results.
type streamTimes struct {
	heartbeat time.Duration
	slow      time.Duration // a client that does not read for this long is disconnected
	life      time.Duration // a stream ends, so that the client's key is checked again
	newApps   time.Duration // looks for apps that had no task before
}

func defaultStreamTimes() streamTimes {
	return streamTimes{heartbeat: 15 * time.Second, slow: 30 * time.Second, life: 5 * time.Minute, newApps: 5 * time.Second}
}

// streamReady bounds how long a request waits until Redis has told the ends of the streams.
const streamReady = 5 * time.Second

type resultStreamInput struct {
	ResultsFilter
	Since       timeParam `query:"since" doc:"Begins with the results since then, of apps that the last id does not have."`
	LastEventID string    `query:"last_event_id" maxLength:"32768" doc:"As the header, for clients that cannot set it."`
	LastEvent   string    `header:"Last-Event-ID" maxLength:"32768" doc:"The id of the last event that the client has received."`
}

func (a *API) followResults(ctx context.Context, in *resultStreamInput) (*huma.StreamResponse, error) {
	apps, err := a.selected(ctx, in.App)
	if err != nil {
		return nil, err
	}
	from, err := in.from(apps)
	if err != nil {
		return nil, err
	}
	s := a.resultFollower.Subscribe(apps, from)
	ready, cancel := context.WithTimeout(ctx, streamReady)
	defer cancel()
	if err := s.Ready(ready); err != nil {
		s.Close()
		return nil, err
	}
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		defer s.Close()
		_, w := humago.Unwrap(hctx)
		stream := resultStream{api: a, in: in, sub: s, at: maps.Clone(s.Cursor()), w: w, control: http.NewResponseController(w)}
		stream.out = bufio.NewWriterSize(w, 32<<10)
		stream.run(ctx)
	}}, nil
}

// from returns the position at which a stream begins. Apps without one begin with the next result.
func (in *resultStreamInput) from(apps []string) (resultlog.Cursor, error) {
	id, location := in.LastEvent, "header.Last-Event-ID"
	if id == "" {
		id, location = in.LastEventID, "query.last_event_id"
	}
	from, err := resultlog.ParseCursor(id)
	if err != nil {
		return nil, problem.New(http.StatusUnprocessableEntity, "validation failed", problem.Fault{Location: location, Message: "is not the id of an event"})
	}
	for _, app := range apps {
		switch _, known := from[app]; {
		case known:
		case !in.Since.IsZero():
			from[app] = resultlog.Since(in.Since.Time)
		case id != "":
			from[app] = resultlog.Position{} // it had no result when the event was sent
		}
	}
	return from, nil
}

// resultStream is one stream of results.
type resultStream struct {
	api     *API
	in      *resultStreamInput
	sub     *resultlog.Subscription
	at      resultlog.Cursor // after the last event
	w       http.ResponseWriter
	control *http.ResponseController
	out     *bufio.Writer // to w
}

// run sends events until the client has gone, or the stream has to end.
func (s *resultStream) run(ctx context.Context) {
	times := s.api.streamTimes
	header := s.w.Header()
	header.Set("Content-Type", eventsType)
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no") // of nginx
	s.text("retry: 1000\nid: ", s.at.String(), "\n\n")
	_ = s.control.SetReadDeadline(time.Time{})
	life := times.life
	if key := apikey.FromContext(ctx); !key.Expires.IsZero() {
		life = min(life, time.Until(key.Expires))
	}
	ctx, cancel := context.WithTimeout(ctx, life)
	defer cancel()
	heartbeat, newApps := time.NewTicker(times.heartbeat), time.NewTicker(times.newApps)
	defer heartbeat.Stop()
	defer newApps.Stop()
	for s.flush() && s.sendNew(ctx) {
		select {
		case <-s.sub.Changed():
		case <-heartbeat.C:
			s.text(": heartbeat\nid: ", s.at.String(), "\n\n")
		case <-newApps.C:
			s.addApps(ctx)
		case <-s.api.ending:
			return
		case <-ctx.Done():
			return
		}
	}
}

// sendNew sends the results that there are. It returns false if the stream has to end.
func (s *resultStream) sendNew(ctx context.Context) bool {
	for {
		entries, gaps, err := s.sub.Next(ctx)
		if err != nil {
			if ctx.Err() == nil {
				s.api.away.warn(s.api.Log, err)
			}
			return false
		}
		if len(entries) == 0 && len(gaps) == 0 {
			maps.Copy(s.at, s.sub.Cursor()) // entries that are no results were passed over
			return true
		}
		if !s.send(entries, gaps) {
			return false
		}
		select {
		case <-s.api.ending:
			return false
		case <-ctx.Done():
			return false
		default:
		}
	}
}

// eventsPerFlush is the number of results that a client has to read within the time of a slow one.
const eventsPerFlush = 50

// send sends gaps and the entries that the client wants. It returns false if the client has gone.
func (s *resultStream) send(entries []resultlog.Entry, gaps []resultlog.Gap) bool {
	for _, g := range gapsOf(gaps) {
		text, err := json.Marshal(g)
		if err != nil { // a year that JSON does not have
			s.api.Log.Error("a gap in the results cannot be told", slog.Any("err", err))
			continue
		}
		s.text("event: gap\ndata: ", string(text), "\n\n") // without an id: a client that comes back learns of it again
	}
	for i := range entries {
		e := &entries[i]
		s.at[e.App] = e.At
		if s.in.matches(&e.Result) {
			s.text("event: result\nid: ", s.at.String(), "\ndata: ", string(e.Result.Encode()), "\n\n")
		}
		if i%eventsPerFlush == eventsPerFlush-1 && !s.flush() {
			return false
		}
	}
	maps.Copy(s.at, s.sub.Cursor())
	return s.flush()
}

// text adds text to the answer. Its errors are those of the next flush.
func (s *resultStream) text(parts ...string) {
	if s.out.Buffered() == 0 {
		// A writer that cannot do this has no deadlines of its own either.
		_ = s.control.SetWriteDeadline(time.Now().Add(s.api.streamTimes.slow))
	}
	for _, part := range parts {
		_, _ = s.out.WriteString(part)
	}
}

// flush sends what text has added. It returns false if the client has gone, or does not read.
func (s *resultStream) flush() bool {
	if s.out.Buffered() == 0 {
		return true
	}
	if s.out.Flush() != nil || s.control.Flush() != nil {
		return false
	}
	return s.control.SetWriteDeadline(time.Time{}) == nil
}

// addApps adds the apps whose first task was enqueued meanwhile, unless the request names its apps.
func (s *resultStream) addApps(ctx context.Context) {
	if len(s.in.App) > 0 {
		return
	}
	apps, err := s.api.newApps.get(ctx, s.api, s.api.streamTimes.newApps)
	if err != nil {
		return // the next time
	}
	var added []string
	for _, app := range apps {
		if _, known := s.at[app]; !known && apikey.FromContext(ctx).AllowsApp(app) {
			added = append(added, app)
		}
	}
	if len(added) > 0 {
		s.sub.AddNew(added)
		maps.Copy(s.at, s.sub.Cursor())
	}
}

// appList is the known apps, which all streams share.
type appList struct {
	mu   sync.Mutex
	apps []string  // guarded by mu
	at   time.Time // guarded by mu
}

// get returns the known apps, which are not older than fresh.
func (l *appList) get(ctx context.Context, a *API, fresh time.Duration) ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.at) < fresh {
		return l.apps, nil
	}
	known, err := a.knownApps(ctx)
	if err != nil {
		return nil, err
	}
	l.apps, l.at = nil, time.Now()
	for app := range known {
		l.apps = append(l.apps, app)
	}
	return l.apps, nil
}
