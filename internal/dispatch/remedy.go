package dispatch

import (
	"cmp"
	"strings"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/wechat"
)

// Probed reports whether a hold ends with a probe: at its end the next call shows whether the
// cause is gone, and if it is not, the hold is set again. The other holds end with their cause,
// or when an operator says so.
func Probed(h hold.Hold) bool {
	return strings.HasPrefix(h.By, hold.ReplicaPrefix) && probed(h.Reason)
}

func probed(reason string) bool {
	for _, r := range rules {
		switch reason {
		case r.reason:
			return r.ends == "" && r.slows == ""
		case r.tripReason:
			return true
		}
	}
	return reason == tokenUnavailable
}

// remedy is what an operator can do about a hold: first about its cause, then about the hold.
// In release, APP stands for the app, and SCOPE for the flag that names the scope.
type remedy struct {
	endpoint wechat.Endpoint // whose meaning of the errcode applies; "": the general one
	cause    string          // where package wechat has no advice on the errcode
	release  string
}

// remedies holds the remedies by the reason of a hold. Holds that are not listed end by
// themselves.
var remedies = map[string]remedy{
	appConfig: {
		endpoint: wechat.EndpointStableToken, cause: "wxcourier check shows what is wrong with the app's configuration",
		release: "then the workers take over a changed configuration and end the hold; after a change elsewhere: wxcourier release --app APP",
	},
	tokenRejected: {
		cause:   "make sure that no other system makes tokens for the app, and that it may call this API",
		release: "then: wxcourier release --app APP SCOPE",
	},
	tokenUnavailable: {
		cause: "if it lasts, check the network, the proxy and the token service",
	},
	hold.ReasonUnauthorized: {
		cause:   "ask the account's administrator to authorize the service provider again",
		release: "WeChat's push about it ends the hold; without it: wxcourier release --app APP",
	},
	capability: {
		cause:   "check in WeChat's console whether the account may call this API",
		release: "then: wxcourier release --app APP SCOPE",
	},
	ReasonTemplateHeld: {
		cause:   "check in WeChat's console why the template was stopped",
		release: "then: wxcourier release --app APP SCOPE, and redrive its rejected messages",
	},
}

// Remedy returns what an operator can do about a hold, in one sentence. It returns "" for a hold
// that ends by itself, or that was set by an operator.
func Remedy(h hold.Hold) string {
	r, ok := remedies[h.Reason]
	if !ok || !strings.HasPrefix(h.By, hold.ReplicaPrefix) {
		return ""
	}
	text := r.cause
	if h.Code != 0 {
		text = cmp.Or(wechat.Advice(&wechat.APIError{Endpoint: r.endpoint, Code: h.Code}), text)
	}
	if r.release != "" {
		text += "; " + strings.NewReplacer("APP", h.App, " SCOPE", scopeFlag(h.Scope)).Replace(r.release)
	}
	return text
}

// scopeFlag returns the flag of the release command that names a scope, with a space before it.
func scopeFlag(scope string) string {
	switch {
	case scope == hold.WholeApp:
		return ""
	case hold.IsTemplate(scope):
		return " --template " + strings.TrimPrefix(scope, hold.TemplateScope(""))
	}
	return " --type " + scope
}
