package wechat

// Class is the meaning of a WeChat errcode for a caller. It says what happened, not what to
// do about it.
type Class uint8

// The classes, in the order in which the code table lists them.
const (
	// ClassUnlisted: the code table has no row for this code.
	ClassUnlisted Class = iota
	// ClassOK: WeChat accepted the request.
	ClassOK
	// ClassToken: the access token was refused; the rest of the request was not examined.
	ClassToken
	// ClassBusy: WeChat is busy or failed temporarily; the request was not carried out.
	ClassBusy
	// ClassRateSecond: too many calls within a second.
	ClassRateSecond
	// ClassRateMinute: too many calls within a minute.
	ClassRateMinute
	// ClassQuotaDay: the daily quota of the endpoint is used up.
	ClassQuotaDay
	// ClassPerUser: another message to the same openid is being sent at this moment, or the person
	// logged in too often within a minute. It concerns no other person.
	ClassPerUser
	// ClassPerUserLong: this openid got too many messages; WeChat does not publish the limit.
	ClassPerUserLong
	// ClassConfig: the app's configuration is wrong: its secret, its IP list, its state.
	// Every request of the app fails until an operator corrects it.
	ClassConfig
	// ClassUnauthorized: the account has not authorized the service provider that calls for it, or
	// has taken that back. Every request of the app fails until its administrator authorizes it.
	ClassUnauthorized
	// ClassAccount: the app may not use this endpoint: no permission, banned, not released.
	ClassAccount
	// ClassTemplate: the message template is banned or restricted.
	ClassTemplate
	// ClassRefused: the person's choice or state: not subscribed, not following, inactive.
	ClassRefused
	// ClassRejected: the request is wrong; repeating it gives the same error.
	ClassRejected
	// ClassRisky: the checked content is risky. A verdict, not a failure.
	ClassRisky
	// ClassRetired: WeChat has switched this endpoint off.
	ClassRetired
)

// String returns the class as a metric label or log value, such as "rate_minute".
func (c Class) String() string {
	switch c {
	case ClassOK:
		return "ok"
	case ClassToken:
		return "token"
	case ClassBusy:
		return "busy"
	case ClassRateSecond:
		return "rate_second"
	case ClassRateMinute:
		return "rate_minute"
	case ClassQuotaDay:
		return "quota_day"
	case ClassPerUser:
		return "per_user"
	case ClassPerUserLong:
		return "per_user_long"
	case ClassConfig:
		return "config"
	case ClassUnauthorized:
		return "unauthorized"
	case ClassAccount:
		return "account"
	case ClassTemplate:
		return "template"
	case ClassRefused:
		return "refused"
	case ClassRejected:
		return "rejected"
	case ClassRisky:
		return "risky"
	case ClassRetired:
		return "retired"
	case ClassUnlisted:
		return "unlisted"
	}
	return "unlisted"
}

// Classes returns every class, in the order of the code table.
func Classes() []Class {
	list := make([]Class, 0, ClassRetired+1)
	for c := ClassUnlisted; c <= ClassRetired; c++ {
		list = append(list, c)
	}
	return list
}
