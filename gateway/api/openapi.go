package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"net/http"
	"reflect"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wxcourier/wxcourier/gateway/docs"
	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/consent"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/problem"
	"github.com/wxcourier/wxcourier/internal/series"
	"github.com/wxcourier/wxcourier/tasks"
)

// registerDocs serves the OpenAPI document and its page. It comes after all operations.
func (a *API) registerDocs() {
	doc := a.huma.OpenAPI()
	doc.Tags = tags()
	doc.Servers = []*huma.Server{{URL: "/"}}
	for typ, fields := range fieldDocs() {
		describeFields(doc.Components.Schemas, typ, fields)
	}
	text, err := json.Marshal(doc)
	if err != nil { // the document has nothing that depends on the configuration: a test covers it
		a.Log.Error("the OpenAPI document cannot be encoded", slog.Any("err", err))
	}
	sum := sha256.Sum256(text)
	tag := `"` + hex.EncodeToString(sum[:8]) + `"`
	a.mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-cache") // but with the ETag
		if w.Header().Set("ETag", tag); r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = w.Write(text) // the client may have gone
	})
	a.mux.Handle("GET /docs", http.RedirectHandler("/docs/", http.StatusMovedPermanently))
	a.mux.Handle("GET /docs/", docs.Handler())
}

// tags returns the groups of operations, in the order of the page.
func tags() []*huma.Tag {
	return []*huma.Tag{
		{Name: tasksTag, Description: "Enqueue tasks, see what became of them, cancel and redrive them."},
		{Name: resultsTag, Description: "The results of ended tasks: page by page, or as they come."},
		{Name: batchesTag, Description: "Tasks that were enqueued as a group."},
		{Name: lanesTag, Description: "What waits, and how much of each limit is used."},
		{Name: holdsTag, Description: "What stands still, why and until when."},
		{Name: templatesTag, Description: "The message templates of an app, as WeChat lists them."},
		{Name: consentsTag, Description: "Who may still get subscribe messages."},
		{Name: auditTag, Description: "Who changed what."},
		{Name: tokenTag, Description: "The shared access token. Only for keys with the scope token."},
	}
}

// fieldDocs returns the descriptions of fields of types that are not of this package, and
// therefore have none in their tags.
func fieldDocs() map[reflect.Type]map[string]string {
	return map[reflect.Type]map[string]string{
		reflect.TypeFor[tasks.Result](): {
			"state": "done exactly when outcome is set.", "outcome": "How the task ended.",
			"errcode": "WeChat's answer to the last attempt.", "errmsg": "WeChat's answer to the last attempt.",
			"rid": "WeChat's id of the request, for seven days.", "attempts": "Calls to WeChat for this task.",
			"msgid": "The id of the message, in digits; it may exceed 2^53.", "openlink": "The weixin:// link of scheme:generate.",
			"url_link": "The https:// link of scheme:urllink.", "link": "A short link.",
			"image":   "The media type of the image; GET …/image returns it.",
			"suggest": "A content check's advice: pass, review or risky.", "label": "A content check's category, in digits.",
			"trace_id": "A content check's id at WeChat.", "reason": "Explains the outcome if errmsg does not.",
			"generation": "Redrives of the task.", "supersedes": "The outcome that this one replaced.",
			"receipt":        "What became of the message after WeChat had accepted it, as WeChat pushed it.",
			"receipt_status": "WeChat's text of the receipt.", "receipt_at": "The time of the receipt.",
			"fixed": "What was changed in the body before it was sent.",
		},
		reflect.TypeFor[tasks.Consent](): {
			"template": "The template id.", "may_send": "yes, no or unknown: nothing that is known speaks against it.",
			"why":     "credits, long_term; no_credit, refused (43101), declined, turned_off; no_news, sending, unanswered, uncounted, recheck, unknown_kind.",
			"credits": "Messages of a one-time template that are believed left.", "long_term": "The person accepted a template for any number of messages.",
			"since": "The time of the last news.",
		},
		reflect.TypeFor[consent.Day](): {
			"day": "The day in Asia/Shanghai.", "type": "The task type.",
			"checks": "By result: allowed, unknown, waited, stopped, would_stop, error; and of the calls: right, wrong, missed, unforeseen.",
		},
		reflect.TypeFor[hold.Hold](): {
			"scope": "* is the whole app; else a task type, or template:ID.", "reason": "A word such as quota_day, or an operator's text.",
			"code": "WeChat's errcode that led to it; 0: none.", "since": "When this reason first applied.",
			"until": "When it ends by itself; left out: when it is released.", "by": "The worker, operator or key that set it.",
			"tries": "How often it was set after it had ended, from 1.",
		},
		reflect.TypeFor[audit.Entry](): {
			"by": "key:ID, the key of a request, or user@host of a command.", "via": "cli, api or console.", "action": "What was done.",
			"target": "What was changed: a scope of holds, a task, a batch, a webhook.", "count": "The tasks concerned.", "note": "A reason, or a filter.",
		},
		reflect.TypeFor[series.Point](): {
			"at": "The start of the step.", "errcode": "WeChat's answer to the last attempt; 0 also without an answer.", "count": "Outcomes recorded in the step.",
		},
		reflect.TypeFor[series.ReceiptPoint](): {
			"at": "The start of the step.", "accepted": "Messages that WeChat accepted in the step.", "delivered": "Those that reached the person.",
			"blocked": "Those that the person does not take.", "failed": "Those that WeChat could not deliver.", "without": "Those whose receipts have not come.",
		},
		reflect.TypeFor[inspect.FoundTasks](): {
			"cursor": "For the next page; left out: there is none.", "back": "The time to which the search has looked; left out: to the end of what is kept.",
		},
		reflect.TypeFor[problem.Problem](): {
			"type": "A URI that identifies the kind; left out: about:blank.", "title": "The text of the status.",
			"detail": "What is wrong, and how to fix it. Never a value of the request.", "errors": "Each fault of the request.",
		},
		reflect.TypeFor[problem.Fault](): {
			"location": "Where it is, such as body.data.thing1 or query.since.", "message": "What is wrong.",
		},
	}
}

// describeFields adds descriptions to the schema of a type, if the document has it.
func describeFields(schemas huma.Registry, typ reflect.Type, fields map[string]string) {
	for name, schema := range schemas.Map() {
		if schemas.TypeFromRef("#/components/schemas/"+name) != typ {
			continue
		}
		for field, text := range fields {
			if property := schema.Properties[field]; property != nil && property.Ref == "" {
				property.Description = text
			}
		}
		if outcome := schema.Properties["outcome"]; outcome != nil && typ == reflect.TypeFor[tasks.Result]() {
			outcome.Enum = slices.Clone(enumSchema(tasks.Outcomes()).Enum)
		}
	}
}
