package protocol

// ResetOffsetBody is the body of RESET_CONSUMER_CLIENT_OFFSET and the answer to INVOKE_BROKER_TO_RESET_OFFSET. Go clients
// take its exact text apart.
type ResetOffsetBody struct {
	OffsetTable map[MessageQueue]int64 `json:"offsetTable"`
}

// ResetOffsetBodyForC is ResetOffsetBody for C++ clients.
type ResetOffsetBodyForC struct {
	OffsetTable []MessageQueueForC `json:"offsetTable"`
}

// MessageQueueForC is a queue with an offset in it.
type MessageQueueForC struct {
	Topic      string `json:"topic"`
	BrokerName string `json:"brokerName"`
	QueueID    int32  `json:"queueId"`
	Offset     int64  `json:"offset"`
}

// GetConsumerStatusBody holds consumer offsets as clients see them: a client answers 221 with MessageQueueTable, the
// broker 223 with ConsumerTable, by clientId.
type GetConsumerStatusBody struct {
	MessageQueueTable map[MessageQueue]int64            `json:"messageQueueTable"`
	ConsumerTable     map[string]map[MessageQueue]int64 `json:"consumerTable"`
}

// ConsumerOffsetSerializeWrapper is the answer to GET_ALL_CONSUMER_OFFSET: offsets by "topic@group" and queue.
type ConsumerOffsetSerializeWrapper struct {
	OffsetTable map[string]map[int32]int64 `json:"offsetTable"`
	DataVersion DataVersion                `json:"dataVersion"`
}

// DelayOffsetSerializeWrapper is the answer to GET_ALL_DELAY_OFFSET: offsets by delay level.
type DelayOffsetSerializeWrapper struct {
	OffsetTable map[int32]int64 `json:"offsetTable"`
	DataVersion DataVersion     `json:"dataVersion"`
}

// QueryCorrectionOffsetBody is the answer to QUERY_CORRECTION_OFFSET: offsets by queue.
type QueryCorrectionOffsetBody struct {
	CorrectionOffsets map[int32]int64 `json:"correctionOffsets"`
}
