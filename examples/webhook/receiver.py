"""Receives results from the webhooks of wxcourier, and checks who sent them.

    WEBHOOK_SECRET=whsec_… python3 receiver.py [PORT]

Python 3.8 or newer; no packages. $WEBHOOK_SECRET is the secret of the endpoint in wxcourier.yaml.
The signature is that of https://www.standardwebhooks.com, which has libraries in many languages.
"""
import base64
import hashlib
import hmac
import http.server
import json
import os
import sys
import time

TOLERANCE = 5 * 60  # seconds that the clocks may differ


def key(secret):
    """The bytes that sign: "whsec_" is followed by base64, any other text is taken as it is."""
    return base64.b64decode(secret[len("whsec_"):]) if secret.startswith("whsec_") else secret.encode()


def verify(secret, headers, body):
    """Reports whether a call is from wxcourier, and is no old one that somebody repeats."""
    call, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not at.isdecimal() or abs(time.time() - int(at)) > TOLERANCE:
        return False
    signed = f"{call}.{at}.".encode() + body
    want = "v1," + base64.b64encode(hmac.new(key(secret), signed, hashlib.sha256).digest()).decode()
    # While a secret is replaced there may be several signatures.
    return any(hmac.compare_digest(want, given) for given in headers.get("webhook-signature", "").split())


class Receiver(http.server.BaseHTTPRequestHandler):
    seen = set()  # of webhook ids; a service keeps them in its database, with what it did

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))  # verify the bytes, then parse
        if not verify(os.environ["WEBHOOK_SECRET"], self.headers, body):
            return self.answer(401)
        call = self.headers["webhook-id"]
        if call not in self.seen:  # a call is repeated, with its id, until it is answered 2xx
            handle(json.loads(body))
            self.seen.add(call)
        self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):  # the default logs each request
        pass


def handle(event):
    data = event["data"]
    if event["type"] == "gap":
        print(f"gap: results of {data['app']} until {data['to']} were removed before they were sent", flush=True)
        return
    for result in data["results"]:  # of the types results and test
        print(result["app"], result["id"], result["outcome"], flush=True)


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Receiver)
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
