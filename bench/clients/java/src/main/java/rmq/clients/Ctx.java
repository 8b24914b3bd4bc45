package rmq.clients;

import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Comparator;
import java.util.Deque;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * What one case works with: topics and groups of its own, and clients that are shut down when the case ends. Used by the thread of
 * the case only. Every consumer is a client instance of its own, as consumers in separate processes would be.
 */
final class Ctx implements AutoCloseable {
    static final int READ_WRITE = 6;
    /**
     * How long a consumer may take to receive what is there, ms. Not a measure of the broker: a stock client whose first look at its group
     * comes too early asks again after 20 s, a route it did not find after 30 s.
     */
    static final long PATIENCE_MS = 60_000;

    /**
     * How often consumers send heartbeats, ms. The 5.3.3 client drops the heartbeat that should tell of a new subscription version when another is on its
     * way, and is then refused until the next: with its own 30 s that would be most of a run, with any broker.
     */
    private static final int HEARTBEAT_MS = 3_000;

    /** How long a topic may take from the broker to the name server's answer, ms. */
    static final long ROUTE_MS = 20_000;

    final Cluster cluster;
    private final String name;
    private final AtomicInteger clients = new AtomicInteger();
    private final Deque<Runnable> closers = new ArrayDeque<>();

    Ctx(Cluster cluster, String name) {
        this.cluster = cluster;
        this.name = name;
    }

    @Override
    public void close() {
        while (!closers.isEmpty()) {
            closers.pop().run();
        }
    }

    DefaultMQProducer producer() {
        return cluster.producer;
    }

    /** Creates a readable and writable topic and returns its name once the name server hands out its route. */
    String topic(int queues) throws Exception {
        return topic("t", queues, READ_WRITE);
    }

    String topic(String suffix, int queues, int perm) throws Exception {
        String topic = freshName(suffix);
        configureTopic(topic, queues, perm);
        Await.until("route of " + topic, ROUTE_MS, () -> !cluster.admin.examineTopicRouteInfo(topic).getQueueDatas().isEmpty());
        return topic;
    }

    void configureTopic(String topic, int queues, int perm) throws Exception {
        cluster.admin.createAndUpdateTopicConfig(cluster.brokerAddr, new TopicConfig(topic, queues, queues, perm));
    }

    /** A name for a topic or group that nobody has used before. */
    String freshName(String suffix) {
        return name + "-" + suffix + "-" + cluster.run;
    }

    MessageQueue queue(String topic, int id) {
        return new MessageQueue(topic, cluster.brokerName, id);
    }

    DefaultMQProducer startedProducer() throws Exception {
        DefaultMQProducer p = cluster.newProducer(instance());
        p.start();
        closers.push(p::shutdown);
        return p;
    }

    /** A push consumer that starts at the first message; the case subscribes, registers its listener and starts it. */
    DefaultMQPushConsumer pushConsumer(String group) {
        DefaultMQPushConsumer c = new DefaultMQPushConsumer(group);
        c.setNamesrvAddr(cluster.namesrv);
        c.setInstanceName(instance());
        c.setHeartbeatBrokerInterval(HEARTBEAT_MS);
        c.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        c.setConsumeThreadMin(4);
        c.setConsumeThreadMax(4);
        closers.push(c::shutdown);
        return c;
    }

    /**
     * Lets a first member make the broker create the group's retry topic. Without it, a member finds no route of that topic when it starts and
     * looks again after 20 to 30 s only. The topic must be empty.
     */
    void introduce(String group, String topic) throws Exception {
        DefaultMQPushConsumer c = pushConsumer(group);
        c.subscribe(topic, "*");
        c.registerMessageListener(new Inbox().concurrently());
        c.start();
        readQueues("%RETRY%" + group);
        c.shutdown();
    }

    DefaultLitePullConsumer litePull(String group) {
        DefaultLitePullConsumer c = new DefaultLitePullConsumer(group);
        c.setNamesrvAddr(cluster.namesrv);
        c.setInstanceName(instance());
        c.setHeartbeatBrokerInterval(HEARTBEAT_MS);
        c.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        c.setPullThreadNums(2);
        closers.push(c::shutdown);
        return c;
    }

    DefaultMQPullConsumer pullConsumer(String group) {
        DefaultMQPullConsumer c = new DefaultMQPullConsumer(group);
        c.setNamesrvAddr(cluster.namesrv);
        c.setInstanceName(instance());
        c.setHeartbeatBrokerInterval(HEARTBEAT_MS);
        closers.push(c::shutdown);
        return c;
    }

    private String instance() {
        return name + "-" + clients.incrementAndGet() + "-" + cluster.run;
    }

    SendResult send(Message m) throws Exception {
        return sent(producer().send(m));
    }

    SendResult send(Message m, MessageQueue q) throws Exception {
        return sent(producer().send(m, q));
    }

    private static SendResult sent(SendResult r) {
        Check.equal("send status", SendStatus.SEND_OK, r.getSendStatus());
        return r;
    }

    /** Sends count messages with bodies prefix0, prefix1, ... in this order to one queue. */
    void sendTexts(MessageQueue q, String tag, String prefix, int count) throws Exception {
        for (int i = 0; i < count; i++) {
            send(new Message(q.getTopic(), tag, utf8(prefix + i)), q);
        }
    }

    /** Reads a topic's queues from 0 until count messages came, by queue and offset; more than count is a failure. */
    List<MessageExt> read(Collection<MessageQueue> queues, int count) throws Exception {
        DefaultMQPullConsumer c = pullConsumer(freshName("reader" + clients.get()));
        c.start();
        List<MessageExt> all = new ArrayList<>();
        for (MessageQueue q : queues) {
            Await.until("readable " + q, ROUTE_MS, () -> c.maxOffset(q) >= 0);
        }
        List<MessageQueue> order = queues.stream().sorted().toList();
        long[] next = new long[order.size()];
        Await.until(count + " messages of " + order.get(0).getTopic(), PATIENCE_MS, () -> {
            for (int i = 0; i < next.length; i++) {
                PullResult r = c.pull(order.get(i), "*", next[i], 32);
                if (r.getPullStatus() == PullStatus.FOUND) {
                    all.addAll(r.getMsgFoundList());
                    next[i] = r.getNextBeginOffset();
                }
            }
            return all.size() >= count;
        });
        Check.equal("messages of " + order.get(0).getTopic(), count, all.size());
        all.sort(Comparator.comparingInt(MessageExt::getQueueId).thenComparingLong(MessageExt::getQueueOffset));
        return all;
    }

    /** All queues of a topic that can be read, once the name server hands out its route. */
    Collection<MessageQueue> readQueues(String topic) throws Exception {
        List<MessageQueue> found = new ArrayList<>();
        Await.until("route of " + topic, ROUTE_MS, () -> {
            found.clear();
            for (var data : cluster.admin.examineTopicRouteInfo(topic).getQueueDatas()) {
                for (int i = 0; i < data.getReadQueueNums(); i++) {
                    found.add(new MessageQueue(topic, data.getBrokerName(), i));
                }
            }
            return !found.isEmpty();
        });
        return found;
    }

    static byte[] utf8(String s) {
        return s.getBytes(StandardCharsets.UTF_8);
    }
}
