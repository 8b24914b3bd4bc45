package rmq.clients;

import java.util.BitSet;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Many messages each way: every one acknowledged once, stored once, received once. */
final class LoadCase {
    private static final int THREADS = 16;
    private static final int QUEUES = 8;

    private LoadCase() {
    }

    static void register(Map<String, Case> cases, int count) {
        cases.put("load", x -> run(x, count));
    }

    private static void run(Ctx x, int count) throws Exception {
        String topic = x.topic(QUEUES);
        BitSet received = new BitSet(count);
        Set<Long> places = new HashSet<>(2 * count);
        AtomicInteger deliveries = new AtomicInteger();
        DefaultMQPushConsumer c = x.pushConsumer(x.freshName("g"));
        c.setPullBatchSize(32);
        c.setConsumeMessageBatchMaxSize(32);
        c.subscribe(topic, "*");
        c.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            synchronized (received) {
                for (MessageExt m : messages) {
                    received.set(Integer.parseInt(Inbox.text(m).substring(0, 8)));
                    places.add((long) m.getQueueId() << 48 | m.getQueueOffset());
                }
            }
            deliveries.addAndGet(messages.size());
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        c.start();

        AtomicInteger next = new AtomicInteger();
        Set<Long> acknowledged = new HashSet<>(2 * count);
        ExecutorService pool = Executors.newFixedThreadPool(THREADS);
        try {
            List<Future<Void>> senders = java.util.stream.IntStream.range(0, THREADS).mapToObj(t -> pool.<Void>submit(() -> {
                String filler = "f".repeat(120);
                for (int i = next.getAndIncrement(); i < count; i = next.getAndIncrement()) {
                    SendResult r = x.send(new Message(topic, Ctx.utf8(String.format("%08d", i) + filler)));
                    synchronized (acknowledged) {
                        acknowledged.add((long) r.getMessageQueue().getQueueId() << 48 | r.getQueueOffset());
                    }
                }
                return null;
            })).toList();
            for (Future<Void> f : senders) {
                f.get();
            }
        } finally {
            pool.shutdownNow();
        }
        Check.equal("different places acknowledged", count, acknowledged.size());
        Await.until("delivery of all messages", Ctx.PATIENCE_MS, () -> deliveries.get() >= count);
        Await.quiet(500);
        synchronized (received) {
            Check.equal("different messages received", count, received.cardinality());
            Check.equal("places received are those acknowledged", true, places.equals(acknowledged));
        }
        Check.equal("deliveries", count, deliveries.get());
        long stored = 0;
        for (int i = 0; i < QUEUES; i++) {
            stored += x.cluster.admin.maxOffset(x.queue(topic, i));
        }
        Check.equal("messages stored", (long) count, stored);
    }
}
