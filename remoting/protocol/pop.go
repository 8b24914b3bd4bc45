package protocol

// The values of MessageQueueAssignment.Mode and SetMessageRequestModeRequestBody.Mode.
const (
	ModePull = "PULL"
	ModePop  = "POP"
)

// QueryAssignmentRequestBody is the body of QUERY_ASSIGNMENT.
type QueryAssignmentRequestBody struct {
	Topic         string `json:"topic"`
	ConsumerGroup string `json:"consumerGroup"`
	ClientID      string `json:"clientId"`
	StrategyName  string `json:"strategyName"` // AVG or AVG_BY_CIRCLE
	MessageModel  string `json:"messageModel" enum:"BROADCASTING,CLUSTERING"`
}

// QueryAssignmentResponseBody is the answer to QUERY_ASSIGNMENT.
type QueryAssignmentResponseBody struct {
	MessageQueueAssignments []MessageQueueAssignment `json:"messageQueueAssignments"`
}

// MessageQueueAssignment gives a client a queue; queueId -1 with POP is every queue of the broker group.
type MessageQueueAssignment struct {
	MessageQueue *MessageQueue     `json:"messageQueue"`
	Mode         string            `json:"mode" enum:"PULL,POP"`
	Attachments  map[string]string `json:"attachments,omitempty"`
}

// SetDefaults sets what Java's constructor sets.
func (a *MessageQueueAssignment) SetDefaults() { *a = MessageQueueAssignment{Mode: ModePull} }

// SetMessageRequestModeRequestBody is the body of SET_MESSAGE_REQUEST_MODE.
type SetMessageRequestModeRequestBody struct {
	Topic            string `json:"topic"`
	ConsumerGroup    string `json:"consumerGroup"`
	Mode             string `json:"mode" enum:"PULL,POP"`
	PopShareQueueNum int32  `json:"popShareQueueNum"`
}

// SetDefaults sets what Java's constructor sets.
func (b *SetMessageRequestModeRequestBody) SetDefaults() {
	*b = SetMessageRequestModeRequestBody{Mode: ModePull}
}

// MessageRequestModeSerializeWrapper is the answer to GET_ALL_MESSAGE_REQUEST_MODE, by topic and group.
type MessageRequestModeSerializeWrapper struct {
	MessageRequestModeMap map[string]map[string]SetMessageRequestModeRequestBody `json:"messageRequestModeMap"`
}

// BatchAckMessageRequestBody is the body of BATCH_ACK_MESSAGE.
type BatchAckMessageRequestBody struct {
	BrokerName string     `json:"brokerName"`
	Acks       []BatchAck `json:"acks"`
}

// BatchAck acknowledges messages of one pop.
type BatchAck struct {
	ConsumerGroup string `json:"c" alias:"consumerGroup"`
	Topic         string `json:"t" alias:"topic"`
	Retry         string `json:"r" alias:"retry"` // "0", or "1" and "2" for messages of the two kinds of retry topic
	StartOffset   int64  `json:"so" alias:"startOffset"`
	QueueID       int32  `json:"q" alias:"queueId"`
	ReviveQueueID int32  `json:"rq" alias:"reviveQueueId"`
	PopTime       int64  `json:"pt" alias:"popTime"`       // ms
	InvisibleTime int64  `json:"it" alias:"invisibleTime"` // ms
	BitSet        []byte `json:"b" alias:"bitSet"`         // bit i%8 of byte i/8: StartOffset+i
}
