package rmq.clients;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.common.message.MessageExt;

/** Collects what listeners receive, in the order of their calls. Safe for any number of threads. */
final class Inbox {
    private final List<MessageExt> received = new ArrayList<>();

    synchronized void add(List<MessageExt> messages) {
        received.addAll(messages);
    }

    synchronized List<MessageExt> all() {
        return new ArrayList<>(received);
    }

    synchronized int size() {
        return received.size();
    }

    List<String> bodies() {
        return all().stream().map(Inbox::text).toList();
    }

    /** Waits until count messages are here, then settleMs more, and requires that it is still exactly those. */
    List<MessageExt> awaitExactly(int count, long timeoutMs, long settleMs) throws InterruptedException {
        try {
            Await.until(count + " messages", timeoutMs, () -> size() >= count);
        } catch (AssertionError e) {
            throw new AssertionError(e.getMessage() + ", " + size() + " came");
        }
        Await.quiet(settleMs);
        List<MessageExt> all = all();
        Set<String> seen = new HashSet<>();
        for (MessageExt m : all) {
            String at = m.getTopic() + "/" + m.getBrokerName() + "/" + m.getQueueId() + "/" + m.getQueueOffset();
            Check.that(seen.add(at), "received twice: %s", at);
        }
        Check.equal("messages received", count, all.size());
        return all;
    }

    MessageListenerConcurrently concurrently() {
        return (messages, context) -> {
            add(messages);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        };
    }

    MessageListenerOrderly orderly() {
        return (messages, context) -> {
            add(messages);
            return ConsumeOrderlyStatus.SUCCESS;
        };
    }

    static String text(MessageExt m) {
        return new String(m.getBody(), StandardCharsets.UTF_8);
    }
}
