package readme

import (
	"path/filepath"
	"strings"

	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// maxReadme is the largest size of a README in bytes: five minutes of reading.
const maxReadme = 12 << 10

// A language is one translation of the pages, with the words of its tables.
type language struct {
	file string // its README
	docs string // the folder of its other pages

	typesHead    string
	retired      string
	scarce       string // added to the repetition of a type with Spec.Scarce
	kinds        map[tasks.Kind]string
	repeats      map[tasks.Repeat]string
	pagesHead    string
	outcomesHead string
	outcomes     map[tasks.Outcome]string
	resultHead   string
	always       string            // added to the type of a field that every result has
	jsonTypes    map[string]string // string, number, time, object
	result       map[string]string // meanings of a result's fields, by their JSON names
	commandsHead string
	commands     map[string]string // nil: the help texts of the program

	// Empty: as the code writes them.
	codesHead   string
	codesCells  *strings.Replacer
	limitsHead  string
	limitsCells *strings.Replacer
}

// readme returns the path of the language's README.
func (l language) readme() string { return l.file }

// doc returns the path of one of the language's other pages.
func (l language) doc(name string) string { return filepath.Join(l.docs, name) }

func languages() []language { return []language{english(), chinese()} }

func english() language {
	return language{
		file:         "README.md",
		docs:         "docs",
		typesHead:    "| type | endpoint | a success returns | repeated after no answer |\n|---|---|---|---|\n",
		pagesHead:    "| type | endpoint, with WeChat's page |\n|---|---|\n",
		outcomesHead: "| outcome | meaning |\n|---|---|\n",
		resultHead:   "| field | type | meaning |\n|---|---|---|\n",
		commandsHead: "| command | what it does |\n|---|---|\n",
		retired:      "(retired by WeChat)",
		scarce:       ", unless it is permanent",
		kinds: map[tasks.Kind]string{
			tasks.Message: "`msgid`, if WeChat returns one",
			tasks.Link:    "`openlink`, `url_link` or `link`",
			tasks.Code:    "an image",
			tasks.Check:   "`suggest`, `label`, `trace_id`",
		},
		repeats: map[tasks.Repeat]string{
			tasks.Never:   "no: it could arrive twice",
			tasks.Deduped: "within 10 minutes, by `client_msg_id`",
			tasks.Always:  "yes",
		},
		outcomes: map[tasks.Outcome]string{
			tasks.OutcomeAccepted: "WeChat accepted it (errcode 0). A content check that found something is accepted too, with `suggest` `risky`",
			tasks.OutcomeRefused:  "the receiver's choice or state forbids it: 43101, 43004, 45015, 45047 …",
			tasks.OutcomeRejected: "the request is wrong and a retry cannot succeed: 47003, 40003, 40037, 41030 …; with WeChat's errmsg and rid",
			tasks.OutcomeExpired:  "`not_after` passed before it could be sent",
			tasks.OutcomeFailed:   "all attempts met transient errors; the result has the last one",
			tasks.OutcomeUnknown:  "the request was written, no answer came, and a repetition could arrive twice",
			tasks.OutcomeCanceled: "it was canceled before it was sent",
		},
		always:    ", always",
		jsonTypes: map[string]string{"string": "string", "number": "number", "time": "time", "object": "object", "strings": "list of strings"},
		result: map[string]string{
			"id":         "the task's id",
			"app":        "its app",
			"type":       "its type",
			"batch":      "its batch",
			"state":      "`scheduled`, `waiting`, `sending`, `retrying` or `done`; `done` exactly when there is an `outcome`",
			"outcome":    "how the task ended, see [outcomes](../README.md#outcomes)",
			"errcode":    "WeChat's answer to the last attempt, see [codes](codes.md); 0 also without an answer",
			"errmsg":     "WeChat's text",
			"rid":        "WeChat's request id, for which rid/get returns details for seven days",
			"attempts":   "number of calls to WeChat",
			"msgid":      "the message's id in digits, which the receipt events have too. It is a string because it exceeds 2^53",
			"openlink":   "the weixin:// link of `scheme:generate`",
			"url_link":   "the https:// link of `scheme:urllink`",
			"link":       "a short link",
			"image":      "the media type of a mini program code's image, such as `image/png`. The image is [beside the record](#where-results-are-kept)",
			"suggest":    "a content check's advice: `pass`, `review` or `risky`",
			"label":      "a content check's category, in digits",
			"trace_id":   "a content check's id at WeChat",
			"reason":     "explains the outcome where `errmsg` does not, see [reasons](#reasons). Before the end: the reason of the hold, or `canceled`",
			"generation": "number of redrives",
			"supersedes": "`unknown`, if this outcome replaced that one",

			"receipt":        "what became of the message after WeChat had accepted it: `delivered`, `blocked` (by the person) or `failed`; absent without a receipt",
			"receipt_status": "WeChat's text of the receipt, such as `success` or `failed:user block`",
			"receipt_at":     "the time of the receipt",
			"fixed":          "what was changed in the body before it was sent, see `templates.fix`",

			"enqueued_at": "when the task was enqueued",
			"finished_at": "when the outcome was recorded",
			"last":        "of a task without an outcome: the answer to its last attempt, see [a task that waits](#a-task-that-waits)",
			"waits_for":   "of a task without an outcome: what it waits for, see [a task that waits](#a-task-that-waits)",
			"next_at":     "when that ends, if it ends by itself",
		},
	}
}

func chinese() language {
	return language{
		file:         "README.zh-CN.md",
		docs:         "docs/zh-CN",
		typesHead:    "| 任务类型 | 接口 | 成功时返回 | 没有收到应答时是否重发 |\n|---|---|---|---|\n",
		pagesHead:    "| 任务类型 | 接口（微信官方文档） |\n|---|---|\n",
		outcomesHead: "| 结果 | 含义 |\n|---|---|\n",
		resultHead:   "| 字段 | 类型 | 含义 |\n|---|---|---|\n",
		commandsHead: "| 命令 | 作用 |\n|---|---|\n",
		retired:      "（微信已下线）",
		scarce:       "（永久的除外）",
		kinds: map[tasks.Kind]string{
			tasks.Message: "`msgid`（若微信返回）",
			tasks.Link:    "链接",
			tasks.Code:    "图片",
			tasks.Check:   "检测结论",
		},
		repeats: map[tasks.Repeat]string{
			tasks.Never:   "不重发，以免重复",
			tasks.Deduped: "10 分钟内重发，靠 `client_msg_id` 去重",
			tasks.Always:  "重发",
		},
		outcomes: map[tasks.Outcome]string{
			tasks.OutcomeAccepted: "微信已受理（errcode 0）。内容检测判为违规也属于 `accepted`，此时 `suggest` 为 `risky`",
			tasks.OutcomeRefused:  "用户的选择或状态不允许：43101、43004、45015、45047 等",
			tasks.OutcomeRejected: "请求本身有错，重试也不会成功：47003、40003、40037、41030 等，附微信的 errmsg 和 rid",
			tasks.OutcomeExpired:  "未能在 `not_after` 之前发出",
			tasks.OutcomeFailed:   "临时错误耗尽了重试次数，结果中有最后一次的错误",
			tasks.OutcomeUnknown:  "请求已发出但没有收到应答，重发可能造成重复",
			tasks.OutcomeCanceled: "发出之前已取消",
		},
		always:    "，必有",
		jsonTypes: map[string]string{"string": "字符串", "number": "数字", "time": "时间", "object": "对象", "strings": "字符串列表"},
		result: map[string]string{
			"id":         "任务 id",
			"app":        "所属应用",
			"type":       "任务类型",
			"batch":      "所属批次",
			"state":      "`scheduled`、`waiting`、`sending`、`retrying` 或 `done`；有 `outcome` 时为 `done`",
			"outcome":    "任务结果，见 [README](../../README.zh-CN.md#任务结果)",
			"errcode":    "最后一次调用的微信[错误码](codes.md)，没有收到应答时也为 0",
			"errmsg":     "微信返回的错误信息",
			"rid":        "微信的请求 id，七天内可用 rid/get 查询详情",
			"attempts":   "调用微信的次数",
			"msgid":      "消息 id（数字），与回执事件中的相同；因为超过 2^53，所以是字符串",
			"openlink":   "`scheme:generate` 的 weixin:// 链接",
			"url_link":   "`scheme:urllink` 的 https:// 链接",
			"link":       "短链接",
			"image":      "小程序码图片的类型，例如 `image/png`；图片与[任务记录](#结果存放在哪里)一同保存",
			"suggest":    "内容检测的建议：`pass`、`review` 或 `risky`",
			"label":      "内容检测命中的类别（数字）",
			"trace_id":   "内容检测在微信侧的 id",
			"reason":     "`errmsg` 不足以说明时的[原因](#结果的原因)；任务未结束时为暂停的原因，或 `canceled`",
			"generation": "重投次数",
			"supersedes": "`unknown`：这次的结果取代了它",

			"receipt":        "微信接受之后消息的去向：`delivered`（送达）、`blocked`（被用户拒收）或 `failed`（失败）；没有回执时不出现",
			"receipt_status": "微信回执的原文，如 `success`、`failed:user block`",
			"receipt_at":     "回执的时间",
			"fixed":          "发送前对内容的改动，见 `templates.fix`",

			"enqueued_at": "入队时间",
			"finished_at": "记录结果的时间",
			"last":        "未结束的任务：最近一次尝试的应答，见[等待中的任务](#等待中的任务)",
			"waits_for":   "未结束的任务：在等什么，见[等待中的任务](#等待中的任务)",
			"next_at":     "等到什么时候；不会自行结束的等待没有这一项",
		},
		commands: map[string]string{
			"run":         "把文件中的任务入队并投递，每个任务输出一行结果",
			"dev":         "在一个进程里运行全部组件：Redis、模拟微信、worker、网关和 asynq 网页",
			"worker":      "运行一个副本，投递队列中的任务",
			"gateway":     "提供 HTTP API，供任意语言的业务程序使用",
			"enqueue":     "把文件中的任务入队",
			"send":        "向表格里的每一行发送一条消息",
			"results":     "列出任务的结果",
			"status":      "显示积压的任务、生效的暂停和各项配额的用量",
			"task":        "显示一个任务在哪里、在等什么、经历了什么",
			"cancel":      "取消尚未发出的任务",
			"redrive":     "把已结束的任务以原 id 重新入队",
			"hold":        "暂停一个应用、一种任务类型或一个模板",
			"release":     "解除暂停",
			"key":         "管理网关客户端的密钥",
			"audit":       "列出谁做过哪些操作：暂停、解除、取消、重投等",
			"quota":       "向微信查询当天的配额，或将其清零",
			"templates":   "列出应用的消息模板及其字段",
			"authorize":   "输出账号授权给第三方平台所用的链接",
			"call":        "在 worker 的限频之下直接调用一次微信服务端接口",
			"webhooks":    "列出接收结果的 webhook 端点，测试端点，重新推送结果",
			"check":       "检查配置、Redis 和每个应用的凭据",
			"bench":       "在本机测量一套部署的吞吐量和开销",
			"sandbox":     "启动模拟的微信服务端",
			"version":     "输出版本号",
			"healthcheck": "查询 worker 或网关是否就绪，供容器运行时使用",
		},
		codesHead:   "| 错误码 | 接口 | 含义 | 类别 |",
		codesCells:  chineseCodeCells(),
		limitsHead:  "| 类型、路径或分组 | 每秒 | 每分钟 | 每天 | 总量 | 出处 |",
		limitsCells: strings.NewReplacer(" (shared by ", "（由 ", "`, `", "`、`", "`) |", "` 共用） |"),
	}
}

// chineseCodeCells translates the cells of the table of codes.
func chineseCodeCells() *strings.Replacer {
	words := []string{"| everywhere |", "| 所有接口 |", "| elsewhere |", "| 其余接口 |"}
	for _, row := range wechat.Codes() {
		words = append(words, " "+row.Meaning+" | `", " "+row.Chinese+" | `")
	}
	return strings.NewReplacer(words...)
}
