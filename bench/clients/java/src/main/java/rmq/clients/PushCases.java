package rmq.clients;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Push consumers: concurrent, orderly, broadcast, tags, where to start, sharing queues. */
final class PushCases {
    private PushCases() {
    }

    static void register(Map<String, Case> cases) {
        cases.put("push_orderly_two_consumers", PushCases::orderlyTwoConsumers);
        cases.put("push_rebalance", PushCases::rebalance);
        cases.put("push_concurrent", PushCases::concurrent);
        cases.put("push_batches", PushCases::batches);
        cases.put("push_orderly", PushCases::orderly);
        cases.put("push_orderly_suspend", PushCases::orderlySuspend);
        cases.put("push_broadcast", PushCases::broadcast);
        cases.put("push_tags", PushCases::tags);
        cases.put("push_tag_collision", PushCases::tagCollision);
        cases.put("push_tag_sparse", PushCases::tagSparse);
        cases.put("push_from_first", x -> fromWhere(x, ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET));
        cases.put("push_from_last_young_queue", x -> fromWhere(x, ConsumeFromWhere.CONSUME_FROM_LAST_OFFSET));
        cases.put("push_from_timestamp", PushCases::fromTimestamp);
        cases.put("push_resume_at_offset", PushCases::resume);
        cases.put("push_long_poll_latency", PushCases::longPollLatency);
    }

    private static void concurrent(Ctx x) throws Exception {
        final int count = 1_000;
        String topic = x.topic(4);
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer c = x.pushConsumer(x.freshName("g"));
        c.subscribe(topic, "*");
        c.registerMessageListener(inbox.concurrently());
        c.start();
        Set<String> sent = new HashSet<>();
        for (int i = 0; i < count; i++) {
            x.send(new Message(topic, Ctx.utf8("c" + i)));
            sent.add("c" + i);
        }
        inbox.awaitExactly(count, Ctx.PATIENCE_MS, 300);
        Check.equal("bodies", sent, new HashSet<>(inbox.bodies()));
    }

    private static void batches(Ctx x) throws Exception {
        final int count = 200;
        MessageQueue q = x.queue(x.topic(1), 0);
        x.sendTexts(q, "", "b", count);
        Inbox inbox = new Inbox();
        AtomicInteger largest = new AtomicInteger();
        DefaultMQPushConsumer c = x.pushConsumer(x.freshName("g"));
        c.setConsumeMessageBatchMaxSize(16);
        c.subscribe(q.getTopic(), "*");
        c.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            largest.accumulateAndGet(messages.size(), Math::max);
            inbox.add(messages);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        c.start();
        inbox.awaitExactly(count, Ctx.PATIENCE_MS, 200);
        Check.between("largest batch", 2, 16, largest.get());
    }

    /** The sequence of every key, and that the listener is never twice in one queue at the same time. */
    private static void orderly(Ctx x) throws Exception {
        final int keys = 8;
        final int each = 50;
        String topic = x.topic(4);
        Inbox inbox = new Inbox();
        QueueGuard guard = new QueueGuard();
        DefaultMQPushConsumer c = x.pushConsumer(x.freshName("g"));
        c.subscribe(topic, "*");
        c.registerMessageListener(guard.around("only", inbox, 0));
        c.start();
        sendKeys(x, topic, keys, each);
        checkKeyOrder(inbox.awaitExactly(keys * each, Ctx.PATIENCE_MS, 200), keys);
        guard.check();
    }

