package compat

import (
	"rmq/compat/broker"
	"rmq/remoting/protocol"
)

// responseCode is the one table from the broker's reasons to the codes that clients know.
func responseCode(r broker.Reason) int32 {
	switch r {
	case broker.Busy:
		return protocol.SystemBusy
	case broker.NotAvailable, broker.NotLeader:
		return protocol.ServiceNotAvailable
	case broker.TopicNotExist:
		return protocol.TopicNotExist
	case broker.GroupNotExist:
		return protocol.SubscriptionGroupNotExist
	case broker.NoPermission:
		return protocol.NoPermission
	case broker.MessageIllegal:
		return protocol.MessageIllegal
	case broker.InvalidParameter:
		return protocol.InvalidParameter
	case broker.SubscriptionInvalid:
		return protocol.SubscriptionParseFailed
	case broker.SubscriptionNotExist:
		return protocol.SubscriptionNotExist
	case broker.SubscriptionNotLatest:
		return protocol.SubscriptionNotLatest
	default: // Internal, Unsupported: RocketMQ answers SYSTEM_ERROR for what is switched off
		return protocol.SystemError
	}
}

// refusal makes the answer to a request that failed.
func refusal(err error) *protocol.Command {
	r := broker.AsRefusal(err)
	return &protocol.Command{Code: responseCode(r.Reason), Remark: r.Text}
}
