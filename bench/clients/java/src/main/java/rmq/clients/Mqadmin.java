package rmq.clients;

import java.util.ArrayList;
import java.util.List;
import java.util.regex.Pattern;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Runs commands of the official mqadmin in this JVM against a name server and its broker, on messages it sends and consumes itself.
 *
 * <pre>--namesrv HOST:PORT --version 4.9.8|5.3.3 [--cases REGEX] [--show true]</pre>
 *
 * One line per command, "PASS name ms" or "FAIL name reason", then "N passed, N failed"; exit 1 if one failed or none ran. A command fails when it throws, when
 * its output holds an exception or its usage, or when an expected line is missing. --show prints every output.
 */
public final class Mqadmin {
    private static final int MESSAGES = 20;
    private static final int SHOWN_LINES = 25;
    /** Apache 5.3 lists a topic among its own consumer groups, and the tools then print why they cannot find that group. */
    private static final Pattern PHANTOM_TRACK = Pattern.compile("MessageTrack \\[consumerGroup=mqadmin-t-[^]]*]");

    private final Cluster cluster;
    private final boolean v5;
    private final Pattern wanted;
    private final boolean show;
    private final String clusterName;
    private int passed;
    private int failed;

    private Mqadmin(Cluster cluster, Flags flags) throws Exception {
        this.cluster = cluster;
        v5 = flags.text("version").startsWith("5.");
        wanted = Pattern.compile(flags.text("cases"));
        show = Boolean.parseBoolean(flags.text("show"));
        clusterName = cluster.admin.examineBrokerClusterInfo().getClusterAddrTable().keySet().iterator().next();
    }

    public static void main(String[] args) {
        Program.main(() -> run(args));
    }

    /** Returns the number of failed commands. */
    private static int run(String[] args) throws Exception {
        Flags flags = new Flags("mqadmin", args,
            "namesrv", System.getenv("NAMESRV_ADDR"), "version", null, "cases", ".*", "show", "false");
        try (Cluster cluster = new Cluster(flags.text("namesrv"))) {
            Mqadmin runner = new Mqadmin(cluster, flags);
            try (Ctx x = new Ctx(cluster, "mqadmin")) {
                runner.runAll(x);
            }
            System.out.printf("%d passed, %d failed%n", runner.passed, runner.failed);
            return runner.passed == 0 ? 1 : runner.failed;
        }
    }