    /** Two members share an ordered topic under load, then one leaves: never both in one queue, order kept, nothing lost. */
    private static void orderlyTwoConsumers(Ctx x) throws Exception {
        final int keys = 8;
        final int each = 60;
        String topic = x.topic(4);
        String group = x.freshName("g");
        Inbox inbox = new Inbox();
        QueueGuard guard = new QueueGuard();
        DefaultMQPushConsumer a = x.pushConsumer(group);
        a.subscribe(topic, "*");
        a.registerMessageListener(guard.around("a", inbox, 2));
        a.start();
        sendKeys(x, topic, keys, each, 0);
        DefaultMQPushConsumer b = x.pushConsumer(group);
        b.subscribe(topic, "*");
        b.registerMessageListener(guard.around("b", inbox, 2));
        b.start();
        sendKeys(x, topic, keys, each, each);
        // A lock that a member gives up with messages in hand is released with a delay, and the other asks again every 20 s.
        Await.until("the second consumer got a queue", Ctx.PATIENCE_MS, () -> {
            if (!guard.members().contains("b")) {
                Await.quiet(50);
                sendKeys(x, topic, keys, 1, -1);
            }
            return guard.members().contains("b");
        });
        b.shutdown();
        sendKeys(x, topic, keys, each, 2 * each);
        Await.until("every key's last message", Ctx.PATIENCE_MS, () -> inbox.bodies().stream().filter(t -> t.endsWith(":" + (3 * each - 1))).distinct().count() == keys);
        guard.check();
        Set<String> numbered = new HashSet<>();
        int[] next = new int[keys];
        for (MessageExt m : inbox.all()) {
            String text = Inbox.text(m);
            int key = Integer.parseInt(text.split(":")[0]);
            int n = Integer.parseInt(text.split(":")[1]);
            if (n < 0) {
                continue;
            }
            // A queue handed over resumes at the committed offset, so a repeat of what was seen is allowed, a gap is not.
            Check.that(n <= next[key], "key %d: %d came, %d was due", key, n, next[key]);
            if (n == next[key]) {
                next[key]++;
            }
            numbered.add(text);
        }
        Check.equal("different messages", keys * 3 * each, numbered.size());
    }

