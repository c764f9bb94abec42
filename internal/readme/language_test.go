package readme

import "github.com/wxcourier/wxcourier/tasks"

// A language is the words of one README's tables.
type language struct {
	file         string
	typesHead    string
	outcomesHead string
	warned       string
	kinds        map[tasks.Kind]string
	repeats      map[tasks.Repeat]string
	outcomes     map[tasks.Outcome]string
}

func languages() []language {
	return []language{
		{
			file:         "README.md",
			typesHead:    "| type | endpoint (its page) | what a success brings | repeated when no answer came |\n|---|---|---|---|\n",
			outcomesHead: "| outcome | meaning |\n|---|---|\n",
			warned:       "(retired by WeChat)",
			kinds: map[tasks.Kind]string{
				tasks.Message: "`msgid`, where WeChat gives one",
				tasks.Link:    "`openlink` or `url_link`",
				tasks.Code:    "an image, kept beside the result",
				tasks.Check:   "`suggest`, `label`, `trace_id`",
			},
			repeats: map[tasks.Repeat]string{
				tasks.Never:   "never: it could reach the person twice",
				tasks.Deduped: "within 10 minutes, by `client_msg_id`",
				tasks.Always:  "yes",
			},
			outcomes: map[tasks.Outcome]string{
				tasks.OutcomeAccepted: "WeChat took it (errcode 0); what it gave is in the result. A content check that found something is accepted too, with `suggest` `risky`",
				tasks.OutcomeRefused:  "the person's choice or state forbids it: 43101, 43004, 45015, 45047 …",
				tasks.OutcomeRejected: "the request is wrong and always will be: 47003, 40003, 40037, 41030 …, with WeChat's errmsg and rid",
				tasks.OutcomeExpired:  "`not_after` passed before it could be sent",
				tasks.OutcomeFailed:   "the attempts ran out on passing errors; the last one is named",
				tasks.OutcomeUnknown:  "it was written to WeChat, no answer came, and repeating it could double it",
				tasks.OutcomeCanceled: "it was taken back before it was sent",
			},
		},
		{
			file:         "README.zh-CN.md",
			typesHead:    "| 任务类型 | 接口（官方文档） | 成功时得到 | 没有收到应答时是否重发 |\n|---|---|---|---|\n",
			outcomesHead: "| 结局 | 含义 |\n|---|---|\n",
			warned:       "（微信已下线）",
			kinds: map[tasks.Kind]string{
				tasks.Message: "`msgid`（微信返回时）",
				tasks.Link:    "`openlink` 或 `url_link`",
				tasks.Code:    "图片，与结果一同保存",
				tasks.Check:   "`suggest`、`label`、`trace_id`",
			},
			repeats: map[tasks.Repeat]string{
				tasks.Never:   "不重发：用户可能收到两次",
				tasks.Deduped: "10 分钟内重发，靠 `client_msg_id` 去重",
				tasks.Always:  "重发",
			},
			outcomes: map[tasks.Outcome]string{
				tasks.OutcomeAccepted: "微信已受理（errcode 0），返回的内容在结果里。内容检测查出问题也算受理，`suggest` 为 `risky`",
				tasks.OutcomeRefused:  "用户的选择或状态不允许：43101、43004、45015、45047 等",
				tasks.OutcomeRejected: "请求本身有错，重试也不会成功：47003、40003、40037、41030 等，附微信的 errmsg 与 rid",
				tasks.OutcomeExpired:  "发出之前 `not_after` 已过",
				tasks.OutcomeFailed:   "临时错误用完了尝试次数，结果里写明最后一次的错误",
				tasks.OutcomeUnknown:  "请求已写给微信，没有收到应答，重发可能造成重复",
				tasks.OutcomeCanceled: "发出之前被撤回",
			},
		},
	}
}
