package console

import (
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// codeText is what an errcode means. Class names the texts class.<class> and class.<class>.do.
type codeText struct {
	Code    int
	Meaning string // "": WeChat documents none
	Class   string
}

// codeMeaning returns what an errcode means for a task type.
func codeMeaning(lang language, typ string, code int) codeText {
	spec, _ := tasks.Lookup(typ)
	row, listed := wechat.LookUp(wechat.Endpoint(spec.Path), code)
	text := codeText{Code: code, Class: row.Class.String()}
	switch {
	case !listed:
	case lang == chinese:
		text.Meaning = row.Chinese
	default:
		text.Meaning = row.Meaning
	}
	return text
}

// noAnswer is the class of attempts that have no answer of WeChat.
const noAnswer = "no_answer"

// failureMeaning is codeMeaning for the answer to an attempt: one without an errcode has none.
func failureMeaning(lang language, typ string, code int, class string) codeText {
	text := codeMeaning(lang, typ, code)
	if code == 0 {
		text.Meaning, text.Class = "", noAnswer
	}
	if class != "" {
		text.Class = class
	}
	return text
}

// outcomeMeaning is failureMeaning for the last answer to a task that has ended.
func outcomeMeaning(lang language, typ string, outcome tasks.Outcome, code int) (text codeText, answered bool) {
	switch outcome {
	case tasks.OutcomeFailed, tasks.OutcomeUnknown:
		return failureMeaning(lang, typ, code, ""), true
	case tasks.OutcomeAccepted, tasks.OutcomeRefused, tasks.OutcomeRejected, tasks.OutcomeExpired, tasks.OutcomeCanceled:
	}
	return codeMeaning(lang, typ, code), code != 0
}
