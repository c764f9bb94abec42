package wechat

// Sources of the rows. WeChat publishes a short global list, and each endpoint's page has its
// own; other codes come from the enums of open-source SDKs and from user reports in WeChat's
// community.
const (
	pageGlobal      = "https://developers.weixin.qq.com/doc/oplatform/developers/errCode/errCode.html"
	pageToken       = "https://developers.weixin.qq.com/miniprogram/dev/server/API/mp-access-token/api_getaccesstoken.html" //nolint:gosec // a page, no credential
	pageStable      = "https://developers.weixin.qq.com/miniprogram/dev/server/API/mp-access-token/api_getstableaccesstoken.html"
	pageSubscribe   = "https://developers.weixin.qq.com/miniprogram/dev/server/API/mp-message-management/subscribe-message/api_sendmessage.html"
	pageUserNotify  = "https://developers.weixin.qq.com/miniprogram/dev/server/API/mp-message-management/subscribe-message/api_setusernotify.html"
	pageTemplate    = "https://developers.weixin.qq.com/doc/service/api/notify/template/api_sendtemplatemessage.html"
	pageOneTime     = "https://developers.weixin.qq.com/doc/service/api/notify/subscribe/api_templatesubscribe.html"
	pageCustom      = "https://developers.weixin.qq.com/miniprogram/dev/server/API/kf-mgnt/kf-message/api_sendcustommessage.html"
	pageScheme      = "https://developers.weixin.qq.com/miniprogram/dev/server/API/qrcode-link/url-scheme/api_generatescheme.html"
	pageQueryScheme = "https://developers.weixin.qq.com/miniprogram/dev/server/API/qrcode-link/url-scheme/api_queryscheme.html"
	pageNFC         = "https://developers.weixin.qq.com/miniprogram/dev/server/API/qrcode-link/url-scheme/api_generatenfcscheme.html"
	pageURLLink     = "https://developers.weixin.qq.com/miniprogram/dev/server/API/qrcode-link/url-link/api_generateurllink.html"
	pageShortLink   = "https://developers.weixin.qq.com/miniprogram/dev/server/API/qrcode-link/short-link/api_generateshortlink.html"
	pageUnlimited   = "https://developers.weixin.qq.com/miniprogram/dev/server/API/qrcode-link/qr-code/api_getunlimitedqrcode.html"
	pageCode        = "https://developers.weixin.qq.com/miniprogram/dev/server/API/qrcode-link/qr-code/api_getqrcode.html"
	pageQRCode      = "https://developers.weixin.qq.com/miniprogram/dev/server/API/qrcode-link/qr-code/api_createqrcode.html"
	pageTextCheck   = "https://developers.weixin.qq.com/miniprogram/dev/server/API/sec-center/sec-check/api_msgseccheck.html"
	pageImageCheck  = "https://developers.weixin.qq.com/miniprogram/dev/server/API/sec-center/sec-check/api_imgseccheck.html"
	pageMediaCheck  = "https://developers.weixin.qq.com/miniprogram/dev/server/API/sec-center/sec-check/api_mediacheckasync.html"
	pageClearQuota  = "https://developers.weixin.qq.com/miniprogram/dev/server/API/openApi-mgnt/api_clearquota.html"
	pageRID         = "https://developers.weixin.qq.com/miniprogram/dev/server/API/openApi-mgnt/api_getridinfo.html"
	pagePhone       = "https://developers.weixin.qq.com/miniprogram/dev/server/API/user-info/phone-number/api_getphonenumber.html"
	pageLive        = "https://developers.weixin.qq.com/miniprogram/dev/server/API/livebroadcast/studio-management/api_getliveinfo.html"
	pageQuota       = "https://developers.weixin.qq.com/miniprogram/dev/server/API/openApi-mgnt/api_getapiquota.html"

	enumMP   = "SDK enum: WxJava WxMpErrorMsgEnum"
	enumMA   = "SDK enum: WxJava WxMaErrorMsgEnum"
	enumOpen = "SDK enum: WxJava WxOpenErrorMsgEnum"

	usersUpload   = "user reports: issues of open SDKs, on uploads"
	usersTemplate = "user reports: WeChat community, on message/template/send"
	usersToken    = "user reports: WeChat community, on /cgi-bin/token"
	usersUniform  = "user reports: WeChat community announcement of 2023-08-22"
	usersHost     = "user reports: WeChat community, on retired API hosts"
)

