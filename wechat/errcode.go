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
	pageComponent   = "https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/ThirdParty/token/component_access_token.html"
	pageQuota       = "https://developers.weixin.qq.com/miniprogram/dev/server/API/openApi-mgnt/api_getapiquota.html"

	pageSecurity = "https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/getting_started/api_signature.html"

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
	{"", 0, ClassOK, "ok", "成功", pageGlobal},

	{"", 40001, ClassToken, "access_token invalid or not the latest", "access_token 无效或不是最新", pageGlobal},
	{"", 40014, ClassToken, "access_token malformed", "access_token 格式不合法", pageGlobal},
	{"", 42001, ClassToken, "access_token expired", "access_token 已过期", pageGlobal},

	{"", -1, ClassBusy, "system busy", "系统繁忙", pageGlobal},
	{"", 61450, ClassBusy, "customer service system error", "客服系统错误", enumMP},
	{"", 61504, ClassBusy, "system busy", "系统繁忙", enumOpen},
	{"", 85431, ClassBusy, "service card: system busy", "服务卡片：系统繁忙", pageUserNotify},
	{"", 85449, ClassBusy, "service card: locked, try later", "服务卡片：被锁定，请稍后再试", pageUserNotify},
	{"", 87015, ClassBusy, "check timed out", "内容检测超时", enumOpen},
	{"", 40240, ClassBusy, "API signing: timestamp too old", "接口签名：时间戳已过期", pageSecurity},
	{"", 200001, ClassBusy, "template administration: system busy", "模板管理：系统繁忙", pageSubscribe},

	{"", 44990, ClassRateSecond, "too many calls in a second", "一秒内调用次数过多", pageScheme},
	{"", 44991, ClassRateMinute, "too many calls in a minute", "一分钟内调用次数过多", pageTextCheck},
	{"", 45011, ClassRateMinute, "too many calls in a minute, retry in the next", "一分钟内调用次数过多，请在下一分钟重试", pageGlobal},
	{"", 44993, ClassQuotaDay, "daily quota of links used up (schemes and URL links together)", "当日链接生成额度已用完（URL Scheme 与 URL Link 合计）", pageScheme},
	{"", 45009, ClassQuotaDay, "daily quota of the API used up", "接口当日调用额度已用完", pageGlobal},
	{"", 85406, ClassQuotaDay, "daily visits of links used up", "链接当日访问次数已用完", pageScheme},

	{"", 43108, ClassPerUser, "messages to the same openid at the same time", "同时向同一 openid 发送消息", pageSubscribe},
	{"", 43117, ClassPerUserLong, "too many messages to this openid, try later", "该 openid 短时间内接收消息过多，请稍后再试", usersTemplate},

	{"", 40013, ClassConfig, "appid invalid", "appid 无效", pageGlobal},
	{"", 40090, ClassConfig, "request comes from an IP that may not call", "来源 IP 不允许调用", enumOpen},
	{"", 40125, ClassConfig, "app secret invalid", "AppSecret 无效", pageToken},
	{"", 40164, ClassConfig, "caller's IP is not on the app's whitelist", "调用方 IP 不在应用的白名单中", pageGlobal},
	{"", 40222, ClassConfig, "wrong API host for this app", "该应用使用的接口域名不正确", enumOpen},
	{"", 40230, ClassConfig, "API signing: signature's certificate number missing", "接口签名：缺少证书编号", pageSecurity},
	{"", 40231, ClassConfig, "API signing: timestamp missing", "接口签名：缺少时间戳", pageSecurity},
	{"", 40232, ClassConfig, "API signing: signature missing", "接口签名：缺少签名", pageSecurity},
	{"", 40233, ClassConfig, "API signing: appid missing", "接口签名：缺少 appid", pageSecurity},
	{"", 40234, ClassConfig, "API signing: signature wrong", "接口签名：签名错误", pageSecurity},
	{"", 40235, ClassConfig, "API signing: encryption wrong", "接口签名：加密错误", pageSecurity},
	{"", 40236, ClassConfig, "API signing: appid invalid", "接口签名：appid 无效", pageSecurity},
	{"", 40237, ClassConfig, "API signing: appid is not that of the token", "接口签名：appid 与 token 不匹配", pageSecurity},
	{"", 40238, ClassConfig, "API signing: no symmetric key in WeChat's console", "接口签名：后台未设置对称密钥", pageSecurity},
	{"", 40239, ClassConfig, "API signing: no public key in WeChat's console", "接口签名：后台未设置公钥", pageSecurity},
	{"", 40243, ClassConfig, "app secret is frozen", "AppSecret 已被冻结", pageToken},
	{"", 41002, ClassConfig, "appid missing", "缺少 appid", pageGlobal},
	{"", 41004, ClassConfig, "app secret missing", "缺少 AppSecret", pageToken},
	{"", 45032, ClassConfig, "caller's IP is not on the whitelist", "调用方 IP 不在白名单中", enumOpen},
	{"", 45035, ClassConfig, "caller's IP is not registered", "调用方 IP 未登记", pageGlobal},
	{"", 48017, ClassConfig, "API called at a retired address", "调用的接口地址已下线", usersHost},
	{"", 50004, ClassConfig, "app may not use access tokens", "该应用禁止使用 access_token", pageToken},
	{"", 50007, ClassConfig, "account is frozen", "账号已被冻结", pageToken},
	{"", 61004, ClassConfig, "caller's IP is not registered", "调用方 IP 未登记", pageGlobal},
	{"", 89501, ClassConfig, "caller's IP waits for the administrator's consent", "调用方 IP 等待管理员确认", enumOpen},
	{"", 89502, ClassConfig, "caller's IP waits for the administrator's consent", "调用方 IP 等待管理员确认", enumOpen},
	{"", 89503, ClassConfig, "caller's IP needs the administrator's consent", "调用方 IP 需要管理员确认", pageStable},
	{"", 89504, ClassConfig, "caller's IP waits for the administrator's consent", "调用方 IP 等待管理员确认", enumOpen},
	{"", 89505, ClassConfig, "caller's IP waits for the administrator's consent", "调用方 IP 等待管理员确认", enumOpen},
	{"", 89506, ClassConfig, "caller's IP was refused by the administrator, ask again after 24 hours", "管理员拒绝了调用方 IP，24 小时后可再次申请", pageStable},
	{"", 89507, ClassConfig, "caller's IP was refused by the administrator, ask again after 1 hour", "管理员拒绝了调用方 IP，1 小时后可再次申请", pageStable},

	{"", 61003, ClassUnauthorized, "account has not authorized the service provider, or has taken that back", "账号没有授权给该第三方平台，或已取消授权", enumOpen},
	{"", 61023, ClassUnauthorized, "refresh token of the authorization is invalid", "授权的刷新令牌无效", enumOpen},

	{"", 41033, ClassAccount, "API is only for mini programs that were created through the API", "接口仅限通过接口注册的小程序使用", enumOpen},
	{"", 42005, ClassAccount, "account's use of the API has expired", "账号的接口使用权限已到期", enumOpen},
	{"", 42007, ClassAccount, "account holder changed the password, authorization is void", "账号修改了密码，授权已失效", enumMP},
	{"", 43104, ClassAccount, "account has no permission for this request", "账号没有该请求的权限", enumOpen},
	{"", 43106, ClassAccount, "account may not add templates, as a penalty", "账号因处罚不能添加模板", enumOpen},
	{"", 45063, ClassAccount, "app is not a mini program", "该应用不是小程序", enumOpen},
	{"", 45087, ClassAccount, "account's customer service messages are blocked", "账号的客服消息能力被封禁", enumOpen},
	{"", 45093, ClassAccount, "account has no quota to send messages", "账号没有可用的消息发送额度", enumOpen},
	{"", 45094, ClassAccount, "account may not send to people who enter a session, as a penalty", "账号因处罚不能向进入会话的用户发送消息", enumOpen},
	{"", 45102, ClassAccount, "API is blocked for a time", "接口被暂时封禁", enumOpen},
	{"", 45501, ClassAccount, "app's requests are blocked for a time by WeChat's supervision", "应用的请求被微信暂时限制", enumOpen},
	{"", 48001, ClassAccount, "account has no permission for this API", "账号没有该接口的权限", pageGlobal},
	{"", 48004, ClassAccount, "API was taken away for irregularities", "接口权限因违规被收回", pageGlobal},
	{"", 48008, ClassAccount, "account may not send this kind of message", "账号不能发送此类消息", enumMP},
	{"", 48009, ClassAccount, "account's permission for this API has run out", "账号的该接口权限已到期", enumOpen},
	{"", 50001, ClassAccount, "account is not authorized for this API", "账号未获得该接口的授权", pageGlobal},
	{"", 50002, ClassAccount, "account is restricted, frozen or cancelled", "账号被限制、冻结或已注销", pageGlobal},
	{"", 50003, ClassAccount, "account is not on the API's whitelist", "账号不在该接口的白名单中", enumOpen},
	{"", 61007, ClassAccount, "API is not in what the account authorized", "接口不在账号授权的范围内", pageGlobal},
	{"", 61014, ClassAccount, "component's authorization for this API is missing", "第三方平台缺少该接口的授权", pageGlobal},
	{"", 61016, ClassAccount, "component's authorization for this API is not confirmed", "第三方平台的该接口授权尚未确认", pageGlobal},
	{"", 61017, ClassAccount, "API is not in what the component was granted", "接口不在第三方平台获得的权限内", enumOpen},
	{"", 61028, ClassAccount, "component is not published", "第三方平台尚未发布", enumOpen},
	{"", 85079, ClassAccount, "mini program is not released", "小程序尚未发布", pageScheme},
	{"", 85407, ClassAccount, "no permission to make links", "没有生成链接的权限", pageScheme},
	{"", 85408, ClassAccount, "app is banned from making links", "应用被禁止生成链接", pageScheme},
	{"", 9800007, ClassAccount, "NFC capability is missing", "没有 NFC 能力", pageNFC},

	{"", 40249, ClassTemplate, "template used for marketing", "模板被用于营销", pageTemplate},
	{"", 43107, ClassTemplate, "subscribe messages of the app or template are banned", "应用或模板的订阅消息能力被封禁", pageSubscribe},
	{"", 43116, ClassTemplate, "template is restricted or banned", "模板被限制或封禁", pageTemplate},
	{"", 48011, ClassTemplate, "template is disabled", "模板已停用", enumOpen},
	{"", 200013, ClassTemplate, "template is banned", "模板已被封禁", pageSubscribe},

	{"", 40226, ClassRefused, "person is rated high-risk", "用户被判定为高风险", enumMA},
	{"", 43004, ClassRefused, "person does not follow the account", "用户没有关注账号", enumMP},
	{"", 43005, ClassRefused, "person is not a friend of the account", "用户不是账号的好友", enumMP},
	{"", 43019, ClassRefused, "person is on the blacklist", "用户在黑名单中", enumMP},
	{"", 43101, ClassRefused, "person has not subscribed, has no credit left, or refused", "用户没有订阅、订阅次数已用完或拒收", pageSubscribe},
	{"", 45015, ClassRefused, "person was not active within the reply window", "用户在可回复时间内没有互动", enumMP},
	{"", 45037, ClassRefused, "person is out of the reply window, or never wrote in the temporary session", "用户已超出可回复时间，或没有在临时会话中发过消息", enumOpen},
	{"", 45047, ClassRefused, "reply credits used up until the person is active again", "回复条数已用完，需等用户再次互动", enumMP},
	{"", 48002, ClassRefused, "person refuses messages", "用户拒收消息", enumMP},
	{"", 50005, ClassRefused, "person does not follow the account", "用户没有关注账号", enumOpen},
	{"", 70000, ClassRefused, "blocked to protect minors", "因未成年人保护被拦截", pageCustom},

	{"", 1007, ClassRejected, "nothing found", "没有数据", pageLive},
	{"", 40002, ClassRejected, "grant_type invalid", "grant_type 无效", pageToken},
	{"", 40003, ClassRejected, "openid invalid, or of another app", "openid 无效，或属于其他应用", pageGlobal},
	{"", 40004, ClassRejected, "media type invalid", "媒体类型无效", pageMediaCheck},
	{"", 40005, ClassRejected, "file type invalid", "文件类型无效", enumMP},
	{"", 40006, ClassRejected, "file too large", "文件过大", enumMP},
	{"", 40007, ClassRejected, "media_id invalid", "media_id 无效", enumMP},
	{"", 40008, ClassRejected, "message type invalid", "消息类型无效", pageTemplate},
	{"", 40009, ClassRejected, "picture too large", "图片过大", enumMP},
	{"", 40029, ClassRejected, "code invalid or used", "code 无效或已使用", enumMA},
	{"", 40033, ClassRejected, `request has \uXXXX escapes`, `请求中有 \uXXXX 转义`, enumMP},
	{"", 40034, ClassRejected, "template has a wrong length", "模板长度不正确", enumOpen},
	{"", 40035, ClassRejected, "a parameter is invalid", "参数无效", enumMP},
	{"", 40036, ClassRejected, "template_id has a wrong length", "template_id 长度不正确", pageTemplate},
	{"", 40037, ClassRejected, "template_id invalid", "template_id 无效", pageSubscribe},
	{"", 40038, ClassRejected, "request has a wrong format", "请求格式不正确", enumMP},
	{"", 40039, ClassRejected, "url has a wrong length", "url 长度不正确", pageTemplate},
	{"", 40062, ClassRejected, "title has a wrong length", "title 长度不正确", pageOneTime},
	{"", 40066, ClassRejected, "url or page invalid", "url 或 page 无效", pageGlobal},
	{"", 40097, ClassRejected, "an argument is invalid", "参数无效", pageUnlimited},
	{"", 40101, ClassRejected, "a parameter is missing", "缺少参数", enumOpen},
	{"", 40118, ClassRejected, "media_id has a wrong length", "media_id 长度不正确", enumMP},
	{"", 40121, ClassRejected, "media_id is of a type that cannot be used here", "media_id 的类型不能用于此处", enumMP},
	{"", 40128, ClassRejected, "media_id is not of a permanent material", "media_id 不是永久素材", enumOpen},
	{"", 40129, ClassRejected, "scene invalid", "scene 无效", pageUnlimited},
	{"", 40137, ClassRejected, "image format not supported", "不支持该图片格式", enumMP},
	{"", 40155, ClassRejected, "link leads to another account's profile", "链接指向其他账号的主页", enumMP},
	{"", 40159, ClassRejected, "path empty or too long", "path 为空或过长", pageCode},
	{"", 40163, ClassRejected, "code was used already", "code 已被使用", enumMA},
	{"", 40165, ClassRejected, "path of the page is wrong", "页面路径不正确", pageScheme},
	{"", 40166, ClassRejected, "appid of the mini program is invalid", "小程序 appid 无效", enumOpen},
	{"", 40169, ClassRejected, "scene has a wrong length, or the request is not JSON", "scene 长度不正确，或请求不是 JSON", pageUnlimited},
	{"", 40184, ClassRejected, "path is invalid", "path 无效", enumOpen},
	{"", 40189, ClassRejected, "width is invalid", "width 无效", enumOpen},
	{"", 40212, ClassRejected, "query is wrong", "query 不正确", pageScheme},
	{"", 40225, ClassRejected, "page title not allowed", "页面标题不符合要求", pageShortLink},
	{"", 41001, ClassRejected, "access_token missing", "缺少 access_token", pageGlobal},
	{"", 41005, ClassRejected, "file missing", "缺少文件", enumMP},
	{"", 41006, ClassRejected, "media_id missing", "缺少 media_id", enumMP},
	{"", 41008, ClassRejected, "code missing", "缺少 code", enumMP},
	{"", 41009, ClassRejected, "openid missing", "缺少 openid", enumMP},
	{"", 41011, ClassRejected, "a required field is missing", "缺少必填字段", enumOpen},
	{"", 41018, ClassRejected, "component_appid missing", "缺少 component_appid", pageGlobal},
	{"", 41028, ClassRejected, "form_id invalid", "form_id 无效", enumMA},
	{"", 41029, ClassRejected, "form_id was used already", "form_id 已被使用", enumMA},
	{"", 41030, ClassRejected, "page is not in the released version", "已发布的小程序中没有该页面", pageUnlimited},
	{"", 41031, ClassRejected, "form_id is blocked", "form_id 已被封禁", enumOpen},
	{"", 41032, ClassRejected, "account may not send with a form_id, as a penalty", "账号因处罚不能使用 form_id 发送", enumOpen},
	{"", 41034, ClassRejected, "account may not send with a form_id, as a penalty", "账号因处罚不能使用 form_id 发送", enumOpen},
	{"", 41035, ClassRejected, "account may not send with a prepay_id, as a penalty", "账号因处罚不能使用 prepay_id 发送", enumOpen},
	{"", 43001, ClassRejected, "GET required", "需要使用 GET 请求", pageGlobal},
	{"", 43002, ClassRejected, "POST required", "需要使用 POST 请求", pageGlobal},
	{"", 43003, ClassRejected, "HTTPS required", "需要使用 HTTPS", pageGlobal},
	{"", 43100, ClassRejected, "template changed too often", "模板修改过于频繁", enumOpen},
	{"", 43102, ClassRejected, "template is not a subscription template", "该模板不是订阅模板", enumOpen},
	{"", 43103, ClassRejected, "subscription template cannot be used here", "订阅模板不能用于此处", enumOpen},
	{"", 44001, ClassRejected, "file empty", "文件为空", enumMP},
	{"", 44002, ClassRejected, "request body empty", "请求体为空", pageGlobal},
	{"", 44003, ClassRejected, "news content empty", "图文消息内容为空", enumMP},
	{"", 44004, ClassRejected, "text content empty", "文本消息内容为空", enumMP},
	{"", 45001, ClassRejected, "file too large", "文件过大", enumMP},
	{"", 45002, ClassRejected, "content too long", "内容过长", pageGlobal},
	{"", 45003, ClassRejected, "title too long", "标题过长", enumMP},
	{"", 45004, ClassRejected, "description too long", "描述过长", enumMP},
	{"", 45005, ClassRejected, "link too long", "链接过长", enumMP},
	{"", 45006, ClassRejected, "link of the picture too long", "图片链接过长", enumMP},
	{"", 45008, ClassRejected, "too many articles", "图文条数过多", pageCustom},
	{"", 45012, ClassRejected, "template too large", "模板过大", enumOpen},
	{"", 45013, ClassRejected, "too many fields in the template", "模板字段过多", enumOpen},
	{"", 45014, ClassRejected, "template message too large", "模板消息过大", enumOpen},
	{"", 45021, ClassRejected, "a field is too long", "字段过长", enumOpen},
	{"", 45029, ClassRejected, "number of codes used up for good", "小程序码数量已达上限", pageCode},
	{"", 45050, ClassRejected, "type of the custom message is invalid", "客服消息类型无效", enumOpen},
	{"", 45051, ClassRejected, "template message has an invalid link", "模板消息中的链接无效", enumOpen},
	{"", 45065, ClassRejected, "mass message with this clientmsgid was sent already", "该 clientmsgid 的群发消息已发送过", enumMP},
	{"", 45066, ClassRejected, "mass message with this clientmsgid repeated too soon", "该 clientmsgid 的群发消息重试过快", enumMP},
	{"", 45067, ClassRejected, "clientmsgid too long", "clientmsgid 过长", enumMP},
	{"", 45072, ClassRejected, "typing command invalid", "输入状态指令无效", pageCustom},
	{"", 45080, ClassRejected, "typing state needs a recent message of the person", "设置输入状态需要用户近期发过消息", pageCustom},
	{"", 45081, ClassRejected, "already typing", "已处于输入状态", pageCustom},
	{"", 45086, ClassRejected, "data-miniprogram-appid in the text is invalid", "文本中的 data-miniprogram-appid 无效", enumOpen},
	{"", 45098, ClassRejected, "menu has too many entries", "菜单项过多", enumOpen},
	{"", 45099, ClassRejected, "entry of the menu is too long", "菜单项过长", enumOpen},
	{"", 45166, ClassRejected, "content is invalid", "内容不合法", enumOpen},
	{"", 45168, ClassRejected, "content has forbidden words", "内容含有违禁词", pageSubscribe},
	{"", 46001, ClassRejected, "media does not exist", "媒体不存在", enumMP},
	{"", 47001, ClassRejected, "request is not valid JSON", "请求不是合法的 JSON", pageGlobal},
	{"", 47002, ClassRejected, `request has \uXXXX escapes`, `请求中有 \uXXXX 转义`, enumOpen},
	{"", 47003, ClassRejected, "a value of the data is invalid; errmsg names it", "data 中有字段的值不合法，errmsg 中有字段名", pageSubscribe},
	{"", 48006, ClassRejected, "quota may not be cleared again this month", "本月清零次数已用完", pageClearQuota},
	{"", 61005, ClassRejected, "component_verify_ticket expired", "component_verify_ticket 已过期", pageComponent},
	{"", 61006, ClassRejected, "component_verify_ticket invalid", "component_verify_ticket 无效", pageComponent},
	{"", 61009, ClassRejected, "authorization code invalid", "授权码无效", enumOpen},
	{"", 61010, ClassRejected, "code expired", "code 已过期", enumOpen},
	{"", 61011, ClassRejected, "component invalid", "第三方平台无效", pageComponent},
	{"", 61024, ClassRejected, "a component's token is required", "需要使用第三方平台的 token", enumOpen},
	{"", 61451, ClassRejected, "a parameter of the customer service call is invalid", "客服接口的参数无效", enumMP},
	{"", 61452, ClassRejected, "kf_account is invalid", "kf_account 无效", enumMP},
	{"", 61500, ClassRejected, "date format invalid", "日期格式不正确", enumMP},
	{"", 61501, ClassRejected, "date range invalid", "日期范围不正确", enumMP},
	{"", 65401, ClassRejected, "customer service account is invalid", "客服账号无效", enumOpen},
	{"", 76001, ClassRejected, "rid not found", "rid 不存在", pageRID},
	{"", 76002, ClassRejected, "rid malformed", "rid 格式不正确", pageRID},
	{"", 76003, ClassRejected, "cgi_path or rid not allowed", "没有该 cgi_path 或 rid 的权限", pageQuota},
	{"", 76004, ClassRejected, "rid older than seven days", "rid 已超过七天", pageRID},
	{"", 76021, ClassRejected, "cgi_path unknown", "cgi_path 不存在", pageQuota},
	{"", 76022, ClassRejected, "cgi_path not allowed with this token", "当前 token 没有该 cgi_path 的权限", pageQuota},
	{"", 85088, ClassRejected, "cloud development is not enabled", "没有开通云开发", pageURLLink},
	{"", 85096, ClassRejected, "scancode_time is a reserved parameter", "scancode_time 是保留参数", pageCode},
	{"", 85400, ClassRejected, "permanent links used up", "长期有效的链接数量已达上限", pageShortLink},
	{"", 85401, ClassRejected, "expiry outside 1 minute to 30 days", "有效期不在 1 分钟到 30 天之间", pageScheme},
	{"", 85402, ClassRejected, "env_version invalid", "env_version 无效", pageScheme},
	{"", 85403, ClassRejected, "link does not exist", "链接不存在", pageQueryScheme},
	{"", 85405, ClassRejected, "plaintext scheme is not declared", "没有声明明文 Scheme", pageQueryScheme},
	{"", 87020, ClassRejected, "same media checked too often", "同一媒体检测过于频繁", pageMediaCheck},
	{"", 9410000, ClassRejected, "no live room in the list", "直播间列表为空", pageLive},
	{"", 9800003, ClassRejected, "model_id wrong", "model_id 不正确", pageNFC},
	{"", 9800008, ClassRejected, "sn missing", "缺少 sn", pageNFC},
	{"", 9800009, ClassRejected, "sn must be empty", "sn 必须为空", pageNFC},

	{"", 87014, ClassRisky, "content is risky", "内容有风险", pageImageCheck},

	{"", 45103, ClassRetired, "API is no longer offered", "接口已下线", enumOpen},
	{"", 45109, ClassRetired, "API is no longer offered", "接口已下线", usersUniform},
	{"", 46101, ClassRetired, "API is no longer offered: subscribe messages took its place", "接口已下线，由订阅消息取代", enumOpen},
}
