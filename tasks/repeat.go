package tasks

import "time"

// Window returns how long after the first request WeChat drops a repeated one: ten minutes
// for Deduped
// (https://developers.weixin.qq.com/doc/offiaccount/Message_Management/Template_Message_Interface.html).
// It returns 0 for Never, and for Always, which may be repeated at any time.
func (r Repeat) Window() time.Duration {
	if r == Deduped {
		return 10 * time.Minute
	}
	return 0
}
