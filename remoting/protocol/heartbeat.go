package protocol

// The values of ConsumerData.ConsumeType.
const (
	ConsumeActively  = "CONSUME_ACTIVELY"  // the application pulls
	ConsumePassively = "CONSUME_PASSIVELY" // the client pulls and pushes to the application
	ConsumePop       = "CONSUME_POP"
)

// The values of ConsumerData.MessageModel.
const (
	Broadcasting = "BROADCASTING"
	Clustering   = "CLUSTERING"
)

// The values of ConsumerData.ConsumeFromWhere that are still in use.
const (
	ConsumeFromLastOffset  = "CONSUME_FROM_LAST_OFFSET"
	ConsumeFromFirstOffset = "CONSUME_FROM_FIRST_OFFSET"
	ConsumeFromTimestamp   = "CONSUME_FROM_TIMESTAMP"
)

// The values of SubscriptionData.ExpressionType.
const (
	ExpressionTag   = "TAG"
	ExpressionSQL92 = "SQL92"
)

// HeartbeatData is the body of HEART_BEAT: all groups of one client instance.
type HeartbeatData struct {
	ClientID             string         `json:"clientID"`
	ProducerDataSet      []ProducerData `json:"producerDataSet"`
	ConsumerDataSet      []ConsumerData `json:"consumerDataSet"`
	HeartbeatFingerprint int32          `json:"heartbeatFingerprint"` // 0: no heartbeat V2
	WithoutSub           bool           `json:"withoutSub" alias:"isWithoutSub"`
}

// ProducerData is a producer group of a client.
type ProducerData struct {
	GroupName string `json:"groupName"`
}

// ConsumerData is a consumer group of a client.
type ConsumerData struct {
	GroupName           string             `json:"groupName"`
	ConsumeType         string             `json:"consumeType" enum:"CONSUME_ACTIVELY,CONSUME_PASSIVELY,CONSUME_POP"`
	MessageModel        string             `json:"messageModel" enum:"BROADCASTING,CLUSTERING"`
	ConsumeFromWhere    string             `json:"consumeFromWhere" enum:"CONSUME_FROM_LAST_OFFSET,CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST,CONSUME_FROM_MIN_OFFSET,CONSUME_FROM_MAX_OFFSET,CONSUME_FROM_FIRST_OFFSET,CONSUME_FROM_TIMESTAMP"`
	SubscriptionDataSet []SubscriptionData `json:"subscriptionDataSet"`
	UnitMode            bool               `json:"unitMode"`
}

// SubscriptionData is what a consumer group wants of a topic.
type SubscriptionData struct {
	Topic           string   `json:"topic"`
	SubString       string   `json:"subString"`
	TagsSet         []string `json:"tagsSet"`
	CodeSet         []int32  `json:"codeSet"` // Java's hashCode of each tag
	SubVersion      int64    `json:"subVersion"`
	ExpressionType  string   `json:"expressionType"`
	ClassFilterMode bool     `json:"classFilterMode"`
}

// SetDefaults sets what Java's constructor sets, the version apart, which is then the current time.
func (s *SubscriptionData) SetDefaults() { *s = SubscriptionData{ExpressionType: ExpressionTag} }

// CheckClientRequestBody is the body of CHECK_CLIENT_CONFIG.
type CheckClientRequestBody struct {
	ClientID         string           `json:"clientId"`
	Group            string           `json:"group"`
	SubscriptionData SubscriptionData `json:"subscriptionData"`
	Namespace        string           `json:"namespace,omitempty"`
}

// QuerySubscriptionResponseBody is the answer to QUERY_SUBSCRIPTION_BY_CONSUMER.
type QuerySubscriptionResponseBody struct {
	SubscriptionData *SubscriptionData `json:"subscriptionData"`
	Group            string            `json:"group"`
	Topic            string            `json:"topic"`
}

// GetConsumerListByGroupResponseBody is the answer to GET_CONSUMER_LIST_BY_GROUP.
type GetConsumerListByGroupResponseBody struct {
	ConsumerIDList []string `json:"consumerIdList"`
}
