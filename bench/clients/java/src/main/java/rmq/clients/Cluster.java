package rmq.clients;

import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** The name server and broker under test, with the two clients all cases share. The clients' threads keep a JVM alive, so its main ends with an exit. */
final class Cluster implements AutoCloseable {
    final String namesrv;
    /** Differs between runs, so that a run can be repeated against the same broker. */
    final String run = Long.toString(System.currentTimeMillis(), 36);
    final DefaultMQAdminExt admin = new DefaultMQAdminExt(30_000L);
    final DefaultMQProducer producer;
    final String brokerName;
    final String brokerAddr;

    Cluster(String namesrv) throws Exception {
        this.namesrv = namesrv;
        admin.setNamesrvAddr(namesrv);
        admin.setInstanceName("admin-" + run);
        admin.setAdminExtGroup("admin-" + run);
        admin.start();
        Await.until("a broker at name server " + namesrv, Ctx.ROUTE_MS, () -> !admin.examineBrokerClusterInfo().getBrokerAddrTable().isEmpty());
        var brokers = admin.examineBrokerClusterInfo().getBrokerAddrTable();
        brokerName = brokers.keySet().iterator().next();
        brokerAddr = brokers.get(brokerName).getBrokerAddrs().get(0L);
        producer = newProducer("shared-" + run);
        producer.start();
    }

    DefaultMQProducer newProducer(String group) {
        DefaultMQProducer p = new DefaultMQProducer(group);
        p.setNamesrvAddr(namesrv);
        p.setInstanceName(group);
        p.setSendMsgTimeout(10_000);
        return p;
    }

    @Override
    public void close() {
        producer.shutdown();
        admin.shutdown();
    }
}
