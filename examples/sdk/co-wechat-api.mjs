// Calls WeChat through the wxcourier gateway with co-wechat-api.
//
//     npm install && node co-wechat-api.mjs APP OPENID
//
// $GATEWAY_URL is the gateway. $GATEWAY_KEY is a key of it with the scope call: it stands where the
// app secret stood. A gateway without keys accepts any text.
import { writeFile } from 'node:fs/promises';
import WeChatAPI from 'co-wechat-api';

const { GATEWAY_URL: gateway = 'http://127.0.0.1:8080', GATEWAY_KEY: key = 'none' } = process.env;
const [app, openid] = process.argv.slice(2);

const api = new WeChatAPI(app, key);
// The only change: the base URLs.
api.prefix = `${gateway}/wechat/cgi-bin/`;
api.wxaPrefix = `${gateway}/wechat/wxa/`;
api.snsPrefix = `${gateway}/wechat/sns/`;
api.setOpts({ timeout: 15_000 }); // a call may wait for the rate limit; the default is 3 s

const sent = await api.sendSubscribeMessage(openid, 'TEMPLATE_ID', 'pages/index/index', { thing1: { value: '订单已发货' } });
console.log('message', sent.errcode, sent.errmsg);

const image = await api.getWXACodeUnlimit('order=42', 'pages/index/index');
await writeFile('code.jpg', image);
console.log('code', image.length > 0 ? 'written to code.jpg' : 'empty');
