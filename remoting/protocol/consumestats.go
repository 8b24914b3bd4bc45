package protocol

// ConsumeStats is the answer to GET_CONSUME_STATS.
type ConsumeStats struct {
	OffsetTable map[MessageQueue]OffsetWrapper `json:"offsetTable"`
	ConsumeTps  float64                        `json:"consumeTps"`
}

// OffsetWrapper says how far a group is in a queue.
type OffsetWrapper struct {
	BrokerOffset   int64 `json:"brokerOffset"`
	ConsumerOffset int64 `json:"consumerOffset"`
	PullOffset     int64 `json:"pullOffset"`
	LastTimestamp  int64 `json:"lastTimestamp"` // store time of the last message consumed, ms
}

// ConsumeStatsList is the answer to GET_BROKER_CONSUME_STATS.
type ConsumeStatsList struct {
	ConsumeStatsList  []map[string][]ConsumeStats `json:"consumeStatsList"` // each with one group
	BrokerAddr        string                      `json:"brokerAddr,omitempty"`
	TotalDiff         int64                       `json:"totalDiff"`
	TotalInflightDiff int64                       `json:"totalInflightDiff"`
}

// TopicStatsTable is the answer to GET_TOPIC_STATS_INFO.
type TopicStatsTable struct {
	OffsetTable map[MessageQueue]TopicOffset `json:"offsetTable"`
	TopicPutTps float64                      `json:"topicPutTps"`
}

// TopicOffset says what a queue holds.
type TopicOffset struct {
	MinOffset           int64 `json:"minOffset"`
	MaxOffset           int64 `json:"maxOffset"`           // the next offset to be written
	LastUpdateTimestamp int64 `json:"lastUpdateTimestamp"` // store time of the last message, ms
}

// QueryConsumeTimeSpanBody is the answer to QUERY_CONSUME_TIME_SPAN.
type QueryConsumeTimeSpanBody struct {
	ConsumeTimeSpanSet []QueueTimeSpan `json:"consumeTimeSpanSet"`
}

// QueueTimeSpan says of which time the messages of a queue are. The Str members are for display, such as
// "1970-01-01#00:00:00:000".
type QueueTimeSpan struct {
	MessageQueue        MessageQueue `json:"messageQueue"`
	MinTimeStamp        int64        `json:"minTimeStamp"`     // ms
	MaxTimeStamp        int64        `json:"maxTimeStamp"`     // ms
	ConsumeTimeStamp    int64        `json:"consumeTimeStamp"` // ms
	DelayTime           int64        `json:"delayTime"`        // ms
	MinTimeStampStr     string       `json:"minTimeStampStr,omitempty"`
	MaxTimeStampStr     string       `json:"maxTimeStampStr,omitempty"`
	ConsumeTimeStampStr string       `json:"consumeTimeStampStr,omitempty"`
}

// BrokerStatsData is the answer to VIEW_BROKER_STATS_DATA.
type BrokerStatsData struct {
	StatsMinute BrokerStatsItem `json:"statsMinute"`
	StatsHour   BrokerStatsItem `json:"statsHour"`
	StatsDay    BrokerStatsItem `json:"statsDay"`
}

// BrokerStatsItem is one figure over one span of time.
type BrokerStatsItem struct {
	Sum   int64   `json:"sum"`
	Tps   float64 `json:"tps"`
	Avgpt float64 `json:"avgpt"` // mean of what was added at a time
}

// QueryConsumeQueueResponseBody is the answer to QUERY_CONSUME_QUEUE.
type QueryConsumeQueueResponseBody struct {
	SubscriptionData *SubscriptionData  `json:"subscriptionData"`
	FilterData       string             `json:"filterData,omitempty"`
	QueueData        []ConsumeQueueData `json:"queueData"`
	MaxQueueIndex    int64              `json:"maxQueueIndex"`
	MinQueueIndex    int64              `json:"minQueueIndex"`
}

// ConsumeQueueData is one entry of a consume queue.
type ConsumeQueueData struct {
	PhysicOffset   int64  `json:"physicOffset"`
	PhysicSize     int32  `json:"physicSize"`
	TagsCode       int64  `json:"tagsCode"`
	ExtendDataJSON string `json:"extendDataJson,omitempty"`
	BitMap         string `json:"bitMap,omitempty"`
	Eval           bool   `json:"eval"`
	Msg            string `json:"msg,omitempty"`
}
