// Sends "your order is shipped" through the wxcourier gateway, and waits for the outcome.
//
//     node producer.mjs APP OPENID ORDER
//
// Node 18 or newer; no packages. $GATEWAY_URL is the gateway, $GATEWAY_KEY its key, if it has keys.
import { setTimeout as sleep } from 'node:timers/promises';

const { GATEWAY_URL: gateway = 'http://127.0.0.1:8080', GATEWAY_KEY: key } = process.env;
const pauses = [1, 2, 4, 8, 16, 0]; // seconds after each attempt; the last one is final

// request repeats a request until the gateway answers it. That is safe for tasks: a task that is
// already enqueued under its id is not enqueued again.
async function request(method, path, body) {
  const headers = { 'Content-Type': 'application/json' };
  if (key) headers.Authorization = `Bearer ${key}`;
  for (let pause of pauses) {
    try {
      const answer = await fetch(gateway + path, {
        method, headers, body: body && JSON.stringify(body), signal: AbortSignal.timeout(40_000),
      });
      const text = await answer.text();
      if (answer.ok) return JSON.parse(text);
      if (![429, 502, 503, 504].includes(answer.status) || !pause) {
        throw new Refused(`${method} ${path}: ${answer.status}\n${explain(text)}`);
      }
      pause = Number(answer.headers.get('Retry-After')) || pause;
    } catch (e) { // no answer, or half of one
      if (e instanceof Refused || !pause) throw e;
    }
    await sleep(pause * 1000);
  }
}

class Refused extends Error {}

// explain returns the faults of an error answer, one a line: where, and what is wrong.
function explain(text) {
  try {
    const { detail, errors = [] } = JSON.parse(text);
    return [detail, ...errors.map((e) => `${e.location}: ${e.message}`)].join('\n');
  } catch {
    return text; // not from the gateway
  }
}

// wait returns the task when it has ended, or as it is after a time.
async function wait(app, id, seconds = 120) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const task = await request('GET', `/v1/tasks/${app}/${id}?wait=30s`);
    if (task.state === 'done' || Date.now() > end) return task;
  }
}

const [app, openid, order] = process.argv.slice(2);
if (!order) {
  console.error('usage: node producer.mjs APP OPENID ORDER');
  process.exit(2);
}
const id = `order-${order}-shipped`; // the idempotency key: one message for each order
try {
  await request('POST', '/v1/tasks', {
    type: 'send:subscribe', app, id,
    body: { touser: openid, template_id: 'TEMPLATE_ID', data: { thing1: { value: '订单已发货' } } },
  });
  const task = await wait(app, id);
  console.log(id, task.outcome ?? task.state, task.errmsg ?? '');
  process.exitCode = task.outcome === 'accepted' ? 0 : 1;
} catch (e) {
  console.error(e.message);
  process.exitCode = 1;
}
