package tasks

import "github.com/hibiken/asynq"

// CustomPayload is the body of send:custom, a customer-service message (客服消息). WeChat
// delivers it to people who were active within the last 48 hours, and at most 5 messages
// after their last activity (45015, 45047).
//
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/kf-mgnt/kf-message/sendCustomMessage.html
//
// A mini program can send text, image, link and miniprogrampage; an official account can
// send all except link:
// https://developers.weixin.qq.com/doc/offiaccount/Message_Management/Service_Center_messages.html
type CustomPayload struct {
	// ToUser is the receiver's openid. Required.
	ToUser string `json:"touser"`
	// MsgType names the one member below that is set: text, image, voice, video,
	// music, news, mpnews, mpnewsarticle, msgmenu, wxcard, link or miniprogrampage.
	// Required.
	MsgType string `json:"msgtype"`

	Text            *CustomText        `json:"text,omitempty"`
	Image           *CustomMedia       `json:"image,omitempty"`
	Voice           *CustomMedia       `json:"voice,omitempty"`
	Video           *CustomVideo       `json:"video,omitempty"`
	Music           *CustomMusic       `json:"music,omitempty"`
	News            *CustomNews        `json:"news,omitempty"`
	MPNews          *CustomMedia       `json:"mpnews,omitempty"`
	MPNewsArticle   *CustomNewsArticle `json:"mpnewsarticle,omitempty"`
	MsgMenu         *CustomMenu        `json:"msgmenu,omitempty"`
	WXCard          *CustomCard        `json:"wxcard,omitempty"`
	Link            *CustomLink        `json:"link,omitempty"`
	MiniProgramPage *CustomPage        `json:"miniprogrampage,omitempty"`

	// Service is the customer-service account in whose name the message is sent.
	Service *CustomService `json:"customservice,omitempty"`
}

// CustomText is a text; it may contain links as HTML <a> elements.
type CustomText struct {
	Content string `json:"content"`
}

// CustomMedia is an upload: an image, a voice message, or an article as mpnews.
type CustomMedia struct {
	MediaID string `json:"media_id"`
}

// CustomVideo is an uploaded video.
type CustomVideo struct {
	MediaID      string `json:"media_id"`
	ThumbMediaID string `json:"thumb_media_id,omitempty"`
	Title        string `json:"title,omitempty"`
	Description  string `json:"description,omitempty"`
}

// CustomMusic is a piece of music on the web.
type CustomMusic struct {
	Title        string `json:"title,omitempty"`
	Description  string `json:"description,omitempty"`
	MusicURL     string `json:"musicurl"`
	HQMusicURL   string `json:"hqmusicurl,omitempty"` // preferred on Wi-Fi
	ThumbMediaID string `json:"thumb_media_id,omitempty"`
}

// CustomNews is a link with a picture: exactly one article.
type CustomNews struct {
	Articles []CustomArticle `json:"articles"`
}

// CustomArticle is the article of a CustomNews.
type CustomArticle struct {
	Title       string `json:"title,omitempty"`
	Description string `json:"description,omitempty"`
	URL         string `json:"url,omitempty"`
	PicURL      string `json:"picurl,omitempty"`
}

// CustomNewsArticle is a published article.
type CustomNewsArticle struct {
	ArticleID string `json:"article_id"`
}

// CustomMenu is a question with choices.
type CustomMenu struct {
	HeadContent string             `json:"head_content,omitempty"`
	List        []CustomMenuChoice `json:"list"`
	TailContent string             `json:"tail_content,omitempty"`
}

// CustomMenuChoice is one choice of a CustomMenu. The person's answer contains its ID.
type CustomMenuChoice struct {
	ID      string `json:"id"`
	Content string `json:"content"`
}

// CustomCard is a card or coupon.
type CustomCard struct {
	CardID string `json:"card_id"`
}

// CustomLink is a link with a picture, for mini programs.
type CustomLink struct {
	Title       string `json:"title"`
	Description string `json:"description,omitempty"`
	URL         string `json:"url"`
	ThumbURL    string `json:"thumb_url,omitempty"`
}

// CustomPage is a card that opens a mini program page.
type CustomPage struct {
	Title string `json:"title,omitempty"`
	// AppID is for official accounts only; the mini program must be linked to the account.
	AppID        string `json:"appid,omitempty"`
	PagePath     string `json:"pagepath"`
	ThumbMediaID string `json:"thumb_media_id"` // 520×416 is suggested
}

// CustomService is a customer-service account.
type CustomService struct {
	KFAccount string `json:"kf_account"`
}

// NewCustomTask makes a send:custom task. The error is a *[ValidationError].
func NewCustomTask(app string, p CustomPayload, opts ...Option) (*asynq.Task, error) {
	return newTyped(TypeCustom, app, p, opts)
}
