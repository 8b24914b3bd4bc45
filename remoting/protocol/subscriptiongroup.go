package protocol

// SubscriptionGroupConfig describes a consumer group on one broker group. It is the body of
// UPDATE_AND_CREATE_SUBSCRIPTIONGROUP.
type SubscriptionGroupConfig struct {
	GroupName                      string               `json:"groupName"`
	ConsumeEnable                  bool                 `json:"consumeEnable"`
	ConsumeFromMinEnable           bool                 `json:"consumeFromMinEnable"`
	ConsumeBroadcastEnable         bool                 `json:"consumeBroadcastEnable"`
	ConsumeMessageOrderly          bool                 `json:"consumeMessageOrderly"`
	RetryQueueNums                 int32                `json:"retryQueueNums"`
	RetryMaxTimes                  int32                `json:"retryMaxTimes"`
	GroupRetryPolicy               GroupRetryPolicy     `json:"groupRetryPolicy"`
	BrokerID                       int64                `json:"brokerId"`
	WhichBrokerWhenConsumeSlowly   int64                `json:"whichBrokerWhenConsumeSlowly"`
	NotifyConsumerIdsChangedEnable bool                 `json:"notifyConsumerIdsChangedEnable"`
	GroupSysFlag                   int32                `json:"groupSysFlag"`
	ConsumeTimeoutMinute           int32                `json:"consumeTimeoutMinute"`
	SubscriptionDataSet            []SimpleSubscription `json:"subscriptionDataSet,omitempty"`
	Attributes                     map[string]string    `json:"attributes"`
}

// SetDefaults sets what Java's constructor sets.
func (c *SubscriptionGroupConfig) SetDefaults() {
	*c = SubscriptionGroupConfig{
		ConsumeEnable: true, ConsumeFromMinEnable: true, ConsumeBroadcastEnable: true, RetryQueueNums: 1, RetryMaxTimes: 16,
		WhichBrokerWhenConsumeSlowly: 1, NotifyConsumerIdsChangedEnable: true, ConsumeTimeoutMinute: 15,
		GroupRetryPolicy: GroupRetryPolicy{Type: RetryCustomized},
	}
}

// The values of GroupRetryPolicy.Type.
const (
	RetryExponential = "EXPONENTIAL"
	RetryCustomized  = "CUSTOMIZED"
)

// GroupRetryPolicy says how long pop consumers of a group wait between tries.
type GroupRetryPolicy struct {
	Type                   string                  `json:"type" enum:"EXPONENTIAL,CUSTOMIZED"`
	ExponentialRetryPolicy *ExponentialRetryPolicy `json:"exponentialRetryPolicy"`
	CustomizedRetryPolicy  *CustomizedRetryPolicy  `json:"customizedRetryPolicy"`
}

// SetDefaults sets what Java's constructor sets.
func (p *GroupRetryPolicy) SetDefaults() { *p = GroupRetryPolicy{Type: RetryCustomized} }

// ExponentialRetryPolicy multiplies the delay by Multiplier each time.
type ExponentialRetryPolicy struct {
	Initial    int64 `json:"initial"` // ms
	Max        int64 `json:"max"`     // ms
	Multiplier int64 `json:"multiplier"`
}

// SetDefaults sets what Java's constructor sets.
func (p *ExponentialRetryPolicy) SetDefaults() {
	*p = ExponentialRetryPolicy{Initial: 5000, Max: 2 * 3600 * 1000, Multiplier: 2}
}

// CustomizedRetryPolicy lists the delays.
type CustomizedRetryPolicy struct {
	Next []int64 `json:"next"` // ms
}

// SimpleSubscription is a subscription kept with a group.
type SimpleSubscription struct {
	Topic          string `json:"topic"`
	ExpressionType string `json:"expressionType"`
	Expression     string `json:"expression"`
	Version        int64  `json:"version"`
}

// SubscriptionGroupList is the body of UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST.
type SubscriptionGroupList struct {
	GroupConfigList []SubscriptionGroupConfig `json:"groupConfigList"`
}

// SubscriptionGroupWrapper is the answer to GET_ALL_SUBSCRIPTIONGROUP_CONFIG.
type SubscriptionGroupWrapper struct {
	SubscriptionGroupTable map[string]SubscriptionGroupConfig `json:"subscriptionGroupTable"`
	ForbiddenTable         map[string]map[string]int32        `json:"forbiddenTable"` // group, topic, bits
	DataVersion            DataVersion                        `json:"dataVersion"`
}

// GroupForbidden is the answer to UPDATE_AND_GET_GROUP_FORBIDDEN.
type GroupForbidden struct {
	Group    string `json:"group"`
	Topic    string `json:"topic"`
	Readable bool   `json:"readable"`
}
