package tasks

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/consent"
)

// MaySend says whether a subscribe message may be sent to a person.
type MaySend string

// The values of MaySend.
const (
	MaySendYes     MaySend = "yes"
	MaySendNo      MaySend = "no"
	MaySendUnknown MaySend = "unknown" // what is known does not speak against it
)

// Consent is what is known of the consent of a person to get the messages of a template. WeChat does
// not tell how many messages it will take: it is counted from WeChat's pushes, the answers to messages,
// and reports of the mini program, where the app's `consent` is "observe" or "enforce".
type Consent struct {
	Template string  `json:"template"`
	MaySend  MaySend `json:"may_send"`
	// Why explains MaySend: credits, long_term; no_credit, refused (43101), declined, turned_off; no_news,
	// sending, unanswered, uncounted, recheck or unknown_kind.
	Why string `json:"why"`
	// Credits is how many messages of a one-time template are believed left.
	Credits int `json:"credits"`
	// LongTerm: the person accepted a template for any number of messages.
	LongTerm bool `json:"long_term"`
	// Since is when what is known changed last; zero if nothing is known.
	Since time.Time `json:"since,omitzero"`
}

// Consent returns what is known of the consent of a person to get the messages of a template.
func (c *Client) Consent(ctx context.Context, app, openid, template string) (Consent, error) {
	if err := validateConsent(app, openid, template); err != nil {
		return Consent{}, err
	}
	e, err := c.consents.Get(ctx, app, openid, template)
	if err != nil {
		return Consent{}, err
	}
	return c.consentOf(app, template, e), nil
}

// Consents returns what is known of all templates of which there were news about a person, by template.
func (c *Client) Consents(ctx context.Context, app, openid string) ([]Consent, error) {
	if err := validateConsent(app, openid, "-"); err != nil {
		return nil, err
	}
	found, err := c.consents.List(ctx, app, openid)
	if err != nil {
		return nil, err
	}
	all := make([]Consent, 0, len(found))
	for template, e := range found {
		all = append(all, c.consentOf(app, template, e))
	}
	slices.SortFunc(all, func(a, b Consent) int { return strings.Compare(a.Template, b.Template) })
	return all, nil
}

func (c *Client) consentOf(app, template string, e consent.Entry) Consent {
	kind := consent.KindOf(c.templates.Kind).Of(app, template)
	a := e.Answer(kind, time.Now())
	return Consent{Template: template, MaySend: MaySend(a.May), Why: string(a.Why), Credits: a.Credits, LongTerm: a.LongTerm, Since: a.Since}
}

// ConsentStatus is what wx.requestSubscribeMessage answered for a template.
type ConsentStatus string

// The values of ConsentStatus that are reported.
const (
	ConsentAccept ConsentStatus = "accept"
	ConsentReject ConsentStatus = "reject"
)

// ConsentReport is what a service reports of a person's choice.
type ConsentReport struct {
	App, OpenID, Template string
	Status                ConsentStatus
	// ID makes it safe to repeat a report: one that has it counts once within an hour. "": each report of
	// an acceptance is another acceptance.
	ID string
	// At is when the person chose; zero: now.
	At time.Time
}

// ReportConsent notes what wx.requestSubscribeMessage answered in the mini program. It is needed where
// WeChat's pushes do not reach the gateway, and otherwise makes an acceptance known before its push: a
// push within a minute of the report is the same acceptance.
func (c *Client) ReportConsent(ctx context.Context, r ConsentReport) error {
	if err := validateConsent(r.App, r.OpenID, r.Template); err != nil {
		return err
	}
	n := consent.News{OpenID: r.OpenID, Template: r.Template, Choice: consent.Accepted, At: r.At, Reported: true, ID: r.ID}
	switch r.Status {
	case ConsentAccept:
	case ConsentReject:
		n.Choice = consent.Declined
	default:
		return fmt.Errorf("tasks: the status %q is neither accept nor reject", r.Status)
	}
	return c.consents.Grant(ctx, r.App, n)
}

var (
	openidPattern   = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	templatePattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)
)

// validateConsent checks what names a person and a template. The error contains neither.
func validateConsent(app, openid, template string) error {
	switch {
	case !ValidApp(app):
		return fmt.Errorf("tasks: %q is not an app id", app)
	case !openidPattern.MatchString(openid):
		return errors.New("tasks: the openid is not valid: 1 to 64 of the characters A-Z, a-z, 0-9, _ and -")
	case !templatePattern.MatchString(template):
		return errors.New("tasks: the template id is not valid: 1 to 128 of the characters A-Z, a-z, 0-9, _ and -")
	}
	return nil
}