    private void runAll(Ctx x) throws Exception {
        String addr = Pattern.quote(cluster.brokerAddr);
        String broker = Pattern.quote(cluster.brokerName);
        String owner = Pattern.quote(clusterName);
        String topic = x.freshName("t");
        String group = x.freshName("g");
        String number = "\\d+";

        // Topics and groups are made with mqadmin itself; everything after depends on them.
        command("updateTopic -c", List.of("updateTopic", "-c", clusterName, "-t", topic, "-r", "4", "-w", "4"),
            "create topic to " + addr + " success\\.",
            "TopicConfig \\[topicName=" + topic + ", readQueueNums=4, writeQueueNums=4, perm=RW-, topicFilterType=SINGLE_TAG, topicSysFlag=0, order=false");
        command("updateTopic -b", List.of("updateTopic", "-b", cluster.brokerAddr, "-t", topic + "-b", "-r", "2", "-w", "3", "-p", "4"),
            "create topic to " + addr + " success\\.", "topicName=" + topic + "-b, readQueueNums=2, writeQueueNums=3, perm=R--, .*order=false");
        command("updateTopic -c -o", List.of("updateTopic", "-c", clusterName, "-t", topic + "-o", "-r", "2", "-w", "2", "-o", "true"),
            "create topic to " + addr + " success\\.", "set cluster orderConf\\. isOrder=true, orderConf=\\[" + broker + ":2\\]",
            "topicName=" + topic + "-o, readQueueNums=2, writeQueueNums=2, perm=RW-, .*order=true");
        command("updateSubGroup -c", List.of("updateSubGroup", "-c", clusterName, "-g", group, "-r", "3"),
            "create subscription group to " + addr + " success\\.", "groupName=" + group + ", consumeEnable=true", "retryMaxTimes=3");

        x.readQueues(topic);
        x.introduce(group, topic);
        SendResult sent = sendAll(x, topic);
        DefaultMQPushConsumer consumer = consumeAll(x, group, topic);

        command("clusterList", List.of("clusterList"),
            "#Cluster Name +#Broker Name +#BID +#Addr +#Version",
            "^" + owner + " +" + broker + " +0 +" + addr + " +\\S+ +[\\d.]+\\(" + number + ",.*ms.*\\) +[\\d.]+\\(");
        command("clusterList -m", List.of("clusterList", "-m"),
            "#InTotalYest +#OutTotalYest +#InTotalToday +#OutTotalToday",
            "^" + owner + " +" + broker + " +" + number + " +" + number + " +" + number + " +" + number);
        command("topicList", List.of("topicList"), "^" + topic + "$", "^%RETRY%" + group + "$", "^TBW102$");
        command("topicList -c", List.of("topicList", "-c"),
            "#Cluster Name +#Topic +#Consumer Group", "^" + owner + " +" + topic + " +" + group + " *$");
        command("topicRoute", List.of("topicRoute", "-t", topic),
            "\"brokerAddrs\":\\{\\s*\"?0\"?: ?\"" + addr + "\"", "\"cluster\": ?\"" + owner + "\"", "\"brokerName\": ?\"" + broker + "\"",
            "\"perm\": ?6", "\"readQueueNums\": ?4", "\"writeQueueNums\": ?4");
        command("topicRoute -l", List.of("topicRoute", "-t", topic, "-l"),
            "#ClusterName +#BrokerName", "^" + owner + " +" + broker + " +\\{0=" + addr + "\\} +4 +4 +6");
        command("topicStatus", List.of("topicStatus", "-t", topic),
            "#Broker Name +#QID +#Min Offset +#Max Offset +#Last Updated",
            "^" + broker + " +0 +0 +5 +20\\d\\d-", "^" + broker + " +3 +0 +5 +20\\d\\d-");
        command("topicClusterList", List.of("topicClusterList", "-t", topic), "^" + owner + "$");
        command("brokerStatus -b", List.of("brokerStatus", "-b", cluster.brokerAddr), runtimeKeys(""));
        command("brokerStatus -c", List.of("brokerStatus", "-c", clusterName), runtimeKeys(addr + " +"));
        command("getBrokerConfig", List.of("getBrokerConfig", "-b", cluster.brokerAddr),
            "^=+" + addr + "=+$", "^brokerName +=  " + broker + "$", "^brokerRole +=  ASYNC_MASTER$", "^autoCreateTopicEnable +=  true$");

        command("consumerProgress -g", List.of("consumerProgress", "-g", group),
            "#Topic +#Broker Name +#QID +#Broker Offset +#Consumer Offset",
            "^" + topic + " +" + broker + " +0 +5 +5 +.*0 ", "^%RETRY%" + group + " +" + broker + " +0 +0 +0 ", "Diff Total: 0");
        command("consumerProgress -g -s", List.of("consumerProgress", "-g", group, "-s", "true"),
            "#Client IP", "^" + topic + " +" + broker + " +0 +5 +5 +\\d+\\.\\d+\\.\\d+\\.\\d+ ");
        command("consumerProgress", List.of("consumerProgress"),
            "#Group +#Count +#Version +#Type +#Model +#TPS +#Diff Total",
            "^" + group + " +1 +V[\\w-]+ +PUSH +CLUSTERING +" + number + " +0$");
        command("statsAll", List.of("statsAll", "-t", topic),
            "#Topic +#Consumer Group +#Accumulation", "^" + topic + " +" + group + " +0 ");
        command("brokerConsumeStats", List.of("brokerConsumeStats", "-b", cluster.brokerAddr),
            "#Topic +#Group +#Broker Name +#QID", "^" + topic + " +" + group + " +" + broker + " +0 +5 +5 +0 +20\\d\\d-", "Diff Total: " + number);
        command("consumerConnection", List.of("consumerConnection", "-g", group),
            "#ClientId +#ClientAddr +#Language +#Version", "^\\S+ +127\\.0\\.0\\.1:" + number + " +JAVA +V[\\w-]+",
            "Below is subscription:", "^" + topic + " +TagA \\|\\| TagB", "MessageModel: CLUSTERING", "ConsumeFromWhere: CONSUME_FROM_FIRST_OFFSET");
        // The client sends its heartbeat once a second after its start, and then every 30 s: too late for a broker it has met since.
        x.producer().getDefaultMQProducerImpl().getMqClientFactory().sendHeartbeatToAllBrokerWithLock();
        command("producerConnection", List.of("producerConnection", "-g", x.producer().getProducerGroup(), "-t", topic),
            "^0001 +\\S+ +127\\.0\\.0\\.1:" + number + " +JAVA +V[\\w-]+");

        String[] found = {"^Topic: +" + topic + "$", "^Tags: +\\[TagA\\]", "^Keys: +\\[" + MESSAGES + "-key other\\]", "^Queue ID: +3$", "^Queue Offset: +4$",
            "^CommitLog Offset: +" + number, "^Reconsume Times: +0$", "^Born Timestamp: +20\\d\\d-", "^Store Timestamp: +20\\d\\d-",
            "^Born Host: +127\\.0\\.0\\.1:" + number, "^Store Host: +" + addr, "^Properties: +\\{.*own=thing.*\\}",
            "MessageTrack \\[consumerGroup=" + group + ", trackType=CONSUMED,"};
        command("queryMsgById", withTopic(List.of("queryMsgById", "-i", sent.getOffsetMsgId()), topic), plus(found, "^OffsetID: +" + sent.getOffsetMsgId() + "$"));
        command("queryMsgByUniqueKey", List.of("queryMsgByUniqueKey", "-t", topic, "-i", sent.getMsgId()), found);
        command("queryMsgByKey", List.of("queryMsgByKey", "-t", topic, "-k", MESSAGES + "-key"),
            "#Message ID +#QID +#Offset", "^" + sent.getMsgId() + " +3 +4$");
        command("queryMsgByOffset", List.of("queryMsgByOffset", "-t", topic, "-b", cluster.brokerName, "-i", "3", "-o", "4"),
            "^OffsetID: +" + sent.getOffsetMsgId() + "$");

        consumer.shutdown();
        x.send(new Message(topic, Ctx.utf8("one behind")), x.queue(topic, 2));
        command("consumerProgress -g, offline", List.of("consumerProgress", "-g", group),
            "^" + topic + " +" + broker + " +2 +6 +5 +1 ", "Diff Total: 1");
        command("consumerProgress, offline", List.of("consumerProgress"), "^" + group + " +0 +OFFLINE +.*1$");

        command("wipeWritePerm", List.of("wipeWritePerm", "-b", cluster.brokerName), "wipe write perm of broker\\[" + broker + "\\] in name server\\[.*\\] OK, " + number);
        command("topicRoute, wiped", List.of("topicRoute", "-t", topic), "\"perm\": ?4");
        command("addWritePerm", List.of("addWritePerm", "-b", cluster.brokerName), "add write perm of broker\\[" + broker + "\\] in name server\\[.*\\] OK, " + number);
        command("topicRoute, restored", List.of("topicRoute", "-t", topic), "\"perm\": ?6");
        command("updateTopicPerm", List.of("updateTopicPerm", "-b", cluster.brokerAddr, "-t", topic, "-p", "4"), "update topic perm from 6 to 4 in " + addr + " success\\.");
        command("updateKvConfig", List.of("updateKvConfig", "-s", "NS-" + cluster.run, "-k", "k", "-v", "v"), "create or update kv config to namespace success\\.");
        command("deleteKvConfig", List.of("deleteKvConfig", "-s", "NS-" + cluster.run, "-k", "k"), "delete kv config from namespace success\\.");
        command("deleteSubGroup", List.of("deleteSubGroup", "-c", clusterName, "-g", group), "delete subscription group \\[" + group + "\\] from broker \\[" + addr + "\\] in cluster \\[" + owner + "\\] success\\.");
        command("deleteTopic", List.of("deleteTopic", "-c", clusterName, "-t", topic),
            "delete topic \\[" + topic + "\\] from cluster \\[" + owner + "\\] success\\.", "delete topic \\[" + topic + "\\] from NameServer success\\.");
    }

