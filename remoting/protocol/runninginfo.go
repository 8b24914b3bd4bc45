package protocol

// ConsumerRunningInfo is what a consumer client answers to GET_CONSUMER_RUNNING_INFO. The broker passes the bytes on.
type ConsumerRunningInfo struct {
	Properties       map[string]string                    `json:"properties"`
	SubscriptionSet  []SubscriptionData                   `json:"subscriptionSet"`
	MQTable          map[MessageQueue]ProcessQueueInfo    `json:"mqTable"`
	MQPopTable       map[MessageQueue]PopProcessQueueInfo `json:"mqPopTable"`
	StatusTable      map[string]ConsumeStatus             `json:"statusTable"` // by topic
	UserConsumerInfo map[string]string                    `json:"userConsumerInfo"`
	Jstack           string                               `json:"jstack,omitempty"`
}

// ProcessQueueInfo is a queue as a push consumer sees it. "droped" is spelled so on the wire.
type ProcessQueueInfo struct {
	CommitOffset            int64 `json:"commitOffset"`
	CachedMsgMinOffset      int64 `json:"cachedMsgMinOffset"`
	CachedMsgMaxOffset      int64 `json:"cachedMsgMaxOffset"`
	CachedMsgCount          int32 `json:"cachedMsgCount"`
	CachedMsgSizeInMiB      int32 `json:"cachedMsgSizeInMiB"`
	TransactionMsgMinOffset int64 `json:"transactionMsgMinOffset"`
	TransactionMsgMaxOffset int64 `json:"transactionMsgMaxOffset"`
	TransactionMsgCount     int32 `json:"transactionMsgCount"`
	Locked                  bool  `json:"locked"`
	TryUnlockTimes          int64 `json:"tryUnlockTimes"`
	LastLockTimestamp       int64 `json:"lastLockTimestamp"`
	Dropped                 bool  `json:"droped"`
	LastPullTimestamp       int64 `json:"lastPullTimestamp"`
	LastConsumeTimestamp    int64 `json:"lastConsumeTimestamp"`
}

// PopProcessQueueInfo is a queue as a pop consumer sees it.
type PopProcessQueueInfo struct {
	WaitAckCount     int32 `json:"waitAckCount"`
	Dropped          bool  `json:"droped"`
	LastPopTimestamp int64 `json:"lastPopTimestamp"`
}

// ConsumeStatus is a consumer's speed on a topic.
type ConsumeStatus struct {
	PullRT            float64 `json:"pullRT"` // ms
	PullTPS           float64 `json:"pullTPS"`
	ConsumeRT         float64 `json:"consumeRT"` // ms
	ConsumeOKTPS      float64 `json:"consumeOKTPS"`
	ConsumeFailedTPS  float64 `json:"consumeFailedTPS"`
	ConsumeFailedMsgs int64   `json:"consumeFailedMsgs"`
}

// ConsumeMessageDirectlyResult is what a client answers to CONSUME_MESSAGE_DIRECTLY.
type ConsumeMessageDirectlyResult struct {
	Order          bool   `json:"order"`
	AutoCommit     bool   `json:"autoCommit"`
	ConsumeResult  string `json:"consumeResult" enum:"CR_SUCCESS,CR_LATER,CR_ROLLBACK,CR_COMMIT,CR_THROW_EXCEPTION,CR_RETURN_NULL"`
	Remark         string `json:"remark,omitempty"`
	SpentTimeMills int64  `json:"spentTimeMills"`
}

// SetDefaults sets what Java's constructor sets.
func (r *ConsumeMessageDirectlyResult) SetDefaults() {
	*r = ConsumeMessageDirectlyResult{AutoCommit: true}
}
