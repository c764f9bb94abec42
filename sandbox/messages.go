package sandbox

import (
	"encoding/json"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"
)

// firstMessageID exceeds 2^53, as WeChat's ids do, so that a client that parses numbers as floating point loses digits.
const firstMessageID = 3395159288267931652

// dedupeSpan is how long a client_msg_id suppresses a second message.
// Source: https://developers.weixin.qq.com/doc/service/api/notify/template/api_sendtemplatemessage.html
const dedupeSpan = 10 * time.Minute

// maxTextBytes bounds the text of a custom message.
const maxTextBytes = 2048

// addressed is a message to one person.
type addressed struct {
	ToUser string `json:"touser"`
}

func (m *addressed) receiver() string    { return m.ToUser }
func (m *addressed) template() string    { return "" }
func (m *addressed) faultSource() string { return m.ToUser }

func validOpenID(openid string) bool {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
	return openid != "" && len(openid) <= 128 && strings.Trim(openid, letters) == ""
}

// templated is a message that fills a template.
type templated struct {
	addressed
	TemplateID string                       `json:"template_id"`
	Data       object[map[string]dataValue] `json:"data"`
}

func (m *templated) template() string { return m.TemplateID }

type dataValue struct {
	Value json.RawMessage `json:"value"`
}

func (m *templated) checkAddress() *refusal {
	switch {
	case !validOpenID(m.ToUser):
		return refuse(40003)
	case strings.TrimSpace(m.TemplateID) == "":
		return refuse(40037)
	}
	return nil
}

// subscribeRequest is the body of subscribe/send.
// Source: https://developers.weixin.qq.com/miniprogram/dev/server/API/mp-message-management/subscribe-message/
type subscribeRequest struct {
	templated
	Page        string          `json:"page"`
	MiniProgram object[program] `json:"miniprogram"`
	State       string          `json:"miniprogram_state"`
	Lang        string          `json:"lang"`
}

type program struct {
	AppID    string `json:"appid"`
	PagePath string `json:"pagepath"`
}

func (m *subscribeRequest) check(env *checkEnv) *refusal {
	return m.checkWith(env, env.hasPage(m.Page))
}

// bizRequest is the body of subscribe/bizsend. Its page is a web page; a page of a mini program is in miniprogram.
// Source: https://developers.weixin.qq.com/doc/service/api/notify/notify/api_sendnewsubscribemsg.html
type bizRequest struct{ subscribeRequest }

func (m *bizRequest) check(env *checkEnv) *refusal {
	return m.checkWith(env, webAddress(m.Page) || env.hasPage(m.Page))
}