    /** Sends five messages to each of four queues, in queue order, and returns the answer to the last. */
    private static SendResult sendAll(Ctx x, String topic) throws Exception {
        SendResult last = null;
        for (int i = 0; i < MESSAGES; i++) {
            Message m = new Message(topic, "TagA", (i + 1) + "-key other", Ctx.utf8("admin " + i));
            m.putUserProperty("own", "thing");
            last = x.send(m, x.queue(topic, i / 5));
        }
        return last;
    }

    /** Consumes all messages, commits the offsets and leaves the consumer running. */
    private static DefaultMQPushConsumer consumeAll(Ctx x, String group, String topic) throws Exception {
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer c = x.pushConsumer(group);
        c.subscribe(topic, "TagA || TagB");
        c.registerMessageListener(inbox.concurrently());
        c.start();
        inbox.awaitExactly(MESSAGES, Ctx.PATIENCE_MS, 100);
        MessageQueue retry = new MessageQueue("%RETRY%" + group, x.cluster.brokerName, 0);
        Await.until("offsets at the broker", Ctx.PATIENCE_MS, () -> {
            c.getDefaultMQPushConsumerImpl().persistConsumerOffset();
            var table = x.cluster.admin.examineConsumeStats(group).getOffsetTable();
            return table.containsKey(retry) && table.values().stream().mapToLong(o -> o.getConsumerOffset()).sum() == MESSAGES;
        });
        return c;
    }

