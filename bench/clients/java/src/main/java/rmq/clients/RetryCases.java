package rmq.clients;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Messages that a listener refuses: sent back, delayed, delivered again, finally dead. All with delay level 1 (1 s). */
final class RetryCases {
    private RetryCases() {
    }

    static void register(Map<String, Case> cases) {
        cases.put("retry_then_success", RetryCases::thenSuccess);
        cases.put("retry_then_dlq", RetryCases::thenDeadLetter);
        cases.put("retry_straight_to_dlq", RetryCases::straightToDeadLetter);
        cases.put("retry_delay_levels", RetryCases::delayLevels);
    }

    private record Delivery(MessageExt message, int reconsumeTimes, long at) {
    }

    /** Consumes topic, refusing with delayLevel every delivery before the accept-th one of a message; notes each delivery. */
    private static List<Delivery> consume(Ctx x, String group, String topic, int maxReconsumeTimes, int accept, int delayLevel) throws Exception {
        List<Delivery> deliveries = new CopyOnWriteArrayList<>();
        x.introduce(group, topic);
        DefaultMQPushConsumer c = x.pushConsumer(group);
        c.setMaxReconsumeTimes(maxReconsumeTimes);
        c.subscribe(topic, "*");
        c.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            MessageExt m = messages.get(0);
            deliveries.add(new Delivery(m, m.getReconsumeTimes(), System.currentTimeMillis()));
            if (m.getReconsumeTimes() >= accept) {
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            }
            context.setDelayLevelWhenNextConsume(delayLevel);
            return ConsumeConcurrentlyStatus.RECONSUME_LATER;
        });
        c.start();
        return deliveries;
    }

    private static void thenSuccess(Ctx x) throws Exception {
        final int count = 5;
        String topic = x.topic(1);
        List<Delivery> deliveries = consume(x, x.freshName("g"), topic, 16, 2, 1);
        for (int i = 0; i < count; i++) {
            Message m = new Message(topic, "TagR", "key" + i, Ctx.utf8("r" + i));
            m.putUserProperty("n", "" + i);
            x.send(m);
        }
        Await.until("three deliveries of every message", Ctx.PATIENCE_MS, () -> deliveries.size() >= 3 * count);
        Await.quiet(1_500);
        Check.equal("deliveries", 3 * count, deliveries.size());
        for (int i = 0; i < count; i++) {
            String body = "r" + i;
            List<Delivery> own = deliveries.stream().filter(d -> Inbox.text(d.message).equals(body)).toList();
            Check.equal("reconsume times of " + body, List.of(0, 1, 2), own.stream().map(Delivery::reconsumeTimes).toList());
            for (int k = 1; k < own.size(); k++) {
                Check.between("ms to the next delivery", 900, 5_000, own.get(k).at - own.get(k - 1).at);
            }
            MessageExt lastOne = own.get(2).message;
            Check.equal("topic the listener sees", topic, lastOne.getTopic());
            Check.equal("tags", "TagR", lastOne.getTags());
            Check.equal("keys", "key" + i, lastOne.getKeys());
            Check.equal("property", "" + i, lastOne.getUserProperty("n"));
            Check.equal("unique key", own.get(0).message.getMsgId(), lastOne.getMsgId());
            Check.equal("ORIGIN_MESSAGE_ID", SendCases.offsetMsgId(own.get(0).message), lastOne.getProperty("ORIGIN_MESSAGE_ID"));
        }
    }

    private static void thenDeadLetter(Ctx x) throws Exception {
        final int count = 3;
        String topic = x.topic(1);
        String group = x.freshName("g");
        List<Delivery> deliveries = consume(x, group, topic, 2, Integer.MAX_VALUE, 1);
        List<String> ids = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            SendResult r = x.send(new Message(topic, "TagX", "key" + i, Ctx.utf8("d" + i)));
            ids.add(r.getOffsetMsgId());
        }
        List<MessageExt> dead = new ArrayList<>(readDeadLetters(x, group, count));
        Check.equal("deliveries before death", 3 * count, deliveries.size());
        dead.sort(Comparator.comparing(Inbox::text));
        for (int i = 0; i < count; i++) {
            MessageExt m = dead.get(i);
            Check.equal("body", "d" + i, Inbox.text(m));
            Check.equal("RETRY_TOPIC", topic, m.getProperty("RETRY_TOPIC"));
            Check.equal("ORIGIN_MESSAGE_ID", ids.get(i), m.getProperty("ORIGIN_MESSAGE_ID"));
            Check.equal("tags", "TagX", m.getTags());
            Check.equal("keys", "key" + i, m.getKeys());
        }
    }

    /** Delay level -1 asks for the dead-letter queue at once. */
    private static void straightToDeadLetter(Ctx x) throws Exception {
        String topic = x.topic(1);
        String group = x.freshName("g");
        List<Delivery> deliveries = consume(x, group, topic, 16, Integer.MAX_VALUE, -1);
        x.send(new Message(topic, Ctx.utf8("poison")));
        Check.equal("body", "poison", Inbox.text(readDeadLetters(x, group, 1).get(0)));
        Check.equal("deliveries", 1, deliveries.size());
    }

    private static List<MessageExt> readDeadLetters(Ctx x, String group, int count) throws Exception {
        String topic = "%DLQ%" + group;
        Await.until("dead-letter topic of " + group, Ctx.PATIENCE_MS, () -> !x.cluster.admin.examineTopicRouteInfo(topic).getQueueDatas().isEmpty());
        return x.read(List.of(new MessageQueue(topic, x.cluster.brokerName, 0)), count);
    }

    /** Without a wish of the listener, the n-th retry takes level 3 + n: the first comes after 10 s. */
    private static void delayLevels(Ctx x) throws Exception {
        String topic = x.topic(1);
        List<Delivery> deliveries = consume(x, x.freshName("g"), topic, 16, 1, 0);
        x.send(new Message(topic, Ctx.utf8("wait")));
        Await.until("the second delivery", Ctx.PATIENCE_MS, () -> deliveries.size() == 2);
        Check.between("ms to the first retry", 9_900, 14_000, deliveries.get(1).at - deliveries.get(0).at);
    }
}
