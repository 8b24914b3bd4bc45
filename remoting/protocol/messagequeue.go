package protocol

import "rmq/remoting/fastjson"

// The bodies are plain structs with the JSON member names of Apache's classes, to be read and written with these two
// functions. Slices stand for Java's lists and sets alike; Marshal writes nil ones as empty unless the field says
// omitempty. A field that a peer leaves out keeps its Java default.

// DecodeBody reads a JSON body into v, a pointer to a body struct. See fastjson.Unmarshal.
func DecodeBody(body []byte, v any) error { return fastjson.Unmarshal(body, v) }

// EncodeBody writes a JSON body. See fastjson.Marshal.
func EncodeBody(v any) ([]byte, error) { return fastjson.Marshal(v) }

// MessageQueue names a queue of a topic on a broker group. As a map key it is written as a raw object.
type MessageQueue struct {
	Topic      string `json:"topic"`
	BrokerName string `json:"brokerName"`
	QueueID    int32  `json:"queueId"`
}

// LockBatchRequestBody is the body of LOCK_BATCH_MQ and UNLOCK_BATCH_MQ.
type LockBatchRequestBody struct {
	ConsumerGroup  string         `json:"consumerGroup"`
	ClientID       string         `json:"clientId"`
	OnlyThisBroker bool           `json:"onlyThisBroker"`
	MQSet          []MessageQueue `json:"mqSet"`
}

// LockBatchResponseBody names the queues the client now holds.
type LockBatchResponseBody struct {
	LockOKMQSet []MessageQueue `json:"lockOKMQSet"`
}
