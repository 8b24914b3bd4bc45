package rmq.clients;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Every way to send, and that what comes back is what went in. */
final class SendCases {
    private SendCases() {
    }

    static void register(Map<String, Case> cases) {
        cases.put("send_sync", SendCases::sync);
        cases.put("send_body_sizes", SendCases::bodySizes);
        cases.put("send_async", SendCases::async);
        cases.put("send_oneway", SendCases::oneway);
        cases.put("send_batch", SendCases::batch);
        cases.put("send_selector", SendCases::selector);
        cases.put("send_compressed", SendCases::compressed);
        cases.put("send_delay", SendCases::delay);
        cases.put("send_vip_channel", SendCases::vipChannel);
    }

    private static void sync(Ctx x) throws Exception {
        MessageQueue q = x.queue(x.topic(2), 1);
        Message m = new Message(q.getTopic(), "TagS", "keyA keyB", 0x5A5A, allBytes(), true);
        m.putUserProperty("plain", "value");
        m.putUserProperty("unicode", "Grüße 消息 \uD83D\uDE80");
        m.putUserProperty("json", "{\"a\":[1,\"x\\\"y\"],\"b\":null}");
        m.setBuyerId("buyer-7");
        long before = System.currentTimeMillis();
        List<SendResult> results = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            results.add(x.send(copyOf(m), q));
        }
        long after = System.currentTimeMillis();

