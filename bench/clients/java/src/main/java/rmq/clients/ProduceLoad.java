package rmq.clients;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.MQVersion;
import org.apache.rocketmq.common.message.Message;

/**
 * Closed-loop load by the Apache Java producer: each of a number of threads sends, waits for the answer, and sends again.
 *
 * <pre>--namesrv HOST:PORT --topic T [--queues 8] [--threads 32] [--clients 1] [--size 1024] [--warmup 10] [--seconds 30]</pre>
 *
 * Creates the topic, sends for warmup + seconds and prints one line of JSON about the latter part; exit 1 if a send failed or none succeeded.
 * The threads share the given number of producer instances, each of which has a connection of its own.
 */
public final class ProduceLoad {
    private ProduceLoad() {
    }

    public static void main(String[] args) {
        Program.main(() -> run(args));
    }

    private static int run(String[] args) throws Exception {
        Flags flags = new Flags("produce", args, "namesrv", System.getenv("NAMESRV_ADDR"), "topic", null, "queues", "8",
            "threads", "32", "clients", "1", "size", "1024", "warmup", "10", "seconds", "30");
        String topic = flags.text("topic");
        byte[] body = SendCases.randomBytes(flags.number("size"));
        try (Cluster cluster = new Cluster(flags.text("namesrv")); Ctx x = new Ctx(cluster, "load")) {
            x.configureTopic(topic, flags.number("queues"), Ctx.READ_WRITE);
            x.readQueues(topic);
            List<DefaultMQProducer> producers = new ArrayList<>();
            for (int i = 0; i < flags.number("clients"); i++) {
                DefaultMQProducer p = x.startedProducer();
                p.setCompressMsgBodyOverHowmuch(Integer.MAX_VALUE);
                p.setMaxMessageSize(body.length + 1);
                p.setRetryTimesWhenSendFailed(0);
                producers.add(p);
            }
            long from = System.nanoTime() + flags.number("warmup") * 1_000_000_000L;
            long until = from + flags.number("seconds") * 1_000_000_000L;
            AtomicLong failed = new AtomicLong();
            List<Latencies> each = new ArrayList<>();
            List<Thread> threads = new ArrayList<>();
            for (int i = 0; i < flags.number("threads"); i++) {
                Latencies own = new Latencies();
                DefaultMQProducer p = producers.get(i % producers.size());
                each.add(own);
                threads.add(new Thread(() -> send(p, topic, body, from, until, own, failed)));
            }
            threads.forEach(Thread::start);
            for (Thread t : threads) {
                t.join();
            }
            Latencies all = new Latencies();
            each.forEach(all::merge);
            System.out.printf(Locale.ROOT, "{\"kind\":\"produce\",\"client\":\"rocketmq-client %s\",\"threads\":%d,\"clients\":%d,\"size\":%d,\"seconds\":%d,"
                    + "\"sent\":%d,\"failed\":%d,\"msgsPerSec\":%.1f,\"latencyMs\":%s}%n",
                MQVersion.getVersionDesc(MQVersion.CURRENT_VERSION), threads.size(), producers.size(), body.length, flags.number("seconds"),
                all.count(), failed.get(), (double) all.count() / flags.number("seconds"), all.json());
            return failed.get() == 0 && all.count() > 0 ? 0 : 1;
        }
    }

    /** Counts a send whose answer came between from and until (System.nanoTime); those before are the warm-up. */
    private static void send(DefaultMQProducer p, String topic, byte[] body, long from, long until, Latencies own, AtomicLong failed) {
        long start = System.nanoTime();
        while (start < until) {
            boolean ok;
            try {
                ok = p.send(new Message(topic, body)).getSendStatus() == SendStatus.SEND_OK;
            } catch (Exception e) {
                ok = false;
            }
            long end = System.nanoTime();
            if (!ok) {
                failed.incrementAndGet();
            } else if (end >= from && end < until) {
                own.add((end - start) / 1000);
            }
            start = end;
        }
    }
}
