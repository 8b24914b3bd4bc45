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
	default: // Internal, NotEnoughReplicas, Unsupported: RocketMQ answers SYSTEM_ERROR for what is switched off
		return protocol.SystemError
	}
}

// sendCode is the code of the answer to a send that was stored: clients show it as the result's status.
func sendCode(s broker.SendStatus) int32 {
	switch s {
	case broker.SendSlaveNotAvailable:
		return protocol.SlaveNotAvailable
	case broker.SendSlaveTimeout:
		return protocol.FlushSlaveTimeout
	default:
		return protocol.Success
	}
}

// refusal makes the answer to a request that failed.
func refusal(err error) *protocol.Command {
	r := broker.AsRefusal(err)
	return &protocol.Command{Code: responseCode(r.Reason), Remark: r.Text}
}
