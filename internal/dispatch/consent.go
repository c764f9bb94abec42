package dispatch

import "github.com/wxcourier/wxcourier/internal/consent"

// errcodeRefused is WeChat's answer where the person has no credit left, or refuses the template.
const errcodeRefused = 43101

// ConsentReply returns what the error of a call that was made says about the consent of the receiver;
// nil is WeChat's acceptance.
func ConsentReply(err error) consent.Reply {
	switch {
	case err == nil:
		return consent.Taken
	case codeOf(err) == errcodeRefused:
		return consent.Refused
	case NoAnswer(err):
		return consent.NoReply
	}
	return consent.NotTaken
}
