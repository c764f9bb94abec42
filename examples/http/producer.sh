#!/bin/sh
# Sends "your order is shipped" through the wxcourier gateway, and waits for the outcome.
#
#     sh producer.sh APP OPENID ORDER
#
# curl 7.71 or newer. $GATEWAY_URL is the gateway, $GATEWAY_KEY its key, if it has keys.
set -eu

[ $# -eq 3 ] || { echo "usage: sh producer.sh APP OPENID ORDER" >&2; exit 2; }
app=$1 openid=$2 order=$3
id=order-$order-shipped # the idempotency key: one message for each order
gateway=${GATEWAY_URL:-http://127.0.0.1:8080}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# In a file that only this user can read: a key among the arguments is shown by ps.
umask 077
printf '%s\n' ${GATEWAY_KEY:+"Authorization: Bearer $GATEWAY_KEY"} >"$work/headers"

# request ARGS… runs curl and puts the answer into $work/answer. curl repeats the request, also when
# no answer came. That is safe for tasks: a task that is already enqueued under its id is not
# enqueued again.
request() {
  status=$(curl -sS --retry 5 --retry-all-errors --max-time 40 -H "@$work/headers" \
    -o "$work/answer" -w '%{http_code}' "$@" 2>"$work/errors") || { cat "$work/errors" >&2; exit 1; }
  [ "$status" -lt 300 ] || { echo "$status"; cat "$work/answer"; exit 1; } >&2
}

# field NAME prints a field of the answer. With jq: jq -r ".$1"
field() { grep -o "\"$1\": *\"[^\"]*\"" "$work/answer" | head -n 1 | cut -d "\"" -f 4; }

# The arguments have no characters that JSON escapes; otherwise make the body with jq.
request -H 'Content-Type: application/json' --data-binary @- "$gateway/v1/tasks" <<JSON
{"type": "send:subscribe", "app": "$app", "id": "$id",
 "body": {"touser": "$openid", "template_id": "TEMPLATE_ID", "data": {"thing1": {"value": "订单已发货"}}}}
JSON

for _ in 1 2 3 4; do # at most two minutes
  request "$gateway/v1/tasks/$app/$id?wait=30s"
  [ "$(field state)" != done ] || break
done
outcome=$(field outcome)
echo "$id ${outcome:-$(field state)} $(field errmsg)"
[ "$outcome" = accepted ]
