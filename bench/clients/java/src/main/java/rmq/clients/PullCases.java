package rmq.clients;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** The consumers that pull themselves, old (DefaultMQPullConsumer) and new (DefaultLitePullConsumer). */
final class PullCases {
    private static final int TOPIC_NOT_EXIST = 17;

    private PullCases() {
    }

    static void register(Map<String, Case> cases) {
        cases.put("pull_statuses", PullCases::statuses);
        cases.put("pull_tags", PullCases::tags);
        cases.put("pull_block_woken", PullCases::blockWoken);
        cases.put("pull_block_times_out", PullCases::blockTimesOut);
        cases.put("pull_offsets", PullCases::offsets);
        cases.put("lite_assign_seek", PullCases::liteAssignSeek);
        cases.put("lite_commit", PullCases::liteCommit);
        cases.put("lite_subscribe", PullCases::liteSubscribe);
    }

    private static void statuses(Ctx x) throws Exception {
        MessageQueue q = x.queue(x.topic(1), 0);
        x.sendTexts(q, "", "p", 40);
        DefaultMQPullConsumer c = x.pullConsumer(x.freshName("g"));
        c.start();
        Check.equal("queues of the topic", Set.of(q), c.fetchSubscribeMessageQueues(q.getTopic()));

        PullResult r = c.pull(q, "*", 0, 32);
        Check.equal("status at 0", PullStatus.FOUND, r.getPullStatus());
        Check.equal("messages at 0", 32, r.getMsgFoundList().size());
        Check.equal("next offset", 32L, r.getNextBeginOffset());
        Check.equal("min offset", 0L, r.getMinOffset());
        Check.equal("max offset", 40L, r.getMaxOffset());
        r = c.pull(q, "*", 32, 32);
        Check.equal("messages at 32", 8, r.getMsgFoundList().size());
        r = c.pull(q, "*", 40, 32);
        Check.equal("status at the end", PullStatus.NO_NEW_MSG, r.getPullStatus());
        Check.equal("next offset at the end", 40L, r.getNextBeginOffset());
        r = c.pull(q, "*", 1_000, 32);
        Check.equal("status beyond the end", PullStatus.OFFSET_ILLEGAL, r.getPullStatus());
        Check.equal("next offset beyond the end", 40L, r.getNextBeginOffset());

        MessageQueue unknown = x.queue(x.freshName("unknown"), 0);
        Check.failsWithCode("pull from an unknown topic", TOPIC_NOT_EXIST, () -> c.pull(unknown, "*", 0, 32));
    }

    private static void tags(Ctx x) throws Exception {
        MessageQueue q = x.queue(x.topic(1), 0);
        x.sendTexts(q, "TagA", "a", 3);
        x.sendTexts(q, "TagB", "b", 3);
        DefaultMQPullConsumer c = x.pullConsumer(x.freshName("g"));
        c.start();
        PullResult r = c.pull(q, "TagB || TagZ", 0, 32);
        Check.equal("messages", List.of("b0", "b1", "b2"), r.getMsgFoundList().stream().map(Inbox::text).toList());
        Check.equal("next offset", 6L, r.getNextBeginOffset());
        r = c.pull(q, "TagZ", 0, 32);
        Check.equal("status without a match", PullStatus.NO_MATCHED_MSG, r.getPullStatus());
        Check.equal("next offset without a match", 6L, r.getNextBeginOffset());
    }

    private static void blockWoken(Ctx x) throws Exception {
        MessageQueue q = x.queue(x.topic(1), 0);
        x.sendTexts(q, "", "m", 1);
        DefaultMQPullConsumer c = x.pullConsumer(x.freshName("g"));
        c.start();
        CompletableFuture<PullResult> held = CompletableFuture.supplyAsync(() -> {
            try {
                return c.pullBlockIfNotFound(q, "*", 1, 32);
            } catch (Exception e) {
                throw new IllegalStateException(e);
            }
        });
        Await.quiet(1_000);
        Check.that(!held.isDone(), "the pull was not held: %s", held);
        long start = System.nanoTime();
        x.sendTexts(q, "", "n", 1);
        PullResult r = held.get(15, TimeUnit.SECONDS);
        Check.equal("status", PullStatus.FOUND, r.getPullStatus());
        Check.equal("message", "n0", Inbox.text(r.getMsgFoundList().get(0)));
        Check.between("ms from send to answer", 0, 3_000, (System.nanoTime() - start) / 1_000_000);
    }

