package rmq.clients;

import java.util.Locale;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.common.MQVersion;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * Load by the Apache Java push consumer, alone on a backlog or beside {@link ProduceLoad}.
 *
 * <pre>--namesrv HOST:PORT --topic T [--group G] [--threads 20] [--batch 32] [--warmup 10] [--seconds 30]</pre>
 *
 * A new group starts at the first message. The topic must exist. Consumes for warmup + seconds and prints one line of JSON about the latter part;
 * the latency is the time from a message's birth to the listener, so it needs the producer's clock, and it is as coarse as that: milliseconds.
 * Exit 1 if nothing was consumed.
 */
public final class ConsumeLoad {
    private ConsumeLoad() {
    }

    public static void main(String[] args) {
        Program.main(() -> run(args));
    }

    private static int run(String[] args) throws Exception {
        Flags flags = new Flags("consume", args, "namesrv", System.getenv("NAMESRV_ADDR"), "topic", null, "group", "load-" + System.currentTimeMillis(),
            "threads", "20", "batch", "32", "warmup", "10", "seconds", "30");
        Latencies latencies = new Latencies();
        DefaultMQPushConsumer c = new DefaultMQPushConsumer(flags.text("group"));
        c.setNamesrvAddr(flags.text("namesrv"));
        c.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        c.setConsumeThreadMin(flags.number("threads"));
        c.setConsumeThreadMax(flags.number("threads"));
        c.setPullBatchSize(flags.number("batch"));
        c.setConsumeMessageBatchMaxSize(flags.number("batch"));
        c.setAwaitTerminationMillisWhenShutdown(5_000);
        c.subscribe(flags.text("topic"), "*");
        c.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            long now = System.currentTimeMillis();
            synchronized (latencies) {
                for (MessageExt m : messages) {
                    latencies.add((now - m.getBornTimestamp()) * 1000);
                }
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        c.start();
        Await.quiet(flags.number("warmup") * 1000L);
        long start;
        synchronized (latencies) {
            latencies.clear();
            start = System.nanoTime();
        }
        Await.quiet(flags.number("seconds") * 1000L);
        synchronized (latencies) {
            System.out.printf(Locale.ROOT, "{\"kind\":\"consume\",\"client\":\"rocketmq-client %s\",\"threads\":%d,\"seconds\":%d,"
                    + "\"consumed\":%d,\"msgsPerSec\":%.1f,\"latencyMs\":%s}%n",
                MQVersion.getVersionDesc(MQVersion.CURRENT_VERSION), flags.number("threads"), flags.number("seconds"),
                latencies.count(), latencies.count() * 1e9 / (System.nanoTime() - start), latencies.json());
        }
        c.shutdown();
        return latencies.count() > 0 ? 0 : 1;
    }
}
