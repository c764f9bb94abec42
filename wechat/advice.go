package wechat

import (
	"cmp"
	"errors"
	"strconv"
)

// Advice says in a sentence what somebody can do about an error, "" when there is
// nothing to do but to wait. It serves logs and checks; no program should read it.
func Advice(err error) string {
	var apiErr *APIError
	switch {
	case errors.Is(err, ErrTokenRejected):
		return "WeChat refuses a token that it has just given: see in WeChat's console whether the app is restricted, and that base_url is the host of this app"
	case errors.Is(err, ErrNoCredentials):
		return "configure the app with its secret, or with a token service"
	case errors.As(err, &apiErr):
		return codeAdvice(apiErr)
	}
	return ""
}

func codeAdvice(err *APIError) string {
	switch err.Class() {
	case ClassConfig:
		return cmp.Or(configAdvice[err.Code], "mend the app's set-up in WeChat's console")
	case ClassAccount:
		return cmp.Or(accountAdvice[err.Code], "see in WeChat's console whether the account may call this API, and whether it is restricted")
	default:
		return ""
	}
}

const (
	adviceSecret  = "the app secret is wrong or was reset: configure the current one of this app"
	adviceIP      = "add the public IP address of this host to the app's IP whitelist in WeChat's console"
	adviceConsent = "have the account's administrator confirm this host's IP address in WeChat"
	advicePenalty = "read the notice of the penalty in WeChat's console, and appeal against it there"
	adviceGrant   = "have the account's administrator authorise the third-party platform once more, with this API among its permissions"
)

// configAdvice is what to do about the codes of ClassConfig that the token endpoints give.
var configAdvice = map[int]string{
	40001: adviceSecret,
	40125: adviceSecret,
	41004: adviceSecret,
	40013: "the app id is wrong: compare it with WeChat's console, letter by letter",
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
	89506: "the administrator refused this host's IP address; WeChat asks again after 24 hours at the earliest",
	89507: "the administrator refused this host's IP address; WeChat asks again after 1 hour at the earliest",
	50004: "the account may not use access tokens, as a penalty: see WeChat's console",
	50007: "the account is frozen: see WeChat's console",
}

// accountAdvice is what to do about the codes of ClassAccount that have more to say than
// that the API is not granted.
var accountAdvice = map[int]string{
	41033: "the API serves only mini programs that a third-party platform registered: call it for such a one",
	42005: "the account's use of this API has run out: renew it in WeChat's console",
	45063: "the app id is not that of a mini program: configure the mini program's own app id and secret",
	45087: advicePenalty,
	45093: "the account has no messages left to send: see its quota in WeChat's console",
	45094: advicePenalty,
	45501: advicePenalty,
	61003: adviceGrant,
	61007: adviceGrant,
	61017: adviceGrant,
	61028: "the third-party platform is not published: publish it in WeChat's open platform",
	85079: "release the mini program: WeChat makes links and codes for released ones alone",
}

func codeCause(code int) string { return "errcode " + strconv.Itoa(code) }