    private static void orderlySuspend(Ctx x) throws Exception {
        MessageQueue q = x.queue(x.topic(1), 0);
        x.sendTexts(q, "", "s", 3);
        List<String> calls = new CopyOnWriteArrayList<>();
        DefaultMQPushConsumer c = x.pushConsumer(x.freshName("g"));
        c.subscribe(q.getTopic(), "*");
        c.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            MessageExt m = messages.get(0);
            calls.add(Inbox.text(m) + "#" + m.getReconsumeTimes());
            if (m.getReconsumeTimes() < 2 && Inbox.text(m).equals("s1")) {
                context.setSuspendCurrentQueueTimeMillis(100);
                return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
            }
            return ConsumeOrderlyStatus.SUCCESS;
        });
        c.start();
        Await.until("the message after the suspended one", Ctx.PATIENCE_MS, () -> calls.size() >= 5);
        Check.equal("calls", List.of("s0#0", "s1#0", "s1#1", "s1#2", "s2#0"), List.copyOf(calls));
    }

    private static void broadcast(Ctx x) throws Exception {
        final int count = 100;
        String topic = x.topic(4);
        String group = x.freshName("g");
        List<Inbox> inboxes = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            Inbox inbox = new Inbox();
            DefaultMQPushConsumer c = x.pushConsumer(group);
            c.setMessageModel(Enum.valueOf(c.getMessageModel().getDeclaringClass(), "BROADCASTING"));
            c.subscribe(topic, "*");
            c.registerMessageListener(inbox.concurrently());
            c.start();
            inboxes.add(inbox);
        }
        for (int i = 0; i < count; i++) {
            x.send(new Message(topic, Ctx.utf8("r" + i)));
        }
        for (Inbox inbox : inboxes) {
            inbox.awaitExactly(count, Ctx.PATIENCE_MS, 100);
        }
    }

    private static void tags(Ctx x) throws Exception {
        String topic = x.topic(2);
        Inbox some = new Inbox();
        Inbox all = new Inbox();
        subscribe(x, topic, "TagA || TagC", some);
        subscribe(x, topic, "*", all);
        for (int i = 0; i < 30; i++) {
            for (String tag : new String[] {"TagA", "TagB", "TagC", null}) {
                x.send(new Message(topic, tag, Ctx.utf8(tag + i)));
            }
        }
        all.awaitExactly(120, Ctx.PATIENCE_MS, 100);
        for (MessageExt m : some.awaitExactly(60, Ctx.PATIENCE_MS, 300)) {
            Check.that(Set.of("TagA", "TagC").contains(m.getTags()), "tag %s passed the filter", m.getTags());
        }
    }

    /** "Aa" and "BB" have the same hash: the broker lets both through, the client must be able to tell them apart. */
    private static void tagCollision(Ctx x) throws Exception {
        String topic = x.topic(1);
        Inbox inbox = new Inbox();
        subscribe(x, topic, "Aa", inbox);
        for (int i = 0; i < 20; i++) {
            x.send(new Message(topic, i % 2 == 0 ? "Aa" : "BB", Ctx.utf8("h" + i)));
        }
        for (MessageExt m : inbox.awaitExactly(10, Ctx.PATIENCE_MS, 300)) {
            Check.equal("tag", "Aa", m.getTags());
        }
    }

    /** One wanted message behind many others: the offset must pass over what does not match. */
    private static void tagSparse(Ctx x) throws Exception {
        MessageQueue q = x.queue(x.topic(1), 0);
        for (int i = 0; i < 20; i++) {
            List<Message> batch = new ArrayList<>();
            for (int j = 0; j < 100; j++) {
                batch.add(new Message(q.getTopic(), "Other", Ctx.utf8("x")));
            }
            x.producer().send(batch, q);
        }
        x.sendTexts(q, "Wanted", "w", 1);
        Inbox inbox = new Inbox();
        subscribe(x, q.getTopic(), "Wanted", inbox);
        Check.equal("offset", 2_000L, inbox.awaitExactly(1, Ctx.PATIENCE_MS, 200).get(0).getQueueOffset());
    }

    private static void subscribe(Ctx x, String topic, String expression, Inbox inbox) throws Exception {
        DefaultMQPushConsumer c = x.pushConsumer(x.freshName("g" + inbox.hashCode()));
        c.subscribe(topic, expression);
        c.registerMessageListener(inbox.concurrently());
        c.start();
    }

    /** In a queue that still has message 0, a new group starts there, whether it asked for the first or the last offset. */
    private static void fromWhere(Ctx x, ConsumeFromWhere where) throws Exception {
        String topic = x.topic(2);
        for (int i = 0; i < 20; i++) {
            x.send(new Message(topic, Ctx.utf8("w" + i)));
        }
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer c = x.pushConsumer(x.freshName("g"));
        c.setConsumeFromWhere(where);
        c.subscribe(topic, "*");
        c.registerMessageListener(inbox.concurrently());
        c.start();
        inbox.awaitExactly(20, Ctx.PATIENCE_MS, 200);
    }

    /** Asking for a time is answered with the queue's offset at that time, unless the queue is young: then with message 0 as well. */
    private static void fromTimestamp(Ctx x) throws Exception {
        MessageQueue q = x.queue(x.topic(1), 0);
        x.sendTexts(q, "", "t", 5);
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer c = x.pushConsumer(x.freshName("g"));
        c.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_TIMESTAMP);
        c.setConsumeTimestamp("20200101000000");
        c.subscribe(q.getTopic(), "*");
        c.registerMessageListener(inbox.concurrently());
        c.start();
        inbox.awaitExactly(5, Ctx.PATIENCE_MS, 200);
    }

    private static void resume(Ctx x) throws Exception {
        String topic = x.topic(2);
        String group = x.freshName("g");
        for (int round = 0; round < 2; round++) {
            Inbox inbox = new Inbox();
            DefaultMQPushConsumer c = x.pushConsumer(group);
            c.subscribe(topic, "*");
            c.registerMessageListener(inbox.concurrently());
            c.start();
            for (int i = 0; i < 50; i++) {
                x.send(new Message(topic, Ctx.utf8(round + ":" + i)));
            }
            for (MessageExt m : inbox.awaitExactly(50, Ctx.PATIENCE_MS, 200)) {
                Check.that(Inbox.text(m).startsWith(round + ":"), "round %d received %s", round, Inbox.text(m));
            }
            c.shutdown();
        }
    }

    /** Four queues, members 1 -> 2 -> 1: each queue has one owner, told by the broker well within the 20 s of the client's own timer. */
    private static void rebalance(Ctx x) throws Exception {
        final int queues = 4;
        String topic = x.topic(queues);
        String group = x.freshName("g");
        Map<String, Map<Integer, Integer>> counts = new ConcurrentHashMap<>();
        AtomicInteger total = new AtomicInteger();
        DefaultMQPushConsumer a = counting(x, group, topic, "a", counts, total);
        Await.until("a owns all queues", Ctx.PATIENCE_MS, () -> owned(x, topic, counts).equals(Map.of("a", Set.of(0, 1, 2, 3))));
        DefaultMQPushConsumer b = counting(x, group, topic, "b", counts, total);
        Await.until("two queues each", Ctx.PATIENCE_MS, () -> {
            Map<String, Set<Integer>> now = owned(x, topic, counts);
            return now.size() == 2 && now.get("a").size() == 2 && now.get("b").size() == 2;
        });
        b.shutdown();
        Await.until("a owns all queues again", Ctx.PATIENCE_MS, () -> owned(x, topic, counts).equals(Map.of("a", Set.of(0, 1, 2, 3))));
        Check.that(a.getDefaultMQPushConsumerImpl() != null, "a is gone");
    }

    private static DefaultMQPushConsumer counting(Ctx x, String group, String topic, String member,
        Map<String, Map<Integer, Integer>> counts, AtomicInteger total) throws Exception {
        DefaultMQPushConsumer c = x.pushConsumer(group);
        c.subscribe(topic, "*");
        c.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt m : messages) {
                counts.computeIfAbsent(member, k -> new ConcurrentHashMap<>()).merge(m.getQueueId(), 1, Integer::sum);
            }
            total.addAndGet(messages.size());
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        c.start();
        return c;
    }

    /** Sends a message to each queue and says who received them; every one must arrive. */
    private static Map<String, Set<Integer>> owned(Ctx x, String topic, Map<String, Map<Integer, Integer>> counts) throws Exception {
        Await.quiet(100);
        counts.clear();
        for (int i = 0; i < 4; i++) {
            x.send(new Message(topic, Ctx.utf8("probe")), x.queue(topic, i));
        }
        Await.until("probes of all queues", Ctx.PATIENCE_MS, () -> {
            Set<Integer> seen = new TreeSet<>();
            counts.values().forEach(m -> seen.addAll(m.keySet()));
            return seen.size() == 4;
        });
        Map<String, Set<Integer>> owners = new HashMap<>();
        counts.forEach((member, queues) -> owners.put(member, new TreeSet<>(queues.keySet())));
        return owners;
    }

    /** A held pull is answered when a message comes, not when a poll interval ends. */
    private static void longPollLatency(Ctx x) throws Exception {
        MessageQueue q = x.queue(x.topic(1), 0);
        AtomicReference<String> last = new AtomicReference<>("");
        DefaultMQPushConsumer c = x.pushConsumer(x.freshName("g"));
        c.subscribe(q.getTopic(), "*");
        c.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            last.set(Inbox.text(messages.get(messages.size() - 1)));
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        c.start();
        x.sendTexts(q, "", "warm", 1);
        Await.until("the first message", Ctx.PATIENCE_MS, () -> last.get().equals("warm0"));
        List<Long> tookMs = new ArrayList<>();
        for (int i = 0; i < 10; i++) {
            Await.quiet(50);
            long start = System.nanoTime();
            String body = "m" + i;
            x.send(new Message(q.getTopic(), Ctx.utf8(body)), q);
            Await.until(body, 10_000, () -> last.get().equals(body));
            tookMs.add((System.nanoTime() - start) / 1_000_000);
        }
        tookMs.sort(null);
        Check.between("median ms from send to listener", 0, 250, tookMs.get(5));
    }

    private static void sendKeys(Ctx x, String topic, int keys, int each) throws Exception {
        sendKeys(x, topic, keys, each, 0);
    }

    /** Sends the numbers from..from+each-1 for every key, bodies key:number, a key always to the same queue. */
    private static void sendKeys(Ctx x, String topic, int keys, int each, int from) throws Exception {
        for (int i = from; i < from + each; i++) {
            for (int key = 0; key < keys; key++) {
                x.send(new Message(topic, Ctx.utf8(key + ":" + i)), x.queue(topic, key % 4));
            }
        }
    }

    private static void checkKeyOrder(List<MessageExt> messages, int keys) {
        int[] next = new int[keys];
        for (MessageExt m : messages) {
            String[] parts = Inbox.text(m).split(":");
            int key = Integer.parseInt(parts[0]);
            Check.equal("sequence of key " + key, next[key]++, Integer.parseInt(parts[1]));
        }
    }

    /** Notices two listeners inside one queue at the same time. */
    private static final class QueueGuard {
        private final Map<Integer, String> inside = new ConcurrentHashMap<>();
        private final Set<String> members = ConcurrentHashMap.newKeySet();
        private final List<String> violations = new CopyOnWriteArrayList<>();

        MessageListenerOrderly around(String member, Inbox inbox, long workMs) {
            return (messages, context) -> {
                members.add(member);
                int queue = context.getMessageQueue().getQueueId();
                String other = inside.putIfAbsent(queue, member);
                if (other != null) {
                    violations.add("queue " + queue + ": " + member + " while " + other + " is inside");
                }
                try {
                    Thread.sleep(workMs);
                } catch (InterruptedException e) {
                    Thread.currentThread().interrupt();
                }
                inbox.add(messages);
                if (other == null) {
                    inside.remove(queue);
                }
                return ConsumeOrderlyStatus.SUCCESS;
            };
        }

        Set<String> members() {
            return members;
        }

        void check() {
            Check.that(violations.isEmpty(), "%s", violations);
        }
    }
}
