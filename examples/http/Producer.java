import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.regex.Pattern;

/**
 * Sends "your order is shipped" through the wxcourier gateway, and waits for the outcome.
 *
 * <pre>java Producer.java APP OPENID ORDER</pre>
 *
 * Java 17 or newer; no libraries: a service uses its own for JSON. $GATEWAY_URL is the gateway,
 * $GATEWAY_KEY its key, if it has keys.
 */
public class Producer {
    /** Seconds after each attempt; the last one is final. */
    static final List<Integer> PAUSES = List.of(1, 2, 4, 8, 16, 0);

    final HttpClient client = HttpClient.newBuilder().connectTimeout(Duration.ofSeconds(5)).build();
    final String gateway = System.getenv().getOrDefault("GATEWAY_URL", "http://127.0.0.1:8080");
    final String key = System.getenv("GATEWAY_KEY");

    public static void main(String[] args) throws InterruptedException {
        if (args.length != 3) {
            System.err.println("usage: java Producer.java APP OPENID ORDER");
            System.exit(2);
        }
        try {
            System.exit(new Producer().shipped(args[0], args[1], args[2]) ? 0 : 1);
        } catch (IOException e) {
            System.err.println(e.getMessage());
            System.exit(1);
        }
    }

    boolean shipped(String app, String openid, String order) throws IOException, InterruptedException {
        String id = "order-" + order + "-shipped"; // the idempotency key: one message for each order
        request("POST", "/v1/tasks", """
                {"type": "send:subscribe", "app": %s, "id": %s,
                 "body": {"touser": %s, "template_id": "TEMPLATE_ID", "data": {"thing1": {"value": %s}}}}
                """.formatted(quote(app), quote(id), quote(openid), quote("订单已发货")));
        String task = waitFor(app, id, Duration.ofMinutes(2));
        String outcome = field(task, "outcome");
        System.out.println(id + " " + (outcome.isEmpty() ? field(task, "state") : outcome) + " " + field(task, "errmsg"));
        return outcome.equals("accepted");
    }

    /** Returns the task when it has ended, or as it is after a time. */
    String waitFor(String app, String id, Duration atMost) throws IOException, InterruptedException {
        Instant end = Instant.now().plus(atMost);
        while (true) {
            String task = request("GET", "/v1/tasks/" + app + "/" + id + "?wait=30s", null);
            if (field(task, "state").equals("done") || Instant.now().isAfter(end)) {
                return task;
            }
        }
    }

    /**
     * Repeats a request until the gateway answers it. That is safe for tasks: a task that is already
     * enqueued under its id is not enqueued again.
     */
    String request(String method, String path, String body) throws IOException, InterruptedException {
        var request = HttpRequest.newBuilder(URI.create(gateway + path)).timeout(Duration.ofSeconds(40))
                .method(method, body == null ? BodyPublishers.noBody() : BodyPublishers.ofString(body))
                .header("Content-Type", "application/json");
        if (key != null) {
            request.header("Authorization", "Bearer " + key);
        }
        for (int pause : PAUSES) {
            try {
                HttpResponse<String> answer = client.send(request.build(), BodyHandlers.ofString());
                if (answer.statusCode() < 300) {
                    return answer.body();
                }
                if (!List.of(429, 502, 503, 504).contains(answer.statusCode()) || pause == 0) {
                    throw new RefusedException(method + " " + path + ": " + answer.statusCode() + "\n" + answer.body());
                }
                pause = answer.headers().firstValue("Retry-After")
                        .filter(after -> after.matches("[0-9]{1,5}")).map(Integer::valueOf).orElse(pause);
            } catch (RefusedException e) {
                throw e;
            } catch (IOException e) { // no answer, or half of one
                if (pause == 0) {
                    throw e;
                }
            }
            Thread.sleep(Duration.ofSeconds(pause).toMillis());
        }
        throw new AssertionError("the last pause is 0");
    }

    static class RefusedException extends IOException {
        RefusedException(String message) {
            super(message);
        }
    }

    /** Returns a text field of a JSON object, "" without it. */
    static String field(String json, String name) {
        var found = Pattern.compile('"' + name + "\"\\s*:\\s*\"([^\"]*)\"").matcher(json);
        return found.find() ? found.group(1) : "";
    }

    /** Returns a text as a JSON string. */
    static String quote(String text) {
        return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"") + '"';
    }
}
