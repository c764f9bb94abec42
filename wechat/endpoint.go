package wechat

// Endpoint is the path of a WeChat API, such as "/wxa/generatescheme". Any path may be
// called; this package has additional rules for some of the constants.
type Endpoint string

// The token endpoints. Only Tokens calls them.
const (
	EndpointToken       Endpoint = "/cgi-bin/token"        //nolint:gosec // a path, no credential
	EndpointStableToken Endpoint = "/cgi-bin/stable_token" //nolint:gosec // a path, no credential
	// EndpointExternal names the token service of ModeExternal in errors; it is not a path
	// of WeChat's.
	EndpointExternal Endpoint = "(external token service)"
)

// The endpoints of service providers (第三方平台). Only Tokens calls them.
const (
	EndpointComponentToken  Endpoint = "/cgi-bin/component/api_component_token"     //nolint:gosec // a path, no credential
	EndpointAuthorizerToken Endpoint = "/cgi-bin/component/api_authorizer_token"    //nolint:gosec // a path, no credential
	EndpointQueryAuth       Endpoint = "/cgi-bin/component/api_query_auth"          // exchanges an authorization code
	EndpointAuthorizerInfo  Endpoint = "/cgi-bin/component/api_get_authorizer_info" // tells the refresh token of an authorization
	EndpointStartTickets    Endpoint = "/cgi-bin/component/api_start_push_ticket"   // starts the pushes of tickets
	EndpointPreAuthCode     Endpoint = "/cgi-bin/component/api_create_preauthcode"  // begins an authorization
)

// The endpoints that send messages.
const (
	EndpointSubscribe         Endpoint = "/cgi-bin/message/subscribe/send"
	EndpointBizSubscribe      Endpoint = "/cgi-bin/message/subscribe/bizsend"
	EndpointTemplate          Endpoint = "/cgi-bin/message/template/send"
	EndpointCustom            Endpoint = "/cgi-bin/message/custom/send"
	EndpointUniform           Endpoint = "/cgi-bin/message/wxopen/template/uniform_send"
	EndpointTemplateSubscribe Endpoint = "/cgi-bin/message/template/subscribe"
)

// The endpoints that make links and codes.
const (
	EndpointScheme        Endpoint = "/wxa/generatescheme"
	EndpointURLLink       Endpoint = "/wxa/generate_urllink"
	EndpointNFCScheme     Endpoint = "/wxa/generatenfcscheme"
	EndpointShortLink     Endpoint = "/wxa/genwxashortlink"
	EndpointUnlimitedCode Endpoint = "/wxa/getwxacodeunlimit"
	EndpointCode          Endpoint = "/wxa/getwxacode"
	EndpointQRCode        Endpoint = "/cgi-bin/wxaapp/createwxaqrcode"
)

// The endpoints that check content.
const (
	EndpointTextCheck  Endpoint = "/wxa/msg_sec_check"
	EndpointImageCheck Endpoint = "/wxa/img_sec_check"
	EndpointMediaCheck Endpoint = "/wxa/media_check_async"
)

// The endpoints about quotas and calls.
const (
	EndpointQuota      Endpoint = "/cgi-bin/openapi/quota/get"
	EndpointClearQuota Endpoint = "/cgi-bin/clear_quota"
	EndpointRID        Endpoint = "/cgi-bin/openapi/rid/get"
)

// The endpoints about persons, figures and live rooms.
const (
	EndpointSession      Endpoint = "/sns/jscode2session" // has the app's secret, no token
	EndpointPhone        Endpoint = "/wxa/business/getuserphonenumber"
	EndpointVisitTrend   Endpoint = "/datacube/getweanalysisappiddailyvisittrend"
	EndpointUserPortrait Endpoint = "/datacube/getweanalysisappiduserportrait"
	EndpointLive         Endpoint = "/wxa/business/getliveinfo"
)
