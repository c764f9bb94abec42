"""Sends "your order is shipped" through the wxcourier gateway, and waits for the outcome.

    python3 producer.py APP OPENID ORDER

Python 3.8 or newer; no packages. $GATEWAY_URL is the gateway, $GATEWAY_KEY its key, if it has keys.
"""
import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.request

GATEWAY = os.environ.get("GATEWAY_URL", "http://127.0.0.1:8080")
KEY = os.environ.get("GATEWAY_KEY")
PAUSES = (1, 2, 4, 8, 16, 0)  # seconds after each attempt; the last one is final


def request(method, path, body=None):
    """Repeats a request until the gateway answers it.

    That is safe for tasks: a task that is already enqueued under its id is not enqueued again.
    """
    headers = {"Content-Type": "application/json"}
    if KEY:
        headers["Authorization"] = "Bearer " + KEY
    data = json.dumps(body).encode() if body else None
    for pause in PAUSES:
        try:
            r = urllib.request.Request(GATEWAY + path, data, headers, method=method)
            with urllib.request.urlopen(r, timeout=40) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as e:  # the gateway refuses the request
            if e.code not in (429, 502, 503, 504) or not pause:
                raise SystemExit(f"{method} {path}: {e.code}\n{explain(e.read())}")
            after = e.headers.get("Retry-After", "")
            pause = int(after) if after.isdecimal() else pause
        except (OSError, http.client.HTTPException, ValueError) as e:  # no answer, or half of one
            if not pause:
                raise SystemExit(f"{method} {path}: {e}")
        time.sleep(pause)


def explain(text):
    """The faults of an error answer, one a line: where, and what is wrong."""
    try:
        problem = json.loads(text)
    except ValueError:  # not from the gateway
        return text.decode(errors="replace")
    faults = [f"{f.get('location', '')}: {f['message']}" for f in problem.get("errors", [])]
    return "\n".join([problem.get("detail", "")] + faults)


def wait(app, task_id, seconds=120):
    """Returns the task when it has ended, or as it is after a time."""
    end = time.monotonic() + seconds
    while True:
        task = request("GET", f"/v1/tasks/{app}/{task_id}?wait=30s")
        if task["state"] == "done" or time.monotonic() > end:
            return task


def main(app, openid, order):
    task_id = f"order-{order}-shipped"  # the idempotency key: one message for each order
    request("POST", "/v1/tasks", {
        "type": "send:subscribe", "app": app, "id": task_id,
        "body": {"touser": openid, "template_id": "TEMPLATE_ID", "data": {"thing1": {"value": "订单已发货"}}},
    })
    task = wait(app, task_id)
    print(task_id, task.get("outcome", task["state"]), task.get("errmsg", ""))
    return 0 if task.get("outcome") == "accepted" else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]) if len(sys.argv) == 4 else __doc__)
