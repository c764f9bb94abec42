package tasks

import "time"

// Window is for how long after the first request a repetition is harmless when no
// answer came: ten minutes for what WeChat drops by client_msg_id
// (https://developers.weixin.qq.com/doc/offiaccount/Message_Management/Template_Message_Interface.html),
// 0 for Never, and for Always, which has no such bound, 0 as well.
func (r Repeat) Window() time.Duration {
	if r == Deduped {
		return 10 * time.Minute
	}
	return 0
}
