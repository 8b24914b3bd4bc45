package rmq.clients;

import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;

/** The "consume" command of {@link Agent}: a push consumer that reports each message once its listener is done with it. */
final class AgentConsumer {
    private AgentConsumer() {
    }

    /** Returns what shuts the consumer down. */
    static Runnable start(String id, Agent.Order order) throws Exception {
        DefaultMQPushConsumer c = new DefaultMQPushConsumer(order.text("group"));
        c.setNamesrvAddr(order.text("namesrv"));
        c.setInstanceName(id);
        c.setPollNameServerInterval(order.number("pollMs"));
        c.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        c.setMaxReconsumeTimes(order.number("maxReconsume"));
        c.setConsumeThreadMin(4);
        c.setConsumeThreadMax(4);
        c.subscribe(order.text("topic"), "*");
        boolean refuse = order.flag("refuse");
        long workNs = TimeUnit.MILLISECONDS.toNanos(order.number("workMs"));
        if (order.flag("orderly")) {
            c.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
                take(id, messages, workNs);
                return ConsumeOrderlyStatus.SUCCESS;
            });
        } else {
            c.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                take(id, messages, workNs);
                context.setDelayLevelWhenNextConsume(1);
                return refuse ? ConsumeConcurrentlyStatus.RECONSUME_LATER : ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
        }
        c.start();
        return c::shutdown;
    }

    private static void take(String id, List<MessageExt> messages, long workNs) {
        for (MessageExt m : messages) {
            long begin = Agent.nowUs();
            LockSupport.parkNanos(workNs);
            Agent.say("got " + id + " " + m.getBrokerName() + " " + m.getQueueId() + " " + m.getQueueOffset() + " " + m.getReconsumeTimes() + " "
                + (m.getProperty(MessageConst.PROPERTY_RETRY_TOPIC) != null) + " " + begin + " " + Agent.nowUs() + " " + Inbox.text(m));
        }
    }
}