    private static void blockTimesOut(Ctx x) throws Exception {
        MessageQueue q = x.queue(x.topic(1), 0);
        x.sendTexts(q, "", "m", 1);
        DefaultMQPullConsumer c = x.pullConsumer(x.freshName("g"));
        c.setBrokerSuspendMaxTimeMillis(2_000);
        c.start();
        long start = System.nanoTime();
        PullResult r = c.pullBlockIfNotFound(q, "*", 1, 32);
        Check.equal("status", PullStatus.NO_NEW_MSG, r.getPullStatus());
        // Apache looks at held pulls every 5 s.
        Check.between("ms held", 1_900, 8_000, (System.nanoTime() - start) / 1_000_000);
    }

    private static void offsets(Ctx x) throws Exception {
        MessageQueue q = x.queue(x.topic(1), 0);
        x.sendTexts(q, "", "m", 10);
        String group = x.freshName("g");
        DefaultMQPullConsumer c = x.pullConsumer(group);
        c.start();
        Check.that(c.fetchConsumeOffset(q, true) <= 0, "offset of a new group: %d", c.fetchConsumeOffset(q, true));
        c.pull(q, "*", 0, 1); // brokers drop the offset of a group they have not met
        c.updateConsumeOffset(q, 7);
        c.getOffsetStore().persistAll(new HashSet<>(Set.of(q)));
        DefaultMQPullConsumer other = x.pullConsumer(group);
        other.start();
        Await.until("offset 7 at the broker", 10_000, () -> other.fetchConsumeOffset(q, true) == 7);
    }

    private static void liteAssignSeek(Ctx x) throws Exception {
        MessageQueue q = x.queue(x.topic(2), 1);
        x.sendTexts(q, "", "l", 10);
        Await.quiet(50);
        long middle = System.currentTimeMillis();
        Await.quiet(50);
        x.sendTexts(q, "", "m", 10);
        DefaultLitePullConsumer c = x.litePull(x.freshName("g"));
        c.setAutoCommit(false);
        c.start();
        c.assign(List.of(q));
        poll(c, 20); // a seek beside the first pull of a queue may mix the messages of both
        c.seekToBegin(q);
        Check.equal("from the beginning", "l0", poll(c, 20).get(0));
        c.seek(q, 15);
        Check.equal("from 15", List.of("m5", "m6", "m7", "m8", "m9"), poll(c, 5));
        Check.equal("offset for the time between", 10L, c.offsetForTimestamp(q, middle).longValue());
        c.seek(q, c.offsetForTimestamp(q, middle));
        Check.equal("from the time between", "m0", poll(c, 10).get(0));
        c.seekToEnd(q);
        x.sendTexts(q, "", "end", 1);
        Check.equal("from the end", List.of("end0"), poll(c, 1));
    }

    private static void liteCommit(Ctx x) throws Exception {
        MessageQueue q = x.queue(x.topic(1), 0);
        String group = x.freshName("g");
        x.sendTexts(q, "", "c", 10);
        DefaultLitePullConsumer c = x.litePull(group);
        c.setAutoCommit(false);
        c.start();
        c.assign(List.of(q));
        poll(c, 10);
        c.commitSync(Map.of(q, 6L), true);
        Await.until("committed offset 6", 10_000, () -> c.committed(q) == 6);
        c.shutdown();

        DefaultLitePullConsumer next = x.litePull(group);
        next.setAutoCommit(false);
        next.start();
        next.assign(List.of(q));
        Check.equal("the next member starts at", List.of("c6", "c7", "c8", "c9"), poll(next, 4));
    }

    private static void liteSubscribe(Ctx x) throws Exception {
        String topic = x.topic(4);
        String group = x.freshName("g");
        for (int round = 0; round < 2; round++) {
            DefaultLitePullConsumer c = x.litePull(group);
            c.setAutoCommitIntervalMillis(1_000);
            c.subscribe(topic, "TagA");
            c.start();
            Set<String> want = new HashSet<>();
            for (int i = 0; i < 40; i++) {
                x.sendTexts(x.queue(topic, i % 4), i % 2 == 0 ? "TagA" : "TagB", round + ":" + i + ":", 1);
                if (i % 2 == 0) {
                    want.add(round + ":" + i + ":0");
                }
            }
            Check.equal("messages of round " + round, want, new HashSet<>(poll(c, want.size())));
            c.commitSync();
            c.shutdown();
        }
    }

    /** Polls until exactly count messages came; what was fetched before a seek must not come after it. */
    private static List<String> poll(DefaultLitePullConsumer c, int count) throws Exception {
        List<String> all = new ArrayList<>();
        Await.until(count + " polled messages", Ctx.PATIENCE_MS, () -> {
            for (MessageExt m : c.poll(100)) {
                all.add(Inbox.text(m));
            }
            return all.size() >= count;
        });
        Check.equal("polled messages " + all, count, all.size());
        return all;
    }
}
