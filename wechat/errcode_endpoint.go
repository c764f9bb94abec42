package wechat

// endpointRows give the meaning of a code on one endpoint, where class or meaning differs from
// the default row.
var endpointRows = []CodeRow{
	{EndpointToken, 40001, ClassConfig, "app secret wrong, or of another app", "AppSecret 不正确，或属于其他应用", pageToken},
	{EndpointToken, 40002, ClassConfig, "grant_type invalid", "grant_type 无效", pageToken},
	{EndpointToken, 40013, ClassConfig, "appid invalid", "appid 无效", pageToken},
	{EndpointToken, 45009, ClassQuotaDay, "daily quota of token calls used up; stable_token has its own", "获取 token 的当日额度已用完；stable_token 的额度单独计算", usersToken},

	{EndpointStableToken, 40001, ClassConfig, "app secret wrong, or of another app", "AppSecret 不正确，或属于其他应用", pageStable},
	{EndpointStableToken, 40002, ClassConfig, "grant_type invalid", "grant_type 无效", pageStable},
	{EndpointStableToken, 40013, ClassConfig, "appid invalid", "appid 无效", pageStable},
	{EndpointStableToken, 43002, ClassConfig, "POST required: something on the way changes requests", "需要使用 POST 请求：请求在途中被改写", pageStable},
	{EndpointStableToken, 45009, ClassQuotaDay, "daily quota of token calls used up; clear_quota restores it", "获取 token 的当日额度已用完；可用 clear_quota 恢复", pageStable},
	{EndpointStableToken, 45011, ClassRateMinute, "too many token calls in a minute", "一分钟内获取 token 次数过多", pageStable},

	{EndpointComponentToken, 40001, ClassConfig, "secret of the service provider wrong", "第三方平台的 AppSecret 不正确", pageComponent},
	{EndpointComponentToken, 61011, ClassConfig, "app id of the service provider invalid", "第三方平台的 appid 无效", pageComponent},
	// Unlike on other endpoints these two are about the whole authorization.
	{EndpointAuthorizerToken, 42007, ClassUnauthorized, "account holder changed the password, authorization is void", "账号修改了密码，授权已失效", enumMP},
	{EndpointAuthorizerToken, 61007, ClassUnauthorized, "account has authorized no API for the service provider", "账号没有把任何接口授权给该第三方平台", enumOpen},

	{EndpointSubscribe, 41030, ClassRejected, "page is wrong, or not in the released version", "page 不正确，或不在已发布的版本中", pageSubscribe},

	// On endpoints whose body names another mini program, 40013 refers to that appid.
	{EndpointTemplate, 40013, ClassRejected, "appid of the mini program is not bound to the account", "小程序 appid 没有与账号绑定", pageTemplate},
	{EndpointTemplate, 43100, ClassBusy, "template changed too often, or left the library", "模板修改过于频繁，或已从模板库下架", usersTemplate},
	// The page of bizsend lists no codes; its miniprogram field is that of template messages.
	{EndpointBizSubscribe, 40013, ClassRejected, "appid of the mini program is not bound to the account", "小程序 appid 没有与账号绑定", pageTemplate},
	{EndpointTemplateSubscribe, 40013, ClassRejected, "appid of the mini program is not bound to the account", "小程序 appid 没有与账号绑定", pageOneTime},
	{EndpointUniform, 40013, ClassRejected, "appid of the mini program or account is not bound", "小程序或公众号的 appid 没有绑定", enumMA},
	{EndpointUniform, 41033, ClassRejected, "mini program was not created through the API", "小程序不是通过接口注册的", enumOpen},
	{EndpointCustom, 40013, ClassRejected, "appid of the mini program's page is invalid", "小程序卡片的 appid 无效", pageCustom},

	{EndpointScheme, 40002, ClassAccount, "account may not make links", "账号不能生成链接", pageScheme},
	{EndpointScheme, 40013, ClassAccount, "making links was taken away", "生成链接的权限已被收回", pageScheme},
	{EndpointScheme, 45009, ClassQuotaDay, "daily quota of schemes used up", "当日 URL Scheme 生成额度已用完", pageScheme},
	{EndpointScheme, 85400, ClassRejected, "permanent schemes used up", "长期有效的 URL Scheme 数量已达上限", pageScheme},
	{EndpointURLLink, 40002, ClassAccount, "account may not make links", "账号不能生成链接", pageURLLink},
	{EndpointURLLink, 40013, ClassAccount, "making links was taken away", "生成链接的权限已被收回", pageURLLink},
	{EndpointNFCScheme, 40002, ClassAccount, "account may not make NFC links", "账号不能生成 NFC 链接", pageNFC},
	{EndpointNFCScheme, 40013, ClassAccount, "making NFC links was taken away", "生成 NFC 链接的权限已被收回", pageNFC},
	{EndpointShortLink, 40066, ClassRejected, "page is not in the released version", "已发布的小程序中没有该页面", pageShortLink},
	{EndpointShortLink, 43104, ClassAccount, "account may not make short links", "账号不能生成短链接", pageShortLink},
	{EndpointShortLink, 45009, ClassQuotaDay, "daily quota of short links used up", "当日短链接生成额度已用完", pageShortLink},

	{EndpointUnlimitedCode, 40129, ClassRejected, "scene has characters that are not allowed", "scene 中有不允许的字符", pageUnlimited},
	{EndpointUnlimitedCode, 45009, ClassRateMinute, "too many calls in a minute (5000)", "一分钟内调用次数过多（5000 次）", enumMA},
	{EndpointQRCode, 40159, ClassRejected, "path empty or longer than 128 bytes", "path 为空或超过 128 字节", pageQRCode},
	{EndpointQRCode, 45029, ClassRejected, "number of codes used up for good", "小程序码数量已达上限", pageQRCode},

	{EndpointTextCheck, 40129, ClassRejected, "scene is not one of 1 to 4", "scene 不是 1 到 4", pageTextCheck},
	{EndpointTextCheck, 43104, ClassRejected, "openid is of another app", "openid 属于其他应用", pageTextCheck},
	{EndpointTextCheck, 61010, ClassRefused, "person has not used the mini program within two hours", "用户近两小时内没有访问小程序", pageTextCheck},
	{EndpointImageCheck, 40006, ClassRejected, "image larger than 1 MB", "图片超过 1 MB", pageImageCheck},
	{EndpointImageCheck, 41005, ClassRejected, "upload has no file, or the file has no name", "上传中没有文件，或文件没有名称", usersUpload},
	{EndpointMediaCheck, 43104, ClassRejected, "openid is of another app", "openid 属于其他应用", pageMediaCheck},
	{EndpointMediaCheck, 61010, ClassRefused, "person has not used the mini program within two hours", "用户近两小时内没有访问小程序", pageMediaCheck},

	// 40013 does not mean that the app's own id is wrong, and 45011 is about one person.
	{EndpointPhone, 40013, ClassRejected, "code is of another app", "code 属于其他应用", pagePhone},
	{EndpointSession, 45011, ClassPerUser, "too many logins of the person in a minute (100)", "用户一分钟内登录次数过多（100 次）", enumMA},
}
