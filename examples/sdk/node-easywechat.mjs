// Calls WeChat through the wxcourier gateway with node-easywechat.
//
//     npm install && node node-easywechat.mjs APP OPENID
//
// $GATEWAY_URL is the gateway. $GATEWAY_KEY is a key of it with the scope call: it stands where the
// app secret stood. A gateway without keys accepts any text.
import EasyWeChat from 'node-easywechat';

const { GATEWAY_URL: gateway = 'http://127.0.0.1:8080', GATEWAY_KEY: key = 'none' } = process.env;
const [app, openid] = process.argv.slice(2);

const mini = new EasyWeChat.MiniApp({
  app_id: app,
  secret: key,
  use_stable_access_token: true,
  http: { baseURL: `${gateway}/wechat/`, timeout: 15_000 }, // the only change
});
const client = mini.getClient();

const sent = await client.post('wxa/msg_sec_check', {
  json: { version: 2, scene: 1, openid, content: '你好' },
});
console.log('check', sent.toObject().result?.suggest);

const link = await client.post('wxa/generatescheme', { json: { jump_wxa: { path: 'pages/index/index' } } });
console.log('link', link.toObject().openlink);
