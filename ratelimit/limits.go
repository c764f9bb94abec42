package ratelimit

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/wxcourier/wxcourier/internal/suggest"
)

// Limit is how many calls of one type, path or group are allowed. A zero field means that there is no
// such limit; in an override it means that the default applies.
type Limit struct {
	PerSecond   int   `yaml:"per_second,omitempty" json:"per_second,omitempty"`   // calls in any sliding second
	PerMinute   int   `yaml:"per_minute,omitempty" json:"per_minute,omitempty"`   // calls in any sliding minute
	PerDay      int64 `yaml:"per_day,omitempty" json:"per_day,omitempty"`         // calls per calendar day of China (UTC+8)
	Total       int64 `yaml:"total,omitempty" json:"total,omitempty"`             // calls in the app's lifetime
	Concurrency int   `yaml:"concurrency,omitempty" json:"concurrency,omitempty"` // calls at the same time, per replica
}

// The largest values of a limit. The arithmetic in whole microseconds, or a replica, cannot
// keep higher ones.
const (
	maxPerSecond   = 100_000
	maxPerMinute   = 6_000_000
	maxCount       = 1_000_000_000_000
	maxConcurrency = 10_000
)

// limitField is one field of a limit, by its YAML key.
type limitField struct {
	key        string
	value, max int64
}

func (l Limit) fields() []limitField {
	return []limitField{
		{"per_second", int64(l.PerSecond), maxPerSecond},
		{"per_minute", int64(l.PerMinute), maxPerMinute},
		{"per_day", l.PerDay, maxCount},
		{"total", l.Total, maxCount},
		{"concurrency", int64(l.Concurrency), maxConcurrency},
	}
}

// Validate reports every field that is negative or too large, by its YAML key.
func (l Limit) Validate() error {
	var errs []error
	for _, f := range l.fields() {
		if f.value < 0 {
			errs = append(errs, fmt.Errorf("%s: %d is negative; leave it out to keep the default", f.key, f.value))
		} else if f.value > f.max {
			errs = append(errs, fmt.Errorf("%s: %d is more than %d", f.key, f.value, f.max))
		}
	}
	return errors.Join(errs...)
}

// ValidatePresent reports an error if the field with a YAML key was set to 0, which would
// silently mean the default. A limit cannot be removed, only replaced by the number that WeChat
// grants.
func (l Limit) ValidatePresent(key string) error {
	for _, f := range l.fields() {
		if f.key == key && f.value == 0 {
			return errors.New("0 is not a limit: leave the key out to keep the default, or write what WeChat grants; a limit cannot be lifted")
		}
	}
	return nil
}

// withOverrides returns l with the non-zero fields of o.
func (l Limit) withOverrides(o Limit) Limit {
	if o.PerSecond > 0 {
		l.PerSecond = o.PerSecond
	}
	if o.PerMinute > 0 {
		l.PerMinute = o.PerMinute
	}
	if o.PerDay > 0 {
		l.PerDay = o.PerDay
	}
	if o.Total > 0 {
		l.Total = o.Total
	}
	if o.Concurrency > 0 {
		l.Concurrency = o.Concurrency
	}
	return l
}

// Row is one documented limit of a type, or of a group of types that share it.
type Row struct {
	Name    string   // the task type, the path of an API without one, or the group's name; the key of an override
	Members []string // the types of a group; nil for a type
	Limit   Limit
	Source  string // WeChat's page that states it
}

// DefaultConcurrency is how many calls of a type one replica makes at the same time, unless an
// override changes it. WeChat documents no such limit.
const DefaultConcurrency = 64

// The pages of developers.weixin.qq.com that state the limits.
const (
	miniProgramDocs     = "https://developers.weixin.qq.com/miniprogram/dev/"
	officialAccountDocs = "https://developers.weixin.qq.com/doc/offiaccount/"
	callLimitsPage      = officialAccountDocs + "Message_Management/API_Call_Limits.html"
)

