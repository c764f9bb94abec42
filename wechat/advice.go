package wechat

import (
	"cmp"
	"errors"
	"strconv"
)

// Advice returns one sentence on how to fix the cause of an error, "" when waiting is the
// only remedy. It is meant for people (logs, checks), not for programs.
func Advice(err error) string {
	var apiErr *APIError
	switch {
	case errors.Is(err, ErrTokenRejected):
		return "WeChat refuses a token that it has just issued: check in WeChat's console whether the app is restricted, and that base_url is the right host for this app"
	case errors.Is(err, ErrNoCredentials):
		return "configure the app's secret, or a token service"
	case errors.Is(err, ErrNoTicket):
		return "check that WeChat reaches the gateway's callback of the service provider (in the open platform: the URL for authorization events), and that its token and key are the configured ones; the next ticket comes within ten minutes"
	case errors.Is(err, ErrUnauthorized):
		return adviceAuthorize
	case errors.As(err, &apiErr):
		return codeAdvice(apiErr)
	}
	return ""
}

func codeAdvice(err *APIError) string {
	switch err.Class() {
	case ClassConfig:
		return cmp.Or(configAdvice[err.Code], "correct the app's configuration in WeChat's console")
	case ClassUnauthorized:
		return adviceAuthorize
	case ClassAccount:
		return cmp.Or(accountAdvice[err.Code], "check in WeChat's console whether the account may call this API, and whether it is restricted")
	default:
		return ""
	}
}

const (
	adviceSecret    = "the app secret is wrong or was reset: configure the current one of this app"
	adviceIP        = "add the public IP address of this host to the app's IP whitelist in WeChat's console"
	adviceConsent   = "ask the account's administrator to confirm this host's IP address in WeChat"
	advicePenalty   = "read the penalty notice in WeChat's console; appeals are made there too"
	adviceAuthorize = "ask the account's administrator to authorize the third-party platform again: then the app goes on by itself"
	adviceGrant     = "ask the account's administrator to authorize the third-party platform again, including this API"
)

// configAdvice holds the advice for codes of ClassConfig that the token endpoints return.
var configAdvice = map[int]string{
	40001: adviceSecret,
	40125: adviceSecret,
	41004: adviceSecret,
	40013: "the app id is wrong: compare it with the one in WeChat's console",
	41002: "the app id is missing: configure it",
	40243: "the app secret is frozen: unfreeze or reset it in WeChat's console",
	40090: adviceIP,
	40164: adviceIP,
	45032: adviceIP,
	45035: adviceIP,
	61004: adviceIP,
	89501: adviceConsent,
	89502: adviceConsent,
	89503: adviceConsent,
	89504: adviceConsent,
	89505: adviceConsent,
	89506: "the administrator refused this host's IP address; it can be requested again after 24 hours",
	89507: "the administrator refused this host's IP address; it can be requested again after 1 hour",
	50004: "the account may not use access tokens, as a penalty: see the notice in WeChat's console",
	50007: "the account is frozen: see WeChat's console",
}

// accountAdvice holds the advice for codes of ClassAccount with a more specific cause than
// an API that is not granted.
var accountAdvice = map[int]string{
	41033: "the API is only for mini programs that a third-party platform registered",
	42005: "the account's permission for this API has expired: renew it in WeChat's console",
	45063: "the app is not a mini program: configure the mini program's own app id and secret",
	45087: advicePenalty,
	45093: "the account has no messages left to send: see its quota in WeChat's console",
	45094: advicePenalty,
	45501: advicePenalty,
	61007: adviceGrant,
	61017: adviceGrant,
	61028: "the third-party platform is not published: publish it in WeChat's open platform",
	85079: "release the mini program: WeChat generates links and codes only for released ones",
}

func codeCause(code int) string { return "errcode " + strconv.Itoa(code) }
