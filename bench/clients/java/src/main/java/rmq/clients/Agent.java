package rmq.clients;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/**
 * A client that does as it is told on standard input and says what happens on standard output, one line each, until its input ends. It judges
 * nothing: golang/failover starts it, makes the servers fail meanwhile, and judges by these lines. golang/failover/client.go is the same
 * with the Go client.
 *
 * <pre>
 * produce id=ID namesrv=HOST:PORT topic=T threads=N keys=N repeat=BOOL pauseMs=N retries=N timeoutMs=N pollMs=N
 * consume id=ID namesrv=HOST:PORT topic=T group=G orderly=BOOL refuse=BOOL maxReconsume=N workMs=N pollMs=N
 * stop id=ID
 *
 * started ID | stopped ID | error ID TEXT
 * sent ID KEY N BEGIN END STATUS BROKER QUEUE OFFSET
 * failed ID KEY N BEGIN END TEXT
 * got ID BROKER QUEUE OFFSET RECONSUMED COPY BEGIN END BODY
 * </pre>
 *
 * COPY is true for what came from the retry topic or the dead-letter queue. Times are microseconds of the epoch. A body is "KEY:N".
 */
public final class Agent {
    private static final long EPOCH_US = System.currentTimeMillis() * 1_000 - System.nanoTime() / 1_000;

    private final Map<String, Runnable> running = new ConcurrentHashMap<>();

    private Agent() {
    }

    public static void main(String[] args) {
        Program.main(() -> {
            new Agent().obey();
            return 0;
        });
    }

    private void obey() throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        ExecutorService pool = Executors.newCachedThreadPool();
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] words = line.split(" ");
            Map<String, String> values = new HashMap<>();
            for (int i = 1; i < words.length; i++) {
                String[] pair = words[i].split("=", 2);
                values.put(pair[0], pair[1]);
            }
            pool.execute(() -> obey(words[0], new Order(values)));
        }
    }

    private void obey(String command, Order order) {
        String id = order.text("id");
        try {
            switch (command) {
                case "produce" -> {
                    running.put(id, AgentProducer.start(id, order));
                    say("started " + id);
                }
                case "consume" -> {
                    running.put(id, AgentConsumer.start(id, order));
                    say("started " + id);
                }
                case "stop" -> {
                    running.remove(id).run();
                    say("stopped " + id);
                }
                default -> say("error " + id + " unknown command " + command);
            }
        } catch (Throwable e) {
            say("error " + id + " " + oneLine(e));
        }
    }

    static void say(String line) {
        synchronized (System.out) {
            System.out.println(line);
        }
    }

    static String oneLine(Throwable e) {
        String text = e.getCause() == null ? e.toString() : e.getCause() + "; " + e; // the cause first: the client's own text is long
        return text.replaceAll("\\s*\\R\\s*", " ");
    }

    static long nowUs() {
        return EPOCH_US + System.nanoTime() / 1_000;
    }

    /** The values of one command. */
    record Order(Map<String, String> values) {
        String text(String name) {
            String v = values.get(name);
            if (v == null) {
                throw new IllegalArgumentException("no " + name + " in " + values);
            }
            return v;
        }

        int number(String name) {
            return Integer.parseInt(text(name));
        }

        boolean flag(String name) {
            return Boolean.parseBoolean(text(name));
        }
    }
}