// hostOf returns the host name of a URL.
func hostOf(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// webAddress reports whether a text is the URL of a web page.
func webAddress(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && oneOf(u.Scheme, "http", "https")
}

// checkWith checks a message; goodPage is the result of checking its page.
func (m *subscribeRequest) checkWith(env *checkEnv, goodPage bool) *refusal {
	if refused := m.checkAddress(); refused != nil {
		return refused
	}
	if !goodPage {
		return refuse(41030)
	}
	if !oneOf(m.State, "", "developer", "trial", "formal") {
		return &refusal{47003, "argument invalid! miniprogram_state invalid"}
	}
	if !oneOf(m.Lang, "", "zh_CN", "en_US", "zh_HK", "zh_TW") {
		return &refusal{47003, "argument invalid! lang invalid"}
	}
	return env.values.checkData(m.Data.Value, m.faults())
}

func (m *subscribeRequest) faults() valueFaults {
	return valueFaults{"argument invalid! data.%s.value is emtpy", "argument invalid! data.%s.value invalid"}
}

// hasPage reports whether a page is in the released mini program. A leading slash and parameters are ignored.
func (env *checkEnv) hasPage(page string) bool {
	if page == "" {
		return true
	}
	path, _, _ := strings.Cut(strings.TrimPrefix(page, "/"), "?")
	if path == "" || strings.ContainsAny(path, " \t\r\n") || strings.Contains(path, "://") {
		return false
	}
	return env.pages == nil || env.pages[path]
}

func oneOf(value string, words ...string) bool {
	for _, w := range words {
		if value == w {
			return true
		}
	}
	return false
}

// templateRequest is the body of template/send.
// Source: https://developers.weixin.qq.com/doc/service/api/notify/template/api_sendtemplatemessage.html
type templateRequest struct {
	templated
	URL         string          `json:"url"`
	MiniProgram object[program] `json:"miniprogram"`
	ClientMsgID string          `json:"client_msg_id"`
}

func (m *templateRequest) check(env *checkEnv) *refusal {
	if refused := m.checkAddress(); refused != nil {
		return refused
	}
	if id := m.MiniProgram.Value.AppID; id != "" && !strings.HasPrefix(id, "wx") {
		return refuse(40013)
	}
	return env.values.checkData(m.Data.Value, m.faults())
}

func (m *templateRequest) faults() valueFaults {
	return valueFaults{"data format error, %s.DATA is emtpy", "data format error, %s.DATA is invalid"}
}

// customRequest is the body of custom/send.
// Source: https://developers.weixin.qq.com/miniprogram/dev/server/API/kf-mgnt/
type customRequest struct {
	addressed
	MsgType string `json:"msgtype"`
	Text    struct {
		Content string `json:"content"`
	} `json:"text"`
	Image  media `json:"image"`
	Voice  media `json:"voice"`
	Video  media `json:"video"`
	MPNews media `json:"mpnews"`
	Music  struct {
		ThumbMediaID string `json:"thumb_media_id"`
	} `json:"music"`
	News struct {
		Articles []json.RawMessage `json:"articles"`
	} `json:"news"`
	Link struct {
		URL string `json:"url"`
	} `json:"link"`
	MiniProgramPage struct {
		PagePath     string `json:"pagepath"`
		ThumbMediaID string `json:"thumb_media_id"`
	} `json:"miniprogrampage"`
	MsgMenu struct {
		List []json.RawMessage `json:"list"`
	} `json:"msgmenu"`
	WXCard struct {
		CardID string `json:"card_id"`
	} `json:"wxcard"`
	MPNewsArticle struct {
		ArticleID string `json:"article_id"`
	} `json:"mpnewsarticle"`
}

type media struct {
	MediaID string `json:"media_id"`
}

func (m *customRequest) check(*checkEnv) *refusal {
	if !validOpenID(m.ToUser) {
		return refuse(40003)
	}
	needed := map[string]struct {
		value string
		code  int
	}{
		"text":            {m.Text.Content, 44004},
		"image":           {m.Image.MediaID, 40007},
		"voice":           {m.Voice.MediaID, 40007},
		"video":           {m.Video.MediaID, 40007},
		"mpnews":          {m.MPNews.MediaID, 40007},
		"music":           {m.Music.ThumbMediaID, 40007},
		"miniprogrampage": {m.MiniProgramPage.ThumbMediaID, 40007},
		"link":            {m.Link.URL, 44004},
		"news":            {string(first(m.News.Articles)), 44003},
		"msgmenu":         {string(first(m.MsgMenu.List)), 44004},
		"wxcard":          {m.WXCard.CardID, 44004},
		"mpnewsarticle":   {m.MPNewsArticle.ArticleID, 44003},
	}
	part, known := needed[m.MsgType]
	switch {
	case !known:
		return refuse(40008)
	case part.value == "":
		return refuse(part.code)
	case len(m.Text.Content) > maxTextBytes, !utf8.ValidString(m.Text.Content):
		return refuse(45002)
	case len(m.News.Articles) > 1:
		return refuse(45008)
	}
	return nil
}

func first(list []json.RawMessage) json.RawMessage {
	if len(list) == 0 {
		return nil
	}
	return list[0]
}

// uniformRequest is the body of the retired uniform_send.
// Source: https://developers.weixin.qq.com/community/develop/doc/000ae8d6348af08e7030bc2546bc01
type uniformRequest struct {
	addressed
	Weapp *struct {
		TemplateID string `json:"template_id"`
	} `json:"weapp_template_msg"`
	MP *struct {
		AppID      string `json:"appid"`
		TemplateID string `json:"template_id"`
	} `json:"mp_template_msg"`
}

func (m *uniformRequest) check(env *checkEnv) *refusal {
	switch {
	case !env.allowUniform:
		return refuse(45109)
	case !validOpenID(m.ToUser):
		return refuse(40003)
	case m.MP == nil && m.Weapp == nil:
		return refuse(40037)
	case m.MP != nil && m.MP.AppID == "":
		return refuse(40013)
	case m.MP != nil && m.MP.TemplateID == "", m.MP == nil && m.Weapp.TemplateID == "":
		return refuse(40037)
	}
	return nil
}

// grantMessage checks the template, uses up a credit and assigns the message its id. A second message with the same client_msg_id gets the id of
// the first and is not delivered.
func grantMessage(s *Server, x *exchange) *refusal {
	if m, ok := x.req.(*templateRequest); ok && m.ClientMsgID != "" {
		key := s.hashOf(x.app.id, m.ToUser, m.ClientMsgID)
		if msgID, sent := s.state.sent.Find(key, x.at); sent {
			x.repeated, x.msgID = true, msgID
			return nil
		}
		defer func() { s.state.sent.Add(key, x.at, x.msgID) }()
	}
	if refused := s.checkTemplate(x); refused != nil {
		return refused
	}
	if x.row.credits && !s.spendCredit(x) {
		return refuse(43101)
	}
	x.msgID = firstMessageID + int64(x.serial) //nolint:gosec // no sandbox counts that far
	return nil
}

func answerMessageID(_ *Server, x *exchange) reply {
	return jsonReply(struct {
		plainAnswer
		MsgID int64 `json:"msgid"`
	}{plainAnswer{ErrMsg: "ok"}, x.msgID})
}
