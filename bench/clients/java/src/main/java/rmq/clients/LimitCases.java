package rmq.clients;

import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;

/** What a broker must refuse, with the code the client hands to the application. */
final class LimitCases {
    private static final int MAX_BODY = 4 << 20;
    private static final int MESSAGE_ILLEGAL = 13;
    private static final int NO_PERMISSION = 16;
    private static final int READ_ONLY = 4;
    private static final int WRITE_ONLY = 2;

    private LimitCases() {
    }

    static void register(Map<String, Case> cases) {
        cases.put("limit_body", LimitCases::body);
        cases.put("limit_properties", LimitCases::properties);
        cases.put("permission_topic", LimitCases::topicPermission);
        cases.put("permission_group", LimitCases::groupPermission);
        cases.put("topic_auto_create", LimitCases::autoCreate);
    }

    private static void body(Ctx x) throws Exception {
        MessageQueue q = x.queue(x.topic(1), 0);
        DefaultMQProducer p = rawProducer(x);
        p.send(new Message(q.getTopic(), SendCases.randomBytes(MAX_BODY)), q);
        Check.failsWithCode("body of 4 MiB + 1", MESSAGE_ILLEGAL, () -> p.send(new Message(q.getTopic(), SendCases.randomBytes(MAX_BODY + 1)), q));
        p.send(new Message(q.getTopic(), Ctx.utf8("the connection still works")), q);
        x.read(List.of(q), 2);
    }

    private static void properties(Ctx x) throws Exception {
        MessageQueue q = x.queue(x.topic(1), 0);
        DefaultMQProducer p = rawProducer(x);
        Message fits = new Message(q.getTopic(), Ctx.utf8("fits"));
        fits.putUserProperty("p", "x".repeat(30_000));
        p.send(fits, q);
        Message tooLong = new Message(q.getTopic(), Ctx.utf8("too long"));
        tooLong.putUserProperty("p", "x".repeat(33_000));
        Check.failsWithCode("properties of 33,000 bytes", MESSAGE_ILLEGAL, () -> p.send(tooLong, q));
        Check.equal("property", fits.getUserProperty("p"), x.read(List.of(q), 1).get(0).getUserProperty("p"));
    }

    /** A producer that leaves refusing to the broker. */
    private static DefaultMQProducer rawProducer(Ctx x) throws Exception {
        DefaultMQProducer p = x.startedProducer();
        p.setMaxMessageSize(2 * MAX_BODY);
        p.setCompressMsgBodyOverHowmuch(Integer.MAX_VALUE);
        p.setRetryTimesWhenSendFailed(0);
        return p;
    }

    /** A read-only topic is refused by the client, which finds no writable queue in the route; a write-only one by the broker. */
    private static void topicPermission(Ctx x) throws Exception {
        String topic = x.topic(1);
        MessageQueue q = x.queue(topic, 0);
        DefaultMQProducer p = rawProducer(x);
        p.send(new Message(topic, Ctx.utf8("0")), q);
        DefaultMQPullConsumer c = x.pullConsumer(x.freshName("g"));
        c.start();
        Check.equal("readable before", 1, c.pull(q, "*", 0, 8).getMsgFoundList().size());

        x.configureTopic(topic, 1, READ_ONLY);
        // Apache's name server may miss one of several changes at the same time; it learns of it 30 s later.
        Await.until("read-only route", Ctx.PATIENCE_MS, () -> x.cluster.admin.examineTopicRouteInfo(topic).getQueueDatas().get(0).getPerm() == READ_ONLY);
        DefaultMQProducer fresh = x.startedProducer();
        Check.fails("send to a read-only topic", () -> fresh.send(new Message(topic, Ctx.utf8("1"))));
        Check.equal("still readable", 1, c.pull(q, "*", 0, 8).getMsgFoundList().size());

        x.configureTopic(topic, 1, WRITE_ONLY);
        p.send(new Message(topic, Ctx.utf8("1")), q);
        Check.failsWithCode("pull from a write-only topic", NO_PERMISSION, () -> c.pull(q, "*", 0, 8));

        x.configureTopic(topic, 1, Ctx.READ_WRITE);
        Check.equal("readable again", 2, c.pull(q, "*", 0, 8).getMsgFoundList().size());
    }

    private static void groupPermission(Ctx x) throws Exception {
        MessageQueue q = x.queue(x.topic(1), 0);
        x.sendTexts(q, "", "m", 1);
        String group = x.freshName("g");
        DefaultMQPullConsumer c = x.pullConsumer(group);
        c.start();
        Check.equal("readable before", 1, c.pull(q, "*", 0, 8).getMsgFoundList().size());
        var config = x.cluster.admin.examineSubscriptionGroupConfig(x.cluster.brokerAddr, group);
        Check.that(config != null, "the broker has not created group %s", group);
        config.setConsumeEnable(false);
        x.cluster.admin.createAndUpdateSubscriptionGroupConfig(x.cluster.brokerAddr, config);
        Check.failsWithCode("pull by a disabled group", NO_PERMISSION, () -> c.pull(q, "*", 0, 8));
        config.setConsumeEnable(true);
        x.cluster.admin.createAndUpdateSubscriptionGroupConfig(x.cluster.brokerAddr, config);
        Check.equal("readable again", 1, c.pull(q, "*", 0, 8).getMsgFoundList().size());
    }

    private static void autoCreate(Ctx x) throws Exception {
        String topic = x.freshName("t");
        x.send(new Message(topic, Ctx.utf8("first")));
        var queues = x.readQueues(topic);
        Check.equal("queues of the new topic", 4, queues.size());
        Check.equal("body", "first", Inbox.text(x.read(queues, 1).get(0)));
    }
}
