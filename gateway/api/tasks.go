package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/problem"
	"github.com/wxcourier/wxcourier/internal/tracing"
	"github.com/wxcourier/wxcourier/tasks"
)

const tasksTag = "tasks"

func (a *API) registerTasks() {
	register(a, apikey.Enqueue, huma.Operation{
		OperationID: "enqueue-task", Method: http.MethodPost, Path: "/v1/tasks", Tags: []string{tasksTag},
		Summary: "Enqueue a task",
		Description: "The body is a task as in a line of a task file. Repeating a request whose task has an id enqueues nothing twice. " +
			"With `wait`, which also needs the scope read, the answer comes when the task has ended and has it as `task`.",
		DefaultStatus: http.StatusAccepted,
		Errors: []int{
			http.StatusBadRequest, http.StatusRequestTimeout, http.StatusConflict, http.StatusRequestEntityTooLarge,
			http.StatusUnsupportedMediaType,
		},
	}, a.enqueueTask)
	a.describeEnqueue()
	register(a, apikey.Read, huma.Operation{
		OperationID: "get-task", Method: http.MethodGet, Path: "/v1/tasks/{app}/{id}", Tags: []string{tasksTag},
		Summary:     "Get a task",
		Description: "Its state, attempts, what it waits for and its history; with `wait`, when it has ended.",
		Errors:      []int{http.StatusNotFound},
	}, a.getTask)
	register(a, apikey.Read, huma.Operation{
		OperationID: "get-task-image", Method: http.MethodGet, Path: "/v1/tasks/{app}/{id}/image", Tags: []string{tasksTag},
		Summary: "Get the image of a task", Description: "The mini program code that the task made.",
		Errors:    []int{http.StatusNotFound},
		Responses: imageResponses(),
	}, a.getImage)
	register(a, apikey.Enqueue, huma.Operation{
		OperationID: "cancel-task", Method: http.MethodDelete, Path: "/v1/tasks/{app}/{id}", Tags: []string{tasksTag},
		Summary:     "Cancel a task",
		Description: "Takes a task back that has not been sent. Canceling it again has no effect.",
		Errors:      []int{http.StatusNotFound, http.StatusConflict},
	}, a.cancelTask)
}

// TaskPath is the part of an input that names a task. It is exported since huma looks at embedded
// structs only if they are.
type TaskPath struct {
	App string `path:"app" pattern:"^wx[0-9a-f]{16}$" patternDescription:"an app id" doc:"The app id." example:"wx0123456789abcdef"`
	ID  string `path:"id" pattern:"^[A-Za-z0-9._~-]{1,128}$" patternDescription:"a task id" doc:"The id of the task." example:"order-42-shipped"`
}

type enqueueInput struct {
	Waiting
	Raw rawBody
}

// enqueued is the answer to an enqueued task.
type enqueued struct {
	tasks.Receipt
	Task *inspect.Task `json:"task,omitempty" doc:"The task, as it is after the wait. Only with the parameter wait."`
}

type enqueueOutput struct {
	Status int
	Body   enqueued
}

// enqueueTask answers 202, and 200 if the id was known before or the task has ended.
func (a *API) enqueueTask(ctx context.Context, in *enqueueInput) (*enqueueOutput, error) {
	if in.Wait.Duration > 0 {
		if err := require(ctx, apikey.Read, ""); err != nil {
			return nil, err
		}
	}
	e, err := tasks.ParseEnvelope(in.Raw.text)
	if err != nil {
		return nil, parseProblem(in.Raw.text, err)
	}
	e.TraceParent = tracing.TraceParent(ctx)
	if tasks.ValidApp(e.App) { // the checks of the task report any other
		if err := a.admit(ctx, e.App); err != nil {
			return nil, err
		}
	}
	receipt, err := a.submitter.Submit(e)
	if err != nil && e.ID == "" {
		err = unsafeError{err}
	}
	if err != nil {
		return nil, err
	}
	out := &enqueueOutput{Status: http.StatusAccepted, Body: enqueued{Receipt: receipt}}
	if in.Wait.Duration > 0 {
		// The task is enqueued: an error is not one of this request.
		if t, err := a.await(ctx, receipt.App, receipt.ID, in.Wait.Duration); err == nil {
			out.Body.Task = &t
		}
	}
	if t := out.Body.Task; receipt.Already || t != nil && t.Outcome != "" {
		out.Status = http.StatusOK
	}
	return out, nil
}

// parseProblem returns the problem of a body that is no envelope.
func parseProblem(text []byte, err error) error {
	p, _ := describe(err)
	if !json.Valid(bytes.TrimPrefix(text, []byte("\uFEFF"))) {
		p.Status, p.Title, p.Detail = http.StatusBadRequest, http.StatusText(http.StatusBadRequest), "the body is not valid JSON"
	}
	return p
}

type getTaskInput struct {
	TaskPath
	Waiting
}

type taskOutput struct{ Body inspect.Task }

func (a *API) getTask(ctx context.Context, in *getTaskInput) (*taskOutput, error) {
	if err := require(ctx, apikey.Read, in.App); err != nil {
		return nil, err
	}
	t, err := a.await(ctx, in.App, in.ID, in.Wait.Duration)
	if err != nil {
		return nil, err
	}
	return &taskOutput{t}, nil
}

type imageOutput struct {
	ContentType string `header:"Content-Type"`
	NoSniff     string `header:"X-Content-Type-Options"`
	Body        []byte
}

func (a *API) getImage(ctx context.Context, in *TaskPath) (*imageOutput, error) {
	if err := require(ctx, apikey.Read, in.App); err != nil {
		return nil, err
	}
	image, err := a.Tasks.Image(ctx, in.App, in.ID)
	if err != nil {
		return nil, err
	}
	return &imageOutput{cmp.Or(tasks.ImageType(image), "application/octet-stream"), "nosniff", image}, nil
}

// canceled is the answer to a cancellation.
type canceled struct {
	App   string        `json:"app"`
	ID    string        `json:"id"`
	Place inspect.Place `json:"place" enum:"canceled,sending" doc:"canceled: it will not be sent. sending: it is being sent now, and ends as canceled only if WeChat does not accept it."`
}

type cancelOutput struct{ Body canceled }

func (a *API) cancelTask(ctx context.Context, in *TaskPath) (*cancelOutput, error) {
	if err := require(ctx, apikey.Enqueue, in.App); err != nil {
		return nil, err
	}
	n, err := a.Tasks.Cancel(ctx, in.App, in.ID)
	out := &cancelOutput{canceled{in.App, in.ID, inspect.PlaceCanceled}}
	if n.Canceled+n.Sending > 0 {
		a.audit(ctx, audit.Entry{Action: audit.Cancel, App: in.App, Target: in.ID, Count: 1})
	}
	switch {
	case err != nil:
		return nil, err
	case n.Canceled > 0:
		return out, nil
	case n.Sending > 0:
		out.Body.Place = inspect.PlaceSending
		return out, nil
	case n.Missing > 0:
		return nil, tasks.ErrNotFound
	}
	r, err := a.Tasks.Recorded(ctx, in.App, in.ID)
	if err != nil {
		return nil, err
	}
	if r.Outcome != tasks.OutcomeCanceled {
		return nil, problem.New(http.StatusConflict, "the task has ended as "+string(r.Outcome))
	}
	return out, nil
}
