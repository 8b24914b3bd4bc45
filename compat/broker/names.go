package broker

import (
	"strconv"
	"strings"

	"rmq/store/message"
)

// Topics that the broker owns, and prefixes that it derives topics from.
const (
	RetryPrefix       = "%RETRY%"
	DLQPrefix         = "%DLQ%"
	ScheduleTopic     = message.TopicSchedule
	AutoCreateTopic   = "TBW102"
	SelfTestTopic     = "SELF_TEST_TOPIC"
	BenchmarkTopic    = "BenchmarkTest"
	OffsetMovedTopic  = "OFFSET_MOVED_EVENT"
	TransHalfTopic    = "RMQ_SYS_TRANS_HALF_TOPIC"
	TransOpTopic      = "RMQ_SYS_TRANS_OP_HALF_TOPIC"
	TransCheckTopic   = "TRANS_CHECK_MAX_TIME_TOPIC"
	DefaultTraceTopic = "RMQ_SYS_TRACE_TOPIC"
	TimerTopic        = message.TopicTimerWheel
	ReplyTopicSuffix  = "_REPLY_TOPIC"
)

// Lengths as RocketMQ bounds them, in bytes: a stored V1 record has one signed byte for the topic's length.
const (
	topicLengthMax        = 127
	derivedTopicLengthMax = 255
	groupLengthMax        = 255
)

// RetryTopic is where a group's failed messages wait for redelivery.
func RetryTopic(group string) string { return RetryPrefix + group }

// DLQTopic is where a group's messages end that failed too often.
func DLQTopic(group string) string { return DLQPrefix + group }

func isDerived(topic string) bool {
	return strings.HasPrefix(topic, RetryPrefix) || strings.HasPrefix(topic, DLQPrefix)
}

// reservedForSending holds the topics that a client must not send to.
var reservedForSending = map[string]bool{
	ScheduleTopic: true, TransHalfTopic: true, TransOpTopic: true, TransCheckTopic: true, SelfTestTopic: true, OffsetMovedTopic: true,
	TimerTopic: true,
}

// IsSystemTopic reports whether topic is one that the broker (or a RocketMQ tool) owns, so that admin commands must not
// create, change or delete it.
func (b *Broker) IsSystemTopic(topic string) bool {
	switch topic {
	case AutoCreateTopic, BenchmarkTopic, DefaultTraceTopic, b.opts.TraceTopic, b.opts.Cluster, b.opts.Group, b.opts.Cluster + ReplyTopicSuffix:
		return topic != ""
	}
	return reservedForSending[topic] || strings.HasPrefix(topic, "rmq_sys_")
}

// validName accepts the characters of RocketMQ's topic and group names. Names never become file names, but a narrow
// alphabet keeps them safe in logs, in property strings and in the tools that print them.
func validName(s string) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-', c == '%', c == '|':
		default:
			return false
		}
	}
	return s != ""
}

// CheckTopicName refuses names outside RocketMQ's alphabet and length.
func CheckTopicName(topic string) error {
	limit := topicLengthMax
	if isDerived(topic) {
		limit = derivedTopicLengthMax
	}
	switch {
	case strings.TrimSpace(topic) == "":
		return refuse(InvalidParameter, "The specified topic is blank.")
	case !validName(topic):
		return refuse(InvalidParameter, "The specified topic[%.300q] contains illegal characters, allowing only ^[%%|a-zA-Z0-9_-]+$", topic)
	case len(topic) > limit:
		return refuse(InvalidParameter, "The specified topic is longer than topic max length %d.", limit)
	}
	return nil
}

// CheckGroupName refuses names outside RocketMQ's alphabet and length.
func CheckGroupName(group string) error {
	switch {
	case strings.TrimSpace(group) == "":
		return refuse(InvalidParameter, "The specified group is blank.")
	case !validName(group):
		return refuse(InvalidParameter, "The specified group[%.300q] contains illegal characters, allowing only ^[%%|a-zA-Z0-9_-]+$", group)
	case len(group) > groupLengthMax:
		return refuse(InvalidParameter, "The specified group is longer than group max length %d.", groupLengthMax)
	}
	return nil
}

// systemGroup reports groups that RocketMQ's own tools use; they always exist.
func systemGroup(group string) bool {
	switch group {
	case "TOOLS_CONSUMER", "FILTERSRV_CONSUMER", "SELF_TEST_C_GROUP", "SELF_TEST_P_GROUP", "CID_ONS-HTTP-PROXY", "CID_ONSAPI_PULL",
		"CID_ONSAPI_PERMISSION", "CID_ONSAPI_OWNER":
		return true
	}
	return strings.HasPrefix(group, "CID_RMQ_SYS_")
}

func itoa(n int32) string { return strconv.Itoa(int(n)) }
