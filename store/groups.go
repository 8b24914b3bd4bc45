package store

// GroupConfig describes a consumer group; fields and meaning are those of Apache's SubscriptionGroupConfig. Slices and
// maps are shared and must not be changed.
type GroupConfig struct {
	Name                           string
	ConsumeEnable                  bool
	ConsumeFromMinEnable           bool
	ConsumeBroadcastEnable         bool
	ConsumeMessageOrderly          bool
	RetryQueueNums                 int32
	RetryMaxTimes                  int32
	RetryPolicy                    RetryPolicy
	BrokerID                       int64
	WhichBrokerWhenConsumeSlowly   int64
	NotifyConsumerIDsChangedEnable bool
	GroupSysFlag                   int32
	ConsumeTimeoutMinute           int32
	Subscriptions                  []Subscription
	Attributes                     map[string]string
}

// RetryPolicy says how long a message waits before it is handed out again. Times are milliseconds.
type RetryPolicy struct {
	Type        string // "CUSTOMIZED", "EXPONENTIAL"
	Exponential *ExponentialRetry
	Customized  []int64 // nil: the default steps
}

// ExponentialRetry is the parameter set of the policy "EXPONENTIAL".
type ExponentialRetry struct {
	Initial, Max, Multiplier int64
}

// Subscription is one entry of a group's fixed subscriptions.
type Subscription struct {
	Topic          string
	Expression     string
	ExpressionType string
	Version        int64
}

func (s *Store) Group(name string) (GroupConfig, bool) { return GroupConfig{}, false }
func (s *Store) Groups() []GroupConfig                 { return nil }
func (s *Store) GroupsVersion() Version                { return Version{} }
