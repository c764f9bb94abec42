package readme

import (
	"path/filepath"
	"strings"

	"github.com/wxcourier/wxcourier/tasks"
)

// maxReadme is the largest size of a README in bytes: five minutes of reading.
const maxReadme = 12 << 10

// A language is one translation of the pages, with the words of its tables.
type language struct {
	file string // its README
	docs string // the folder of its other pages

	typesHead    string
	retired      string
	kinds        map[tasks.Kind]string
	repeats      map[tasks.Repeat]string
	pagesHead    string
	outcomesHead string
	outcomes     map[tasks.Outcome]string
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
		commandsHead: "| command | what it does |\n|---|---|\n",
		retired:      "(retired by WeChat)",
		kinds: map[tasks.Kind]string{
			tasks.Message: "`msgid`, if WeChat returns one",
			tasks.Link:    "`openlink` or `url_link`",
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
	}
}

func chinese() language {
	return language{
		file:         "README.zh-CN.md",
		docs:         "docs/zh-CN",
		typesHead:    "| 任务类型 | 接口 | 成功时返回 | 没有收到应答时是否重发 |\n|---|---|---|---|\n",
		pagesHead:    "| 任务类型 | 接口（微信官方文档） |\n|---|---|\n",
		outcomesHead: "| 结果 | 含义 |\n|---|---|\n",
		commandsHead: "| 命令 | 作用 |\n|---|---|\n",
		retired:      "（微信已下线）",
		kinds: map[tasks.Kind]string{
			tasks.Message: "`msgid`（若微信返回）",
			tasks.Link:    "`openlink` 或 `url_link`",
			tasks.Code:    "图片",
			tasks.Check:   "`suggest`、`label`、`trace_id`",
		},
		repeats: map[tasks.Repeat]string{
			tasks.Never:   "不重发，否则可能收到两次",
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
		commands: map[string]string{
			"run":         "把文件中的任务入队并投递，每个任务输出一行结果",
			"dev":         "在一个进程里运行全部组件：Redis、模拟微信、worker 和 asynq 网页",
			"worker":      "运行一个副本，投递队列中的任务",
			"enqueue":     "把文件中的任务入队",
			"results":     "列出任务的结果",
			"status":      "显示积压的任务、生效的暂停和各项配额的用量",
			"cancel":      "取消尚未发出的任务",
			"redrive":     "把已结束的任务以原 id 重新入队",
			"hold":        "暂停一个应用、一种任务类型或一个模板",
			"release":     "解除暂停",
			"check":       "检查配置、Redis 和每个应用的凭据",
			"bench":       "在本机测量一套部署的吞吐量和开销",
			"sandbox":     "启动模拟的微信服务端",
			"version":     "输出版本号",
			"healthcheck": "查询 worker 是否就绪，供容器运行时使用",
		},
		codesHead:   "| 错误码 | 接口 | 含义 | 类别 |",
		codesCells:  strings.NewReplacer("| everywhere |", "| 所有接口 |", "| elsewhere |", "| 其余接口 |"),
		limitsHead:  "| 类型或分组 | 每秒 | 每分钟 | 每天 | 总量 | 出处 |",
		limitsCells: strings.NewReplacer(" (shared by ", "（由 ", "`, `", "`、`", "`) |", "` 共用） |"),
	}
}
