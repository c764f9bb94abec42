package wechat

// endpointRows give the meaning of a code on one endpoint, where class or meaning differs from
// the default row.
var endpointRows = []CodeRow{
	{EndpointToken, 40001, ClassConfig, "app secret wrong, or of another app", pageToken},
	{EndpointToken, 40002, ClassConfig, "grant_type invalid", pageToken},
	{EndpointToken, 40013, ClassConfig, "appid invalid", pageToken},
	{EndpointToken, 45009, ClassQuotaDay, "daily quota of token calls used up; stable_token has its own", usersToken},

	{EndpointStableToken, 40001, ClassConfig, "app secret wrong, or of another app", pageStable},
	{EndpointStableToken, 40002, ClassConfig, "grant_type invalid", pageStable},
	{EndpointStableToken, 40013, ClassConfig, "appid invalid", pageStable},
	{EndpointStableToken, 43002, ClassConfig, "POST required: something on the way changes requests", pageStable},
	{EndpointStableToken, 45009, ClassQuotaDay, "daily quota of token calls used up; clear_quota restores it", pageStable},
	{EndpointStableToken, 45011, ClassRateMinute, "too many token calls in a minute", pageStable},

	{EndpointSubscribe, 41030, ClassRejected, "page is wrong, or not in the released version", pageSubscribe},

	// On endpoints whose body names another mini program, 40013 refers to that appid.
	{EndpointTemplate, 40013, ClassRejected, "appid of the mini program is not bound to the account", pageTemplate},
	{EndpointTemplate, 43100, ClassBusy, "template changed too often, or left the library", usersTemplate},
	// The page of bizsend lists no codes; its miniprogram field is that of template messages.
	{EndpointBizSubscribe, 40013, ClassRejected, "appid of the mini program is not bound to the account", pageTemplate},
	{EndpointTemplateSubscribe, 40013, ClassRejected, "appid of the mini program is not bound to the account", pageOneTime},
	{EndpointUniform, 40013, ClassRejected, "appid of the mini program or account is not bound", enumMA},
	{EndpointUniform, 41033, ClassRejected, "mini program was not created through the API", enumOpen},
	{EndpointCustom, 40013, ClassRejected, "appid of the mini program's page is invalid", pageCustom},

	{EndpointScheme, 40002, ClassAccount, "account may not make links", pageScheme},
	{EndpointScheme, 40013, ClassAccount, "making links was taken away", pageScheme},
	{EndpointScheme, 45009, ClassQuotaDay, "daily quota of schemes used up", pageScheme},
	{EndpointScheme, 85400, ClassRejected, "permanent schemes used up", pageScheme},
	{EndpointURLLink, 40002, ClassAccount, "account may not make links", pageURLLink},
	{EndpointURLLink, 40013, ClassAccount, "making links was taken away", pageURLLink},
	{EndpointNFCScheme, 40002, ClassAccount, "account may not make NFC links", pageNFC},
	{EndpointNFCScheme, 40013, ClassAccount, "making NFC links was taken away", pageNFC},
	{EndpointShortLink, 40066, ClassRejected, "page is not in the released version", pageShortLink},
	{EndpointShortLink, 43104, ClassAccount, "account may not make short links", pageShortLink},
	{EndpointShortLink, 45009, ClassQuotaDay, "daily quota of short links used up", pageShortLink},

	{EndpointUnlimitedCode, 40129, ClassRejected, "scene has characters that are not allowed", pageUnlimited},
	{EndpointUnlimitedCode, 45009, ClassRateMinute, "too many calls in a minute (5000)", enumMA},
	{EndpointQRCode, 40159, ClassRejected, "path empty or longer than 128 bytes", pageQRCode},
	{EndpointQRCode, 45029, ClassRejected, "number of codes used up for good", pageQRCode},

	{EndpointTextCheck, 40129, ClassRejected, "scene is not one of 1 to 4", pageTextCheck},
	{EndpointTextCheck, 43104, ClassRejected, "openid is of another app", pageTextCheck},
	{EndpointTextCheck, 61010, ClassRefused, "person has not used the mini program within two hours", pageTextCheck},
	{EndpointImageCheck, 40006, ClassRejected, "image larger than 1 MB", pageImageCheck},
	{EndpointImageCheck, 41005, ClassRejected, "upload has no file, or the file has no name", usersUpload},
	{EndpointMediaCheck, 43104, ClassRejected, "openid is of another app", pageMediaCheck},
	{EndpointMediaCheck, 61010, ClassRefused, "person has not used the mini program within two hours", pageMediaCheck},

	// 40013 does not mean that the app's own id is wrong, and 45011 is about one person.
	{EndpointPhone, 40013, ClassRejected, "code is of another app", pagePhone},
	{EndpointSession, 45011, ClassPerUser, "too many logins of the person in a minute (100)", enumMA},
}