// defaultRows give the meaning of a code on every endpoint without a row in endpointRows.
var defaultRows = []CodeRow{
	{"", 0, ClassOK, "ok", pageGlobal},

	{"", 40001, ClassToken, "access_token invalid or not the latest", pageGlobal},
	{"", 40014, ClassToken, "access_token malformed", pageGlobal},
	{"", 42001, ClassToken, "access_token expired", pageGlobal},

	{"", -1, ClassBusy, "system busy", pageGlobal},
	{"", 61450, ClassBusy, "customer service system error", enumMP},
	{"", 61504, ClassBusy, "system busy", enumOpen},
	{"", 85431, ClassBusy, "service card: system busy", pageUserNotify},
	{"", 85449, ClassBusy, "service card: locked, try later", pageUserNotify},
	{"", 87015, ClassBusy, "check timed out", enumOpen},
	{"", 200001, ClassBusy, "template administration: system busy", pageSubscribe},

	{"", 44990, ClassRateSecond, "too many calls in a second", pageScheme},
	{"", 44991, ClassRateMinute, "too many calls in a minute", pageTextCheck},
	{"", 45011, ClassRateMinute, "too many calls in a minute, retry in the next", pageGlobal},
	{"", 44993, ClassQuotaDay, "daily quota of links used up (schemes and URL links together)", pageScheme},
	{"", 45009, ClassQuotaDay, "daily quota of the API used up", pageGlobal},
	{"", 85406, ClassQuotaDay, "daily visits of links used up", pageScheme},

	{"", 43108, ClassPerUser, "messages to the same openid at the same time", pageSubscribe},
	{"", 43117, ClassPerUserLong, "too many messages to this openid, try later", usersTemplate},

	{"", 40013, ClassConfig, "appid invalid", pageGlobal},
	{"", 40090, ClassConfig, "request comes from an IP that may not call", enumOpen},
	{"", 40125, ClassConfig, "app secret invalid", pageToken},
	{"", 40164, ClassConfig, "caller's IP is not on the app's whitelist", pageGlobal},
	{"", 40222, ClassConfig, "wrong API host for this app", enumOpen},
	{"", 40230, ClassConfig, "API signing: set-up wrong", enumOpen},
	{"", 40231, ClassConfig, "API signing: set-up wrong", enumOpen},
	{"", 40232, ClassConfig, "API signing: set-up wrong", enumOpen},
	{"", 40233, ClassConfig, "API signing: set-up wrong", enumOpen},
	{"", 40234, ClassConfig, "API signing: set-up wrong", enumOpen},
	{"", 40235, ClassConfig, "API signing: set-up wrong", enumOpen},
	{"", 40236, ClassConfig, "API signing: set-up wrong", enumOpen},
	{"", 40237, ClassConfig, "API signing: set-up wrong", enumOpen},
	{"", 40238, ClassConfig, "API signing: set-up wrong", enumOpen},
	{"", 40239, ClassConfig, "API signing: set-up wrong", enumOpen},
	{"", 40243, ClassConfig, "app secret is frozen", pageToken},
	{"", 41002, ClassConfig, "appid missing", pageGlobal},
	{"", 41004, ClassConfig, "app secret missing", pageToken},
	{"", 45032, ClassConfig, "caller's IP is not on the whitelist", enumOpen},
	{"", 45035, ClassConfig, "caller's IP is not registered", pageGlobal},
	{"", 48017, ClassConfig, "API called at a retired address", usersHost},
	{"", 50004, ClassConfig, "app may not use access tokens", pageToken},
	{"", 50007, ClassConfig, "account is frozen", pageToken},
	{"", 61004, ClassConfig, "caller's IP is not registered", pageGlobal},
	{"", 89501, ClassConfig, "caller's IP waits for the administrator's consent", enumOpen},
	{"", 89502, ClassConfig, "caller's IP waits for the administrator's consent", enumOpen},
	{"", 89503, ClassConfig, "caller's IP needs the administrator's consent", pageStable},
	{"", 89504, ClassConfig, "caller's IP waits for the administrator's consent", enumOpen},
	{"", 89505, ClassConfig, "caller's IP waits for the administrator's consent", enumOpen},
	{"", 89506, ClassConfig, "caller's IP was refused by the administrator, ask again after 24 hours", pageStable},
	{"", 89507, ClassConfig, "caller's IP was refused by the administrator, ask again after 1 hour", pageStable},

	{"", 41033, ClassAccount, "API is only for mini programs that were created through the API", enumOpen},
	{"", 42005, ClassAccount, "account's use of the API has expired", enumOpen},
	{"", 42007, ClassAccount, "account holder changed the password, authorisation is void", enumMP},
	{"", 43104, ClassAccount, "account has no permission for this request", enumOpen},
	{"", 43106, ClassAccount, "account may not add templates, as a penalty", enumOpen},
	{"", 45063, ClassAccount, "app is not a mini program", enumOpen},
	{"", 45087, ClassAccount, "account's customer service messages are blocked", enumOpen},
	{"", 45093, ClassAccount, "account has no quota to send messages", enumOpen},
	{"", 45094, ClassAccount, "account may not send to people who enter a session, as a penalty", enumOpen},
	{"", 45102, ClassAccount, "API is blocked for a time", enumOpen},
	{"", 45501, ClassAccount, "app's requests are blocked for a time by WeChat's supervision", enumOpen},
	{"", 48001, ClassAccount, "account has no permission for this API", pageGlobal},
	{"", 48004, ClassAccount, "API was taken away for irregularities", pageGlobal},
	{"", 48008, ClassAccount, "account may not send this kind of message", enumMP},
	{"", 48009, ClassAccount, "account's permission for this API has run out", enumOpen},
	{"", 50001, ClassAccount, "account is not authorised for this API", pageGlobal},
	{"", 50002, ClassAccount, "account is restricted, frozen or cancelled", pageGlobal},
	{"", 50003, ClassAccount, "account is not on the API's whitelist", enumOpen},
	{"", 61003, ClassAccount, "account has not authorised the component", enumOpen},
	{"", 61007, ClassAccount, "API is not in what the account authorised", pageGlobal},
	{"", 61014, ClassAccount, "component's authorisation for this API is missing", pageGlobal},
	{"", 61016, ClassAccount, "component's authorisation for this API is not confirmed", pageGlobal},
	{"", 61017, ClassAccount, "API is not in what the component was granted", enumOpen},
	{"", 61028, ClassAccount, "component is not published", enumOpen},
	{"", 85079, ClassAccount, "mini program is not released", pageScheme},
	{"", 85407, ClassAccount, "no permission to make links", pageScheme},
	{"", 85408, ClassAccount, "app is banned from making links", pageScheme},
	{"", 9800007, ClassAccount, "NFC capability is missing", pageNFC},

	{"", 40249, ClassTemplate, "template used for marketing", pageTemplate},
	{"", 43107, ClassTemplate, "subscribe messages of the app or template are banned", pageSubscribe},
	{"", 43116, ClassTemplate, "template is restricted or banned", pageTemplate},
	{"", 48011, ClassTemplate, "template is disabled", enumOpen},
	{"", 200013, ClassTemplate, "template is banned", pageSubscribe},

	{"", 40226, ClassRefused, "person is rated high-risk", enumMA},
	{"", 43004, ClassRefused, "person does not follow the account", enumMP},
	{"", 43005, ClassRefused, "person is not a friend of the account", enumMP},
	{"", 43019, ClassRefused, "person is on the blacklist", enumMP},
	{"", 43101, ClassRefused, "person has not subscribed, has no credit left, or refused", pageSubscribe},
	{"", 45015, ClassRefused, "person was not active within the reply window", enumMP},
	{"", 45037, ClassRefused, "person is out of the reply window, or never wrote in the temporary session", enumOpen},
	{"", 45047, ClassRefused, "reply credits used up until the person is active again", enumMP},
	{"", 48002, ClassRefused, "person refuses messages", enumMP},
	{"", 50005, ClassRefused, "person does not follow the account", enumOpen},
	{"", 70000, ClassRefused, "blocked to protect minors", pageCustom},

	{"", 1007, ClassRejected, "nothing found", pageLive},
	{"", 40002, ClassRejected, "grant_type invalid", pageToken},
	{"", 40003, ClassRejected, "openid invalid, or of another app", pageGlobal},
	{"", 40004, ClassRejected, "media type invalid", pageMediaCheck},
	{"", 40005, ClassRejected, "file type invalid", enumMP},
	{"", 40006, ClassRejected, "file too large", enumMP},
	{"", 40007, ClassRejected, "media_id invalid", enumMP},
	{"", 40008, ClassRejected, "message type invalid", pageTemplate},
	{"", 40009, ClassRejected, "picture too large", enumMP},
	{"", 40029, ClassRejected, "code invalid or used", enumMA},
	{"", 40033, ClassRejected, `request has \uXXXX escapes`, enumMP},
	{"", 40034, ClassRejected, "template has a wrong length", enumOpen},
	{"", 40035, ClassRejected, "a parameter is invalid", enumMP},
	{"", 40036, ClassRejected, "template_id has a wrong length", pageTemplate},
	{"", 40037, ClassRejected, "template_id invalid", pageSubscribe},
	{"", 40038, ClassRejected, "request has a wrong format", enumMP},
	{"", 40039, ClassRejected, "url has a wrong length", pageTemplate},
	{"", 40062, ClassRejected, "title has a wrong length", pageOneTime},
	{"", 40066, ClassRejected, "url or page invalid", pageGlobal},
	{"", 40097, ClassRejected, "an argument is invalid", pageUnlimited},
	{"", 40101, ClassRejected, "a parameter is missing", enumOpen},
	{"", 40118, ClassRejected, "media_id has a wrong length", enumMP},
	{"", 40121, ClassRejected, "media_id is of a type that cannot be used here", enumMP},
	{"", 40128, ClassRejected, "media_id is not of a permanent material", enumOpen},
	{"", 40129, ClassRejected, "scene invalid", pageUnlimited},
	{"", 40137, ClassRejected, "image format not supported", enumMP},
	{"", 40155, ClassRejected, "link leads to another account's profile", enumMP},
	{"", 40159, ClassRejected, "path empty or too long", pageCode},
	{"", 40163, ClassRejected, "code was used already", enumMA},
	{"", 40165, ClassRejected, "path of the page is wrong", pageScheme},
	{"", 40166, ClassRejected, "appid of the mini program is invalid", enumOpen},
	{"", 40169, ClassRejected, "scene has a wrong length, or the request is not JSON", pageUnlimited},
	{"", 40184, ClassRejected, "path is invalid", enumOpen},
	{"", 40189, ClassRejected, "width is invalid", enumOpen},
	{"", 40212, ClassRejected, "query is wrong", pageScheme},
	{"", 40225, ClassRejected, "page title not allowed", pageShortLink},
	{"", 41001, ClassRejected, "access_token missing", pageGlobal},
	{"", 41005, ClassRejected, "file missing", enumMP},
	{"", 41006, ClassRejected, "media_id missing", enumMP},
	{"", 41008, ClassRejected, "code missing", enumMP},
	{"", 41009, ClassRejected, "openid missing", enumMP},
	{"", 41011, ClassRejected, "a required field is missing", enumOpen},
	{"", 41018, ClassRejected, "component_appid missing", pageGlobal},
	{"", 41028, ClassRejected, "form_id invalid", enumMA},
	{"", 41029, ClassRejected, "form_id was used already", enumMA},
	{"", 41030, ClassRejected, "page is not in the released version", pageUnlimited},
	{"", 41031, ClassRejected, "form_id is blocked", enumOpen},
	{"", 41032, ClassRejected, "account may not send with a form_id, as a penalty", enumOpen},
	{"", 41034, ClassRejected, "account may not send with a form_id, as a penalty", enumOpen},
	{"", 41035, ClassRejected, "account may not send with a prepay_id, as a penalty", enumOpen},
	{"", 43001, ClassRejected, "GET required", pageGlobal},
	{"", 43002, ClassRejected, "POST required", pageGlobal},
	{"", 43003, ClassRejected, "HTTPS required", pageGlobal},
	{"", 43100, ClassRejected, "template changed too often", enumOpen},
	{"", 43102, ClassRejected, "template is not a subscription template", enumOpen},
	{"", 43103, ClassRejected, "subscription template cannot be used here", enumOpen},
	{"", 44001, ClassRejected, "file empty", enumMP},
	{"", 44002, ClassRejected, "request body empty", pageGlobal},
	{"", 44003, ClassRejected, "news content empty", enumMP},
	{"", 44004, ClassRejected, "text content empty", enumMP},
	{"", 45001, ClassRejected, "file too large", enumMP},
	{"", 45002, ClassRejected, "content too long", pageGlobal},
	{"", 45003, ClassRejected, "title too long", enumMP},
	{"", 45004, ClassRejected, "description too long", enumMP},
	{"", 45005, ClassRejected, "link too long", enumMP},
	{"", 45006, ClassRejected, "link of the picture too long", enumMP},
	{"", 45008, ClassRejected, "too many articles", pageCustom},
	{"", 45012, ClassRejected, "template too large", enumOpen},
	{"", 45013, ClassRejected, "too many fields in the template", enumOpen},
	{"", 45014, ClassRejected, "template message too large", enumOpen},
	{"", 45021, ClassRejected, "a field is too long", enumOpen},
	{"", 45029, ClassRejected, "number of codes used up for good", pageCode},
	{"", 45050, ClassRejected, "type of the custom message is invalid", enumOpen},
	{"", 45051, ClassRejected, "template message has an invalid link", enumOpen},
	{"", 45065, ClassRejected, "mass message with this clientmsgid was sent already", enumMP},
	{"", 45066, ClassRejected, "mass message with this clientmsgid repeated too soon", enumMP},
	{"", 45067, ClassRejected, "clientmsgid too long", enumMP},
	{"", 45072, ClassRejected, "typing command invalid", pageCustom},
	{"", 45080, ClassRejected, "typing state needs a recent message of the person", pageCustom},
	{"", 45081, ClassRejected, "already typing", pageCustom},
	{"", 45086, ClassRejected, "data-miniprogram-appid in the text is invalid", enumOpen},
	{"", 45098, ClassRejected, "menu has too many entries", enumOpen},
	{"", 45099, ClassRejected, "entry of the menu is too long", enumOpen},
	{"", 45166, ClassRejected, "content is invalid", enumOpen},
	{"", 45168, ClassRejected, "content has forbidden words", pageSubscribe},
	{"", 46001, ClassRejected, "media does not exist", enumMP},
	{"", 47001, ClassRejected, "request is not valid JSON", pageGlobal},
	{"", 47002, ClassRejected, `request has \uXXXX escapes`, enumOpen},
	{"", 47003, ClassRejected, "a value of the data is invalid; errmsg names it", pageSubscribe},
	{"", 48006, ClassRejected, "quota may not be cleared again this month", pageClearQuota},
	{"", 61010, ClassRejected, "code expired", enumOpen},
	{"", 61024, ClassRejected, "a component's token is required", enumOpen},
	{"", 61451, ClassRejected, "a parameter of the customer service call is invalid", enumMP},
	{"", 61452, ClassRejected, "kf_account is invalid", enumMP},
	{"", 61500, ClassRejected, "date format invalid", enumMP},
	{"", 61501, ClassRejected, "date range invalid", enumMP},
	{"", 65401, ClassRejected, "customer service account is invalid", enumOpen},
	{"", 76001, ClassRejected, "rid not found", pageRID},
	{"", 76002, ClassRejected, "rid malformed", pageRID},
	{"", 76003, ClassRejected, "cgi_path or rid not allowed", pageQuota},
	{"", 76004, ClassRejected, "rid older than seven days", pageRID},
	{"", 76021, ClassRejected, "cgi_path unknown", pageQuota},
	{"", 76022, ClassRejected, "cgi_path not allowed with this token", pageQuota},
	{"", 85088, ClassRejected, "cloud development is not enabled", pageURLLink},
	{"", 85096, ClassRejected, "scancode_time is a reserved parameter", pageCode},
	{"", 85400, ClassRejected, "permanent links used up", pageShortLink},
	{"", 85401, ClassRejected, "expiry outside 1 minute to 30 days", pageScheme},
	{"", 85402, ClassRejected, "env_version invalid", pageScheme},
	{"", 85403, ClassRejected, "link does not exist", pageQueryScheme},
	{"", 85405, ClassRejected, "plaintext scheme is not declared", pageQueryScheme},
	{"", 87020, ClassRejected, "same media checked too often", pageMediaCheck},
	{"", 9410000, ClassRejected, "no live room in the list", pageLive},
	{"", 9800003, ClassRejected, "model_id wrong", pageNFC},
	{"", 9800008, ClassRejected, "sn missing", pageNFC},
	{"", 9800009, ClassRejected, "sn must be empty", pageNFC},

	{"", 87014, ClassRisky, "content is risky", pageImageCheck},

	{"", 45103, ClassRetired, "API is no longer offered", enumOpen},
	{"", 45109, ClassRetired, "API is no longer offered", usersUniform},
	{"", 46101, ClassRetired, "API is no longer offered: subscribe messages took its place", enumOpen},
}
