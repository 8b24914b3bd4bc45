package namesrv

import (
	"fmt"

	"rmq/remoting/protocol"
)

func dataVersion(v Version) protocol.DataVersion {
	return protocol.DataVersion{StateVersion: v.StateVersion, Timestamp: v.Timestamp, Counter: v.Counter}
}

func versionOf(v protocol.DataVersion) Version {
	return Version{StateVersion: v.StateVersion, Timestamp: v.Timestamp, Counter: v.Counter}
}

func brokerData(b *BrokerData) protocol.BrokerData {
	return protocol.BrokerData{
		Cluster:            b.Cluster,
		BrokerName:         b.Name,
		BrokerAddrs:        b.Addresses,
		ZoneName:           b.Zone,
		EnableActingMaster: b.ActingMaster,
	}
}

func routeData(route *TopicRoute) *protocol.TopicRouteData {
	data := &protocol.TopicRouteData{
		BrokerDatas:       make([]protocol.BrokerData, 0, len(route.Brokers)),
		QueueDatas:        make([]protocol.QueueData, 0, len(route.Queues)),
		FilterServerTable: map[string][]string{},
	}
	for i := range route.Brokers {
		data.BrokerDatas = append(data.BrokerDatas, brokerData(&route.Brokers[i]))
	}
	for _, q := range route.Queues {
		data.QueueDatas = append(data.QueueDatas, protocol.QueueData{
			BrokerName: q.BrokerName, ReadQueueNums: q.ReadQueues, WriteQueueNums: q.WriteQueues, Perm: q.Perm, TopicSysFlag: q.SysFlag,
		})
	}
	return data
}

func queueDatas(from []protocol.QueueData) []QueueData {
	out := make([]QueueData, 0, len(from))
	for _, q := range from {
		out = append(out, QueueData{q.BrokerName, q.ReadQueueNums, q.WriteQueueNums, q.Perm, q.TopicSysFlag})
	}
	return out
}

func clusterInfo(brokers []BrokerData) protocol.ClusterInfo {
	info := protocol.ClusterInfo{BrokerAddrTable: map[string]protocol.BrokerData{}, ClusterAddrTable: map[string][]string{}}
	for i := range brokers {
		b := &brokers[i]
		info.BrokerAddrTable[b.Name] = brokerData(b)
		info.ClusterAddrTable[b.Cluster] = append(info.ClusterAddrTable[b.Cluster], b.Name)
	}
	return info
}

// memberGroup describes a group that may have no member.
func memberGroup(cluster, name string, addresses map[int64]string) protocol.GetBrokerMemberGroupResponseBody {
	if addresses == nil {
		addresses = map[int64]string{}
	}
	return protocol.GetBrokerMemberGroupResponseBody{
		BrokerMemberGroup: &protocol.BrokerMemberGroup{Cluster: cluster, BrokerName: name, BrokerAddrs: addresses},
	}
}

// zlibFirstByte says deflate with a window of 32 KiB, the only one that encoders use in practice.
const zlibFirstByte = 0x78

// registeredTopics reads the body of a registration; none means that nothing is said of topics.
func registeredTopics(cmd *protocol.Command, compressed bool) (Version, []Topic, error) {
	if len(cmd.Body) == 0 {
		return Version{}, nil, nil
	}
	// Apache's 5.x brokers compress if compressedRegister is set, but never say so in the header, and so cannot register with
	// their own name servers. The first byte tells: no JSON starts with that of a zlib stream.
	compressed = compressed || cmd.Body[0] == zlibFirstByte
	body, err := protocol.DecodeRegisterBrokerBody(cmd.Body, compressed, cmd.Version)
	if err != nil {
		return Version{}, nil, fmt.Errorf("request body: %w", err)
	}
	wrapper := &body.TopicConfigSerializeWrapper
	topics := make([]Topic, 0, len(wrapper.TopicConfigTable))
	for name, c := range wrapper.TopicConfigTable {
		topics = append(topics, Topic{
			Name: name, ReadQueues: c.ReadQueueNums, WriteQueues: c.WriteQueueNums, Perm: c.Perm, SysFlag: c.TopicSysFlag,
		})
	}
	return versionOf(wrapper.DataVersion), topics, nil
}
