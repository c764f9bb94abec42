package pushes

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat/callback"
)

// The reasons of outcomes of media checks.
const (
	ReasonMediaDownload = "media_download" // WeChat could not download the file
	ReasonCheckFailed   = "check_failed"   // WeChat could not check it, for another reason
	ReasonNoCallback    = "no_callback"    // no push came in time
)

// errDownload is the errcode of a push about a file that WeChat could not download.
const errDownload = -1008

// encodeCheck returns a verdict as it is kept until its task is known.
func encodeCheck(m callback.MediaCheck) []byte {
	text, _ := json.Marshal(m) // cannot fail on strings and a number
	return text
}

// CompleteEarlyCheck is CompleteCheck for a push that came before its task waited for it, as the
// ledger kept it.
func CompleteEarlyCheck(r *tasks.Result, kept []byte, now time.Time) error {
	var m callback.MediaCheck
	if err := json.Unmarshal(kept, &m); err != nil {
		return errors.New("the callback of the check cannot be read")
	}
	CompleteCheck(r, m, now)
	return nil
}

// CompleteCheck adds WeChat's verdict, which ends the task, to the result of a media check.
func CompleteCheck(r *tasks.Result, m callback.MediaCheck, now time.Time) {
	r.State, r.FinishedAt, r.TraceID = tasks.StateDone, now.UTC(), m.TraceID
	switch m.ErrCode {
	case 0:
		r.Outcome, r.Suggest, r.Label = tasks.OutcomeAccepted, m.Suggest, m.Label
	case errDownload:
		r.Outcome, r.Reason = tasks.OutcomeRejected, ReasonMediaDownload
		r.ErrCode, r.ErrMsg = m.ErrCode, "WeChat could not download the file"
	default:
		r.Outcome, r.Reason = tasks.OutcomeFailed, ReasonCheckFailed
		r.ErrCode, r.ErrMsg = m.ErrCode, "WeChat could not check the file"
	}
}
