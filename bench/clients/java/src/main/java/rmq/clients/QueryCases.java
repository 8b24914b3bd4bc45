package rmq.clients;

import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.QueryResult;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** Finding messages again: by key, by id, by time. */
final class QueryCases {
    private QueryCases() {
    }

    static void register(Map<String, Case> cases) {
        cases.put("query_by_key", QueryCases::byKey);
        cases.put("query_by_ids", QueryCases::byIds);
        cases.put("query_offsets", QueryCases::offsets);
    }

    private static void byKey(Ctx x) throws Exception {
        String topic = x.topic(2);
        String other = x.topic("other", 1, Ctx.READ_WRITE);
        long begin = System.currentTimeMillis() - 1_000;
        for (int i = 0; i < 30; i++) {
            x.send(new Message(topic, "", "own" + i + " group" + i % 3 + " all", Ctx.utf8("k" + i)));
        }
        x.send(new Message(other, "", "own5 all", Ctx.utf8("other topic")));
        long end = System.currentTimeMillis() + 1_000;
        Await.until("key own29", 10_000, () -> bodies(x, topic, "own29", begin, end).equals(Set.of("k29")));
        Check.equal("own5", Set.of("k5"), bodies(x, topic, "own5", begin, end));
        Check.equal("group1", 10, bodies(x, topic, "group1", begin, end).size());
        Check.equal("all", 30, bodies(x, topic, "all", begin, end).size());
        Check.equal("limit of 7", 7, x.cluster.admin.queryMessage(topic, "all", 7, begin, end).getMessageList().size());
        Check.equal("own5 of the other topic", Set.of("other topic"), bodies(x, other, "own5", begin, end));
        Check.fails("a key nobody has used", () -> x.cluster.admin.queryMessage(topic, "nobody", 32, begin, end));
        Check.fails("a time before the messages", () -> x.cluster.admin.queryMessage(topic, "own5", 32, begin - 7_200_000, begin - 3_600_000));
    }

    private static Set<String> bodies(Ctx x, String topic, String key, long begin, long end) throws Exception {
        QueryResult r = x.cluster.admin.queryMessage(topic, key, 64, begin, end);
        return r.getMessageList().stream().map(Inbox::text).collect(Collectors.toCollection(TreeSet::new));
    }

    private static void byIds(Ctx x) throws Exception {
        MessageQueue q = x.queue(x.topic(1), 0);
        Message m = new Message(q.getTopic(), "TagQ", "k", Ctx.utf8("find me"));
        m.putUserProperty("a", "b");
        SendResult first = x.send(m, q);
        SendResult second = x.send(new Message(q.getTopic(), Ctx.utf8("not me")), q);
        DefaultMQAdminExt admin = x.cluster.admin;

        MessageExt byOffset = admin.viewMessage(q.getTopic(), first.getOffsetMsgId());
        Check.equal("body by offset id", "find me", Inbox.text(byOffset));
        Check.equal("tags", "TagQ", byOffset.getTags());
        Check.equal("property", "b", byOffset.getUserProperty("a"));
        Check.equal("queue offset", 0L, byOffset.getQueueOffset());
        Check.equal("body of the second", "not me", Inbox.text(admin.viewMessage(q.getTopic(), second.getOffsetMsgId())));
        Await.until("unique key in the index", 10_000, () ->
            "find me".equals(Inbox.text(admin.viewMessage(q.getTopic(), first.getMsgId()))));
        Check.fails("an offset in the middle of a message", () -> {
            String id = first.getOffsetMsgId();
            long phys = Long.parseUnsignedLong(id.substring(16), 16) + 3;
            MessageExt got = admin.viewMessage(q.getTopic(), id.substring(0, 16) + String.format("%016X", phys));
            if (got == null) {
                throw new IllegalStateException("no message");
            }
        });
    }

    private static void offsets(Ctx x) throws Exception {
        MessageQueue q = x.queue(x.topic(2), 1);
        MessageQueue empty = x.queue(q.getTopic(), 0);
        DefaultMQAdminExt admin = x.cluster.admin;
        long start = System.currentTimeMillis();
        for (int i = 0; i < 5; i++) {
            x.sendTexts(q, "", "o", 1);
            Await.quiet(20);
        }
        Check.equal("min offset", 0L, admin.minOffset(q));
        Check.equal("max offset", 5L, admin.maxOffset(q));
        Check.equal("max offset of an empty queue", 0L, admin.maxOffset(empty));
        Check.equal("min offset of an empty queue", 0L, admin.minOffset(empty));
        Check.between("earliest store time", start - 5, System.currentTimeMillis(), admin.earliestMsgStoreTime(q));

        List<MessageExt> messages = x.read(List.of(q), 5);
        for (MessageExt m : messages) {
            Check.equal("offset at the store time of " + m.getQueueOffset(), m.getQueueOffset(), admin.searchOffset(q, m.getStoreTimestamp()));
            Check.equal("offset 1 ms after " + m.getQueueOffset(), m.getQueueOffset() + 1, admin.searchOffset(q, m.getStoreTimestamp() + 1));
        }
        Check.equal("offset at time 0", 0L, admin.searchOffset(q, 0));
        Check.equal("offset in the future", 5L, admin.searchOffset(q, System.currentTimeMillis() + 3_600_000));
        Check.equal("offset in an empty queue", 0L, admin.searchOffset(empty, System.currentTimeMillis()));
    }
}
