<?php
/* Sends "your order is shipped" through the wxcourier gateway, and waits for the outcome.
 *
 *     php producer.php APP OPENID ORDER
 *
 * PHP 8 with the curl extension; no packages. $GATEWAY_URL is the gateway, $GATEWAY_KEY its key, if
 * it has keys.
 */
declare(strict_types=1);

const PAUSES = [1, 2, 4, 8, 16, 0]; // seconds after each attempt; the last one is final

/**
 * Repeats a request until the gateway answers it. That is safe for tasks: a task that is already
 * enqueued under its id is not enqueued again.
 */
function request(string $method, string $path, ?array $body = null): array
{
    $retryAfter = 0;
    $headers = ['Content-Type: application/json'];
    if ($key = getenv('GATEWAY_KEY')) {
        $headers[] = "Authorization: Bearer $key";
    }
    $curl = curl_init((getenv('GATEWAY_URL') ?: 'http://127.0.0.1:8080') . $path);
    curl_setopt_array($curl, [
        CURLOPT_CUSTOMREQUEST => $method,
        CURLOPT_HTTPHEADER => $headers,
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_TIMEOUT => 40,
        CURLOPT_HEADERFUNCTION => function ($curl, string $line) use (&$retryAfter): int {
            if (stripos($line, 'Retry-After:') === 0) {
                $retryAfter = (int) substr($line, strlen('Retry-After:'));
            }
            return strlen($line);
        },
    ]);
    if ($body !== null) {
        curl_setopt($curl, CURLOPT_POSTFIELDS, json_encode($body, JSON_UNESCAPED_UNICODE | JSON_THROW_ON_ERROR));
    }
    foreach (PAUSES as $pause) {
        $retryAfter = 0;
        $text = curl_exec($curl);
        $status = curl_getinfo($curl, CURLINFO_RESPONSE_CODE);
        if ($text === false) { // no answer, or half of one
            if ($pause === 0) {
                throw new RuntimeException("$method $path: " . curl_error($curl));
            }
        } elseif ($status < 300) {
            return json_decode($text, true, flags: JSON_THROW_ON_ERROR);
        } elseif (!in_array($status, [429, 502, 503, 504], true) || $pause === 0) {
            throw new RuntimeException("$method $path: $status\n" . explain($text));
        }
        sleep($retryAfter ?: $pause);
    }
}

/** Returns the faults of an error answer, one a line: where, and what is wrong. */
function explain(string $text): string
{
    $problem = json_decode($text, true);
    if (!is_array($problem)) {
        return $text; // not from the gateway
    }
    $lines = [$problem['detail'] ?? ''];
    foreach ($problem['errors'] ?? [] as $fault) {
        $lines[] = ($fault['location'] ?? '') . ': ' . $fault['message'];
    }
    return implode("\n", $lines);
}

/** Returns the task when it has ended, or as it is after a time. */
function wait(string $app, string $id, int $seconds = 120): array
{
    $end = time() + $seconds;
    do {
        $task = request('GET', "/v1/tasks/$app/$id?wait=30s");
    } while ($task['state'] !== 'done' && time() < $end);
    return $task;
}

if ($argc !== 4) {
    fwrite(STDERR, "usage: php producer.php APP OPENID ORDER\n");
    exit(2);
}
[, $app, $openid, $order] = $argv;
$id = "order-$order-shipped"; // the idempotency key: one message for each order
try {
    request('POST', '/v1/tasks', [
        'type' => 'send:subscribe', 'app' => $app, 'id' => $id,
        'body' => ['touser' => $openid, 'template_id' => 'TEMPLATE_ID', 'data' => ['thing1' => ['value' => '订单已发货']]],
    ]);
    $task = wait($app, $id);
} catch (Exception $e) {
    fwrite(STDERR, $e->getMessage() . "\n");
    exit(1);
}
echo $id, ' ', $task['outcome'] ?? $task['state'], ' ', $task['errmsg'] ?? '', "\n";
exit(($task['outcome'] ?? '') === 'accepted' ? 0 : 1);