// Defaults returns a row for every task type, including types without a documented limit, one for
// every path without a task type that has a documented limit, and one for every group.
func Defaults() []Row {
	return []Row{
		{Name: "send:subscribe", Limit: Limit{PerDay: 10_000_000}, Source: miniProgramDocs + "framework/open-ability/subscribe-message.html"},
		{Name: "send:template", Limit: Limit{PerDay: 100_000}, Source: callLimitsPage},
		{Name: "send:bizsubscribe", Source: officialAccountDocs + "Subscription_Messages/api.html"},
		{Name: "send:custom", Limit: Limit{PerDay: 500_000}, Source: callLimitsPage},
		{Name: "send:uniform", Source: miniProgramDocs + "OpenApiDoc/mp-message-management/uniform-message/sendUniformMessage.html"},
		{Name: "scheme:generate", Limit: Limit{PerSecond: 100}, Source: miniProgramDocs + "OpenApiDoc/qrcode-link/url-scheme/generateScheme.html"},
		{Name: "scheme:urllink", Limit: Limit{PerSecond: 100}, Source: miniProgramDocs + "OpenApiDoc/qrcode-link/url-link/generateUrlLink.html"},
		{Name: "scheme:shortlink", Limit: Limit{PerDay: 10_000_000}, Source: miniProgramDocs + "OpenApiDoc/qrcode-link/short-link/generateShortLink.html"},
		{Name: "scheme:nfc", Limit: Limit{PerSecond: 100, PerDay: 500_000}, Source: miniProgramDocs + "OpenApiDoc/qrcode-link/url-scheme/generateNFCScheme.html"},
		{Name: "code:unlimited", Limit: Limit{PerMinute: 5000}, Source: miniProgramDocs + "OpenApiDoc/qrcode-link/qr-code/getUnlimitedQRCode.html"},
		{Name: "code:wxacode", Source: miniProgramDocs + "OpenApiDoc/qrcode-link/qr-code/getQRCode.html"},
		{Name: "code:qrcode", Source: miniProgramDocs + "OpenApiDoc/qrcode-link/qr-code/createQRCode.html"},
		{Name: "seccheck:text", Limit: Limit{PerMinute: 4000, PerDay: 2_000_000}, Source: miniProgramDocs + "OpenApiDoc/sec-center/sec-check/msgSecCheck.html"},
		{Name: "seccheck:image", Limit: Limit{PerMinute: 2000, PerDay: 200_000}, Source: miniProgramDocs + "api-backend/open-api/sec-check/security.imgSecCheck.html"},
		{Name: "seccheck:media", Limit: Limit{PerMinute: 2000, PerDay: 200_000}, Source: miniProgramDocs + "OpenApiDoc/sec-center/sec-check/mediaCheckAsync.html"},
		{Name: "/wxa/business/getliveinfo", Limit: Limit{PerDay: 100_000}, Source: miniProgramDocs + "OpenApiDoc/livebroadcast/studio-management/getLiveInfo.html"},
		{
			Name: "links", Members: []string{"scheme:generate", "scheme:urllink"},
			Limit: Limit{PerDay: 500_000}, Source: miniProgramDocs + "framework/open-ability/url-scheme.html",
		},
		{
			Name: "qrcode", Members: []string{"code:wxacode", "code:qrcode"},
			Limit: Limit{Total: 100_000}, Source: miniProgramDocs + "framework/open-ability/qr-code.html",
		},
	}
}

// ValidateLimits reports every mistake in an app's overrides, sorted by name: names that are
// neither a type nor a group (with the nearest valid one), and invalid limits.
func ValidateLimits(overrides map[string]Limit) error {
	var names []string
	for _, r := range Defaults() {
		names = append(names, r.Name)
	}
	keys := make([]string, 0, len(overrides))
	for k := range overrides {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var errs []error
	for _, k := range keys {
		if !slices.Contains(names, k) {
			meant := ""
			if name, ok := suggest.Name(k, names); ok {
				meant = fmt.Sprintf("; the nearest is %q", name)
			}
			errs = append(errs, fmt.Errorf("%q: no such task type, path or group%s (there are %s)", k, meant, strings.Join(names, ", ")))
		}
		if err := overrides[k].Validate(); err != nil {
			for line := range strings.Lines(err.Error()) {
				errs = append(errs, fmt.Errorf("%q: %s", k, strings.TrimSpace(line)))
			}
		}
	}
	return errors.Join(errs...)
}
