package rmq.clients;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;

/** The "produce" command of {@link Agent}: threads that send one message after the other, each for keys of its own. */
final class AgentProducer {
    private final String id;
    private final Agent.Order order;
    private final DefaultMQProducer producer;
    private volatile boolean stopped;

    private AgentProducer(String id, Agent.Order order) {
        this.id = id;
        this.order = order;
        producer = new DefaultMQProducer("producer-" + id);
        producer.setNamesrvAddr(order.text("namesrv"));
        producer.setInstanceName(id);
        producer.setSendMsgTimeout(order.number("timeoutMs"));
        producer.setRetryTimesWhenSendFailed(order.number("retries"));
        producer.setPollNameServerInterval(order.number("pollMs"));
    }

    /** Returns what stops the producer and waits for its threads. */
    static Runnable start(String id, Agent.Order order) throws Exception {
        AgentProducer p = new AgentProducer(id, order);
        p.producer.start();
        List<Thread> threads = new ArrayList<>();
        int count = order.number("threads");
        for (int i = 0; i < count; i++) {
            int first = i;
            Thread t = new Thread(() -> p.run(first, count), id + "-" + i);
            t.start();
            threads.add(t);
        }
        return () -> {
            p.stopped = true;
            for (Thread t : threads) {
                try {
                    t.join();
                } catch (InterruptedException e) {
                    throw new IllegalStateException(e);
                }
            }
            p.producer.shutdown();
        };
    }

    /** Sends for the keys first, first + step and so on in turn. With "repeat" a message is sent until it is acknowledged, before its key goes on. */
    private void run(int first, int step) {
        int keys = order.number("keys");
        boolean repeat = order.flag("repeat");
        long pauseNs = TimeUnit.MILLISECONDS.toNanos(order.number("pauseMs"));
        int[] next = new int[keys];
        while (!stopped) {
            for (int key = first; key < keys && !stopped; key += step) {
                boolean acked = send(key, next[key]);
                if (acked || !repeat) {
                    next[key]++;
                }
                LockSupport.parkNanos(pauseNs);
            }
        }
    }

    private boolean send(int key, int n) {
        Message m = new Message(order.text("topic"), Ctx.utf8(key + ":" + n));
        long begin = Agent.nowUs();
        String where = id + " " + key + " " + n + " " + begin + " ";
        try {
            SendResult r = order.flag("repeat")
                ? producer.send(m, (queues, message, arg) -> queues.get((Integer) arg % queues.size()), key)
                : producer.send(m);
            Agent.say("sent " + where + Agent.nowUs() + " " + r.getSendStatus() + " " + r.getMessageQueue().getBrokerName() + " "
                + r.getMessageQueue().getQueueId() + " " + r.getQueueOffset());
            return true;
        } catch (Exception e) {
            Agent.say("failed " + where + Agent.nowUs() + " " + Agent.oneLine(e));
            return false;
        }
    }
}
