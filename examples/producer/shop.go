package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/hibiken/asynq"

	"github.com/wxcourier/wxcourier/tasks"
)

// A shop is the business service. All it needs for WeChat is an app id and a template id.
type shop struct {
	tasks       *tasks.Client
	app         string
	template    string
	linkTimeout time.Duration // how long a caller may wait for a link
	now         func() time.Time
}

func (s *shop) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders/{id}/shipped", s.shipped)
	mux.HandleFunc("GET /orders/{id}/shipped", s.shippedResult)
	mux.HandleFunc("POST /link", s.link)
	return mux
}

// shippedID returns the idempotency key of the message "your order is shipped": it is sent
// once an order, even if the warehouse reports the shipping several times.
func shippedID(order string) string { return "order-" + order + "-shipped" }

// shipped notifies the buyer that an order is shipped. It answers as soon as the message is
// stored in Redis: 202, or 200 if this order's message was enqueued before.
func (s *shop) shipped(w http.ResponseWriter, r *http.Request) {
	var in struct {
		OpenID   string `json:"openid"`
		Tracking string `json:"tracking"`
	}
	if !read(w, r, &in) {
		return
	}
	now := s.now()
	task, err := tasks.NewSubscribeTask(s.app, tasks.SubscribePayload{
		ToUser:     in.OpenID,
		TemplateID: s.template,
		Page:       "pages/order/order?id=" + r.PathValue("id"),
		Data: tasks.Data{
			"thing1":            {Value: "订单已发货"},
			"time2":             {Value: now.Format("2006-01-02 15:04")},
			"character_string3": {Value: in.Tracking},
		},
	},
		tasks.ID(shippedID(r.PathValue("id"))),
		tasks.NotAfter(now.Add(24*time.Hour)), // a day later it is useless
	)
	s.enqueue(w, r, task, err)
}

func (s *shop) enqueue(w http.ResponseWriter, r *http.Request, task *asynq.Task, err error) {
	var receipt tasks.Receipt
	if err == nil {
		receipt, err = s.tasks.Enqueue(r.Context(), task)
	}
	switch {
	case err != nil:
		fail(w, err)
	case receipt.Already:
		answer(w, http.StatusOK, receipt)
	default:
		answer(w, http.StatusAccepted, receipt)
	}
}

// shippedResult answers with the result of an order's message.
func (s *shop) shippedResult(w http.ResponseWriter, r *http.Request) {
	result, err := s.tasks.Result(r.Context(), s.app, shippedID(r.PathValue("id")))
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, http.StatusOK, result)
}

// link makes a link that opens the mini program, and waits for the result. It answers 200 with
// the link, 502 if WeChat refuses, and 202 with the receipt after linkTimeout.
func (s *shop) link(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Path  string `json:"path"`
		Query string `json:"query"`
	}
	if !read(w, r, &in) {
		return
	}
	task, err := tasks.NewSchemeTask(s.app, tasks.SchemePayload{
		Path: in.Path, Query: in.Query,
		Expiry: tasks.Expiry{IsExpire: true, ExpireType: 1, ExpireInterval: 30},
	})
	if err != nil {
		fail(w, err)
		return
	}
	receipt, err := s.tasks.Enqueue(r.Context(), task)
	if err != nil {
		fail(w, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.linkTimeout)
	defer cancel()
	result, err := s.tasks.Wait(ctx, s.app, receipt.ID)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		answer(w, http.StatusAccepted, receipt)
	case err != nil:
		fail(w, err)
	case result.Outcome != tasks.OutcomeAccepted:
		answer(w, http.StatusBadGateway, result)
	default:
		answer(w, http.StatusOK, map[string]string{"openlink": result.OpenLink})
	}
}

// read decodes the body of a request, or answers 400.
func read(w http.ResponseWriter, r *http.Request, into any) bool {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		answer(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
		return false
	}
	return true
}

// fail answers with the HTTP status of an error.
func fail(w http.ResponseWriter, err error) {
	var invalid *tasks.ValidationError
	switch {
	case errors.As(err, &invalid): // every fault, with its path; never a value
		answer(w, http.StatusUnprocessableEntity, map[string]any{"faults": invalid.Fields})
	case errors.Is(err, tasks.ErrNotFound):
		answer(w, http.StatusNotFound, map[string]string{"error": err.Error()})
	default: // from Redis: the caller may repeat the request, the id prevents a second message
		slog.Error("request failed", "err", err)
		answer(w, http.StatusServiceUnavailable, map[string]string{"error": "try again"})
	}
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		slog.Debug("write the response", "err", err)
	}
}