        List<MessageExt> got = x.read(List.of(q), 3);
        for (int i = 0; i < 3; i++) {
            SendResult r = results.get(i);
            MessageExt g = got.get(i);
            Check.equal("answered queue", q, r.getMessageQueue());
            Check.equal("answered queue offset", (long) i, r.getQueueOffset());
            Check.equal("body", m.getBody(), g.getBody());
            Check.equal("topic", m.getTopic(), g.getTopic());
            Check.equal("flag", m.getFlag(), g.getFlag());
            Check.equal("tags", "TagS", g.getTags());
            Check.equal("keys", "keyA keyB", g.getKeys());
            for (String key : List.of("plain", "unicode", "json")) {
                Check.equal("property " + key, m.getUserProperty(key), g.getUserProperty(key));
            }
            Check.equal("buyer id", "buyer-7", g.getBuyerId());
            Check.equal("queue", 1, g.getQueueId());
            Check.equal("queue offset", (long) i, g.getQueueOffset());
            Check.equal("unique key", r.getMsgId(), g.getMsgId());
            Check.equal("id in the answer against offset id of the message", r.getOffsetMsgId(), offsetMsgId(g));
            Check.equal("length of offset id", 32, r.getOffsetMsgId().length());
            Check.between("born timestamp", before, after, g.getBornTimestamp());
            Check.between("store timestamp", before - 5, after + 5, g.getStoreTimestamp());
            Check.equal("born host", "127.0.0.1", g.getBornHostString());
            Check.equal("reconsume times", 0, g.getReconsumeTimes());
            Check.equal("prepared transaction offset", 0L, g.getPreparedTransactionOffset());
            Check.that(g.getCommitLogOffset() >= 0 && g.getStoreSize() > m.getBody().length, "offset %d, size %d", g.getCommitLogOffset(), g.getStoreSize());
        }
    }

    private static void bodySizes(Ctx x) throws Exception {
        MessageQueue q = x.queue(x.topic(1), 0);
        List<byte[]> bodies = new ArrayList<>();
        for (int size : new int[] {1, 2, 255, 1024, 4096, 65_537, 1 << 20, 4 << 20}) {
            bodies.add(randomBytes(size));
        }
        DefaultMQProducer p = x.startedProducer();
        p.setCompressMsgBodyOverHowmuch(Integer.MAX_VALUE);
        for (byte[] body : bodies) {
            p.send(new Message(q.getTopic(), body), q);
        }
        List<MessageExt> got = x.read(List.of(q), bodies.size());
        for (int i = 0; i < bodies.size(); i++) {
            Check.equal("body " + i, bodies.get(i), got.get(i).getBody());
        }
    }

    private static void async(Ctx x) throws Exception {
        final int count = 300;
        String topic = x.topic(4);
        CountDownLatch done = new CountDownLatch(count);
        AtomicReference<Throwable> failure = new AtomicReference<>();
        Set<String> ids = java.util.concurrent.ConcurrentHashMap.newKeySet();
        for (int i = 0; i < count; i++) {
            x.producer().send(new Message(topic, Ctx.utf8("a" + i)), new SendCallback() {
                @Override
                public void onSuccess(SendResult r) {
                    ids.add(r.getMsgId() + "/" + r.getMessageQueue() + "/" + r.getQueueOffset());
                    done.countDown();
                }

                @Override
                public void onException(Throwable e) {
                    failure.set(e);
                    done.countDown();
                }
            });
        }
        Check.that(done.await(20, TimeUnit.SECONDS), "%d callbacks missing", done.getCount());
        Check.that(failure.get() == null, "a callback failed: %s", failure.get());
        Set<String> stored = new HashSet<>();
        for (MessageExt m : x.read(x.readQueues(topic), count)) {
            stored.add(m.getMsgId() + "/" + x.queue(topic, m.getQueueId()) + "/" + m.getQueueOffset());
        }
        Check.equal("acknowledged id, queue and offset of every message", stored, ids);
    }

    private static void oneway(Ctx x) throws Exception {
        final int count = 100;
        MessageQueue q = x.queue(x.topic(1), 0);
        for (int i = 0; i < count; i++) {
            x.producer().sendOneway(new Message(q.getTopic(), Ctx.utf8("o" + i)), q);
        }
        Set<String> bodies = new HashSet<>();
        for (MessageExt m : x.read(List.of(q), count)) {
            bodies.add(Inbox.text(m));
        }
        Check.equal("different bodies", count, bodies.size());
    }

    /**
     * One batch takes consecutive places and its messages are as sent. Unique keys are not compared: the 5.3.3 client gives the batch a key
     * of its own too, and Apache's broker hands that one to every message of the batch.
     */
    private static void batch(Ctx x) throws Exception {
        final int count = 100;
        MessageQueue q = x.queue(x.topic(2), 1);
        x.send(new Message(q.getTopic(), Ctx.utf8("before")), q);
        List<Message> batch = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            Message m = new Message(q.getTopic(), "Tag" + i % 3, "key" + i, Ctx.utf8("b" + i));
            m.setFlag(i);
            m.putUserProperty("n", "" + i);
            batch.add(m);
        }
        SendResult r = x.producer().send(batch, q);
        x.send(new Message(q.getTopic(), Ctx.utf8("after")), q);

        Check.equal("offset of the first", 1L, r.getQueueOffset());
        String[] offsetIds = r.getOffsetMsgId().split(",");
        Check.equal("offset ids in the answer", count, offsetIds.length);
        List<MessageExt> got = x.read(List.of(q), count + 2);
        for (int i = 0; i < count; i++) {
            MessageExt g = got.get(i + 1);
            Check.equal("order", "b" + i, Inbox.text(g));
            Check.equal("queue offset", i + 1L, g.getQueueOffset());
            Check.equal("tags", "Tag" + i % 3, g.getTags());
            Check.equal("keys", "key" + i, g.getKeys());
            Check.equal("flag", i, g.getFlag());
            Check.equal("property", "" + i, g.getUserProperty("n"));
            Check.equal("offset id " + i, offsetIds[i], offsetMsgId(g));
        }
        Check.equal("after the batch", "after", Inbox.text(got.get(count + 1)));
    }

    private static void selector(Ctx x) throws Exception {
        final int keys = 8;
        final int each = 30;
        String topic = x.topic(4);
        for (int i = 0; i < each; i++) {
            for (int key = 0; key < keys; key++) {
                SendResult r = x.producer().send(new Message(topic, Ctx.utf8(key + ":" + i)),
                    (queues, message, arg) -> queues.get((Integer) arg % queues.size()), key);
                Check.equal("queue of key " + key, key % 4, r.getMessageQueue().getQueueId());
            }
        }
        int[] next = new int[keys];
        for (MessageExt m : x.read(x.readQueues(topic), keys * each)) {
            String[] parts = Inbox.text(m).split(":");
            int key = Integer.parseInt(parts[0]);
            Check.equal("queue of key " + key, key % 4, m.getQueueId());
            Check.equal("sequence of key " + key, next[key]++, Integer.parseInt(parts[1]));
        }
    }

    private static void compressed(Ctx x) throws Exception {
        MessageQueue q = x.queue(x.topic(1), 0);
        byte[] body = Ctx.utf8("compress me, please. ".repeat(20_000));
        x.send(new Message(q.getTopic(), body), q);
        MessageExt got = x.read(List.of(q), 1).get(0);
        Check.equal("body", body, got.getBody());
        Check.that(got.getStoreSize() < body.length / 10, "stored size %d: not stored as sent", got.getStoreSize());
    }

    /** Levels 1 (1 s) and 2 (5 s): never early, at most lateMs late, in order within a level, and the message is otherwise as sent. */
    private static void delay(Ctx x) throws Exception {
        final long lateMs = 2_000;
        final int each = 10;
        final long[] delayMs = {0, 1_000, 5_000};
        MessageQueue q = x.queue(x.topic(2), 1);
        record Arrival(MessageExt message, long at) {
        }
        List<Arrival> arrivals = new java.util.concurrent.CopyOnWriteArrayList<>();
        DefaultMQPushConsumer c = x.pushConsumer(x.freshName("g"));
        c.subscribe(q.getTopic(), "*");
        c.registerMessageListener((org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly) (messages, context) -> {
            messages.forEach(m -> arrivals.add(new Arrival(m, System.currentTimeMillis())));
            return org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus.SUCCESS;
        });
        c.start();
        x.sendTexts(q, "", "warm", 1);
        Await.until("a first message: an orderly consumer may start slowly", Ctx.PATIENCE_MS, () -> arrivals.size() == 1);
        arrivals.clear();
        for (int i = 0; i < each; i++) {
            for (int level = 1; level <= 2; level++) {
                Message m = new Message(q.getTopic(), "TagD", "key" + i, Ctx.utf8(level + ":" + i));
                m.setDelayTimeLevel(level);
                m.putUserProperty("sent", "" + System.currentTimeMillis());
                x.send(m, q);
            }
        }
        Await.until("all delayed messages", Ctx.PATIENCE_MS, () -> arrivals.size() >= 2 * each);
        Await.quiet(300);
        Check.equal("deliveries", 2 * each, arrivals.size());
        int[] next = new int[3];
        for (Arrival a : arrivals) {
            String[] parts = Inbox.text(a.message).split(":");
            int level = Integer.parseInt(parts[0]);
            long took = a.at - Long.parseLong(a.message.getUserProperty("sent"));
            Check.between("delay of level " + level, delayMs[level] - 10, delayMs[level] + lateMs, took);
            Check.equal("order in level " + level, next[level]++, Integer.parseInt(parts[1]));
            Check.equal("topic", q.getTopic(), a.message.getTopic());
            Check.equal("queue", 1, a.message.getQueueId());
            Check.equal("tags", "TagD", a.message.getTags());
        }
    }

    private static void vipChannel(Ctx x) throws Exception {
        MessageQueue q = x.queue(x.topic(1), 0);
        DefaultMQProducer p = x.cluster.newProducer(x.freshName("vip"));
        p.setVipChannelEnabled(true);
        p.start();
        try {
            p.send(new Message(q.getTopic(), Ctx.utf8("through port - 2")), q);
        } finally {
            p.shutdown();
        }
        x.read(List.of(q), 1);
    }

    static String offsetMsgId(MessageExt m) {
        return ((org.apache.rocketmq.common.message.MessageClientExt) m).getOffsetMsgId();
    }

    private static Message copyOf(Message m) {
        Message copy = new Message(m.getTopic(), m.getTags(), m.getKeys(), m.getFlag(), m.getBody(), m.isWaitStoreMsgOK());
        m.getProperties().forEach((key, value) -> {
            if (copy.getProperty(key) == null && !key.equals("UNIQ_KEY")) {
                org.apache.rocketmq.common.message.MessageAccessor.putProperty(copy, key, value);
            }
        });
        return copy;
    }

    private static byte[] allBytes() {
        byte[] body = new byte[512];
        for (int i = 0; i < body.length; i++) {
            body[i] = (byte) i;
        }
        return Arrays.copyOf(body, body.length);
    }

    static byte[] randomBytes(int size) {
        byte[] body = new byte[size];
        new Random(size).nextBytes(body);
        return body;
    }
}
