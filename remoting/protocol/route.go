package protocol

import "rmq/remoting/fastjson"

// Topic and queue permissions, bits of QueueData.Perm and TopicConfig.Perm.
const (
	PermInherit int32 = 1 << iota // new topics may be made after this one
	PermWrite
	PermRead
	PermPriority
)

// TopicRouteData is the answer to GET_ROUTEINFO_BY_TOPIC, and with only QueueDatas the body of
// REGISTER_TOPIC_IN_NAMESRV.
type TopicRouteData struct {
	OrderTopicConf            string              `json:"orderTopicConf,omitempty"` // "brokerA:4;brokerB:4"
	QueueDatas                []QueueData         `json:"queueDatas"`
	BrokerDatas               []BrokerData        `json:"brokerDatas"`
	FilterServerTable         map[string][]string `json:"filterServerTable"`
	TopicQueueMappingByBroker fastjson.Raw        `json:"topicQueueMappingByBroker"` // static topics; nil for none
}

// QueueData says how many queues of a topic a broker group has.
type QueueData struct {
	BrokerName     string `json:"brokerName"`
	ReadQueueNums  int32  `json:"readQueueNums"`
	WriteQueueNums int32  `json:"writeQueueNums"`
	Perm           int32  `json:"perm"`
	TopicSysFlag   int32  `json:"topicSysFlag" alias:"topicSynFlag"`
}

// BrokerData has the addresses of a broker group. BrokerAddrs must not be missing: Go clients look for it in the text.
type BrokerData struct {
	Cluster            string           `json:"cluster"`
	BrokerName         string           `json:"brokerName"`
	BrokerAddrs        map[int64]string `json:"brokerAddrs"` // by brokerId; 0 takes writes
	ZoneName           string           `json:"zoneName,omitempty"`
	EnableActingMaster bool             `json:"enableActingMaster"`
}

// ClusterInfo is the answer to GET_BROKER_CLUSTER_INFO.
type ClusterInfo struct {
	BrokerAddrTable  map[string]BrokerData `json:"brokerAddrTable"`  // by brokerName
	ClusterAddrTable map[string][]string   `json:"clusterAddrTable"` // brokerNames by cluster
}

// BrokerMemberGroup has the addresses of a broker group.
type BrokerMemberGroup struct {
	Cluster     string           `json:"cluster"`
	BrokerName  string           `json:"brokerName"`
	BrokerAddrs map[int64]string `json:"brokerAddrs"`
}

// GetBrokerMemberGroupResponseBody is the answer to GET_BROKER_MEMBER_GROUP.
type GetBrokerMemberGroupResponseBody struct {
	BrokerMemberGroup *BrokerMemberGroup `json:"brokerMemberGroup"`
}
