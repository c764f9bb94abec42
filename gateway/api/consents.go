package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/consent"
	"github.com/wxcourier/wxcourier/internal/problem"
	"github.com/wxcourier/wxcourier/tasks"
)

const consentsTag = "consents"

func (a *API) registerConsents() {
	register(a, apikey.Read, huma.Operation{
		OperationID: "count-consents", Method: http.MethodGet, Path: "/v1/consents/{app}", Tags: []string{consentsTag},
		Summary: "Count consent checks",
		Description: "How often the consent of the receivers of subscribe messages was checked, by day (Asia/Shanghai), and how the calls turned out. " +
			"With `consent: observe`, `saved` is how many calls `enforce` would have saved, and `wrong` how many messages it would have refused although WeChat accepted them.",
		Errors: []int{http.StatusNotFound, http.StatusUnprocessableEntity},
	}, a.countConsents)
	register(a, apikey.Read, huma.Operation{
		OperationID: "get-consents", Method: http.MethodGet, Path: "/v1/consents/{app}/{openid}", Tags: []string{consentsTag},
		Summary:     "May a message be sent to a person?",
		Description: "What is known of the consent of a person, by template, or of one `template`. The gateway does not log the path; a proxy before it may.",
		Errors:      []int{http.StatusNotFound, http.StatusUnprocessableEntity},
	}, a.getConsents)
	op := huma.Operation{
		OperationID: "report-consent", Method: http.MethodPost, Path: "/v1/consents/{app}/{openid}", Tags: []string{consentsTag},
		Summary: "Report what a person chose",
		Description: "For a service that saw `wx.requestSubscribeMessage` answer in its mini program. A report and WeChat's push of the same choice, within a minute, count once. " +
			"A report with an `id` may be repeated within an hour. The answer is what is known then.",
		Errors: bodyErrors(http.StatusNotFound, http.StatusConflict),
	}
	register(a, apikey.Enqueue, op, a.reportConsent)
	describeBody[consentReport](a, op.OperationID, true, map[string]any{"template": "TEMPLATE_ID", "status": "accept", "id": "order-42"})
}

type consentCountsInput struct {
	AppPath
	Days int `query:"days" minimum:"1" maximum:"35" default:"7" doc:"How many days, today included."`
}

// ConsentCounts is how often the consent of receivers was checked.
type ConsentCounts struct {
	App  string `json:"app"`
	Mode string `json:"mode" enum:"off,observe,enforce"`
	// Saved etc. are totals of the days.
	Saved  int64         `json:"saved" doc:"Calls that met 43101 and enforce would have saved, and messages that it refused without a call."`
	Wrong  int64         `json:"wrong" doc:"With observe: messages that enforce would have refused, and WeChat accepted."`
	Missed int64         `json:"missed" doc:"Calls that met 43101 although a credit was believed left."`
	Days   []consent.Day `json:"days" nullable:"false" doc:"By day, the newest first, and type."`
}

type consentCountsOutput struct{ Body ConsentCounts }

func (a *API) countConsents(ctx context.Context, in *consentCountsInput) (*consentCountsOutput, error) {
	if err := require(ctx, apikey.Read, in.App); err != nil {
		return nil, err
	}
	if err := a.requireKnown(ctx, in.App); err != nil {
		return nil, err
	}
	days, err := consent.Counts(ctx, a.Redis, in.App, time.Now(), in.Days)
	if err != nil {
		return nil, err
	}
	total := consent.Total(days)
	return &consentCountsOutput{ConsentCounts{
		App: in.App, Mode: a.consentMode(in.App), Days: append([]consent.Day{}, days...),
		Saved: total[consent.CheckRight] + total[consent.CheckStopped], Wrong: total[consent.CheckWrong], Missed: total[consent.CheckMissed],
	}}, nil
}

// consentMode returns the mode of an app: "off" for one that is not configured.
func (a *API) consentMode(id string) string {
	if app, ok := a.app(id); ok && app.Consent != "" {
		return app.Consent
	}
	return "off"
}

// PersonPath is the part of an input that names a person of an app.
type PersonPath struct {
	AppPath
	OpenID string `path:"openid" pattern:"^[A-Za-z0-9_-]{1,64}$" patternDescription:"an openid" doc:"The openid of the person."`
}

type consentsInput struct {
	PersonPath
	Template string `query:"template" pattern:"^[A-Za-z0-9_-]{1,128}$" patternDescription:"a template id" doc:"Only this template, also one without news."`
}

// Consents is what is known of the consent of a person.
type Consents struct {
	App   string          `json:"app"`
	Mode  string          `json:"mode" enum:"off,observe,enforce" doc:"The configured consent of the app; where it is off, nothing is counted."`
	Items []tasks.Consent `json:"items" nullable:"false" doc:"By template."`
}

type consentsOutput struct{ Body Consents }

func (a *API) getConsents(ctx context.Context, in *consentsInput) (*consentsOutput, error) {
	if err := require(ctx, apikey.Read, in.App); err != nil {
		return nil, err
	}
	if err := a.requireKnown(ctx, in.App); err != nil {
		return nil, err
	}
	out := &consentsOutput{Consents{App: in.App, Mode: a.consentMode(in.App), Items: []tasks.Consent{}}}
	var err error
	if in.Template == "" {
		out.Body.Items, err = a.Tasks.Consents(ctx, in.App, in.OpenID)
		return out, err
	}
	one, err := a.Tasks.Consent(ctx, in.App, in.OpenID, in.Template)
	out.Body.Items = append(out.Body.Items, one)
	return out, err
}

// consentReport is the body of a report.
type consentReport struct {
	Template string    `json:"template" pattern:"^[A-Za-z0-9_-]{1,128}$" patternDescription:"a template id" doc:"The template."`
	Status   string    `json:"status" enum:"accept,reject" doc:"What wx.requestSubscribeMessage answered for the template."`
	ID       string    `json:"id,omitempty" maxLength:"128" doc:"Makes it safe to repeat the report within an hour."`
	At       time.Time `json:"at,omitzero" required:"false" doc:"When the person chose. Default: now."`
}

type consentReportInput struct {
	PersonPath
	JSON jsonBody
}

func (a *API) reportConsent(ctx context.Context, in *consentReportInput) (*consentsOutput, error) {
	if err := a.admit(ctx, in.App); err != nil {
		return nil, err
	}
	body, err := decodeBody[consentReport](a, in.JSON)
	if err != nil {
		return nil, err
	}
	if !consent.Mode(a.consentMode(in.App)).Counts() {
		return nil, problem.New(http.StatusConflict, "consents of the app are not counted: set consent to observe or enforce in its configuration")
	}
	report := tasks.ConsentReport{App: in.App, OpenID: in.OpenID, Template: body.Template, Status: tasks.ConsentStatus(body.Status), ID: body.ID, At: body.At}
	if err := a.Tasks.ReportConsent(ctx, report); err != nil {
		return nil, err
	}
	return a.getConsents(ctx, &consentsInput{PersonPath: in.PersonPath, Template: body.Template})
}