    private String[] runtimeKeys(String prefix) {
        List<String> lines = new ArrayList<>();
        for (String key : List.of("bootTimestamp", "commitLogMinOffset", "commitLogMaxOffset", "msgPutTotalTodayNow", "msgGetTotalTodayNow", "earliestMessageTimeStamp",
            "sendThreadPoolQueueSize", "pullThreadPoolQueueSize", "putMessageTimesTotal")) {
            lines.add("^" + prefix + key + " *: -?\\d+$");
        }
        for (String key : List.of("putTps", "getTotalTps", "getFoundTps", "getMissTps")) {
            lines.add("^" + prefix + key + " *: [\\d. ]*$"); // Apache leaves out the spans it has no sample of yet
        }
        lines.add("^" + prefix + "brokerVersionDesc *: \\S+$");
        lines.add("^" + prefix + "runtime *: \\[ \\d+ days, \\d+ hours, \\d+ minutes, \\d+ seconds \\]");
        lines.add("^" + prefix + "commitLogDiskRatio *: [\\d.]+$");
        lines.add("^" + prefix + "putMessageDistributeTime *: (\\[<=0ms\\]:\\d+|null$)");
        return lines.toArray(String[]::new);
    }

    /** 4.9 does not know -t for queryMsgById, 5.x insists on it. */
    private List<String> withTopic(List<String> args, String topic) {
        List<String> all = new ArrayList<>(args);
        if (v5) {
            all.addAll(List.of("-t", topic));
        }
        return all;
    }

    private static String[] plus(String[] patterns, String more) {
        List<String> all = new ArrayList<>(List.of(patterns));
        all.add(more);
        return all.toArray(String[]::new);
    }

    private void command(String name, List<String> args, String... expected) {
        if (!wanted.matcher(name).matches()) {
            return;
        }
        long start = System.nanoTime();
        String problem;
        String output = "";
        try {
            output = MqadminCall.run(cluster.namesrv, args);
            problem = MqadminCall.problem(PHANTOM_TRACK.matcher(output).replaceAll(""), expected);
        } catch (Throwable e) {
            problem = "threw " + e;
        }
        String shown = name.replace(' ', '_').replace(",", "");
        if (problem == null) {
            passed++;
            System.out.printf("PASS %s %d%n", shown, (System.nanoTime() - start) / 1_000_000);
        } else {
            failed++;
            System.out.printf("FAIL %s %s%n", shown, problem);
        }
        if (show || problem != null) {
            output.strip().lines().limit(SHOWN_LINES).forEach(line -> System.out.println("    " + line));
        }
    }
}
