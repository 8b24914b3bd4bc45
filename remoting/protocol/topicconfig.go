package protocol

import "rmq/remoting/fastjson"

// DataVersion orders states of a broker's configuration: by StateVersion (rmq: the Raft term), then by Timestamp and
// Counter. Brokers before 5.0 have no StateVersion.
type DataVersion struct {
	StateVersion int64 `json:"stateVersion"`
	Timestamp    int64 `json:"timestamp"` // ms
	Counter      int64 `json:"counter"`
}

// The values of TopicConfig.TopicFilterType.
const (
	SingleTag = "SINGLE_TAG"
	MultiTag  = "MULTI_TAG"
)

// TopicConfig describes a topic on one broker group.
type TopicConfig struct {
	TopicName       string            `json:"topicName"`
	ReadQueueNums   int32             `json:"readQueueNums"`
	WriteQueueNums  int32             `json:"writeQueueNums"`
	Perm            int32             `json:"perm"`
	TopicFilterType string            `json:"topicFilterType" enum:"SINGLE_TAG,MULTI_TAG"`
	TopicSysFlag    int32             `json:"topicSysFlag"` // bit 0 unit, bit 1 has a unit subscription
	Order           bool              `json:"order"`
	Attributes      map[string]string `json:"attributes"` // such as message.type; no spaces in them
}

// SetDefaults sets what Java's constructor sets.
func (c *TopicConfig) SetDefaults() {
	*c = TopicConfig{ReadQueueNums: 16, WriteQueueNums: 16, Perm: PermRead | PermWrite, TopicFilterType: SingleTag}
}

// TopicConfigAndQueueMapping is the answer to GET_TOPIC_CONFIG.
type TopicConfigAndQueueMapping struct {
	TopicConfig
	MappingDetail fastjson.Raw `json:"mappingDetail"` // static topics; nil for none
}

// CreateTopicListRequestBody is the body of UPDATE_AND_CREATE_TOPIC_LIST.
type CreateTopicListRequestBody struct {
	TopicConfigList []TopicConfig `json:"topicConfigList"`
}

// TopicConfigSerializeWrapper has all topics of a broker by name.
type TopicConfigSerializeWrapper struct {
	TopicConfigTable map[string]TopicConfig `json:"topicConfigTable"`
	DataVersion      DataVersion            `json:"dataVersion"`
}

// TopicConfigAndMappingSerializeWrapper is the answer to GET_ALL_TOPIC_CONFIG. The mapping members are about static
// topics, which rmq only passes on.
type TopicConfigAndMappingSerializeWrapper struct {
	TopicConfigSerializeWrapper
	MappingDataVersion         DataVersion             `json:"mappingDataVersion"`
	TopicQueueMappingInfoMap   map[string]fastjson.Raw `json:"topicQueueMappingInfoMap"`
	TopicQueueMappingDetailMap map[string]fastjson.Raw `json:"topicQueueMappingDetailMap"`
}

// TopicList is the answer to the requests that list topics.
type TopicList struct {
	TopicList  []string `json:"topicList"`
	BrokerAddr string   `json:"brokerAddr,omitempty"` // only of the system topic list
}

// GroupList is the answer to QUERY_TOPIC_CONSUME_BY_WHO.
type GroupList struct {
	GroupList []string `json:"groupList"`
}

// KVTable is a table of names and values: runtime info, order topic configuration, a namespace.
type KVTable struct {
	Table map[string]string `json:"table"`
}
