package wechat

import (
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
	case errors.As(err, &apiErr) && apiErr.Class() == ClassConfig:
		if advice, ok := configAdvice[apiErr.Code]; ok {
			return advice
		}
		return "mend the app's set-up in WeChat's console"
	}
	return ""
}

const (
	adviceSecret  = "the app secret is wrong or was reset: configure the current one of this app"
	adviceIP      = "add the public IP address of this host to the app's IP whitelist in WeChat's console"
	adviceConsent = "have the account's administrator confirm this host's IP address in WeChat"
)

// configAdvice is what to do about the codes of ClassConfig that the token endpoints give.
var configAdvice = map[int]string{
	40001: adviceSecret,
	40125: adviceSecret,
	41004: adviceSecret,
	40013: "the app id is wrong: compare it with WeChat's console, letter by letter",
	41002: "the app id is missing: configure it",
	40243: "the app secret is frozen: unfreeze or reset it in WeChat's console",
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

func codeCause(code int) string { return "errcode " + strconv.Itoa(code) }
