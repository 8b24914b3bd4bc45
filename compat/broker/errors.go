package broker

import (
	"errors"
	"fmt"

	"rmq/raftlog"
)

// Reason classifies why the broker refused a request. The words of the wire (response codes) are chosen by package
// compat, in one table; nothing in this package knows them.
type Reason uint8

// The reasons, each with the situation that gives it.
const (
	// Internal: a fault of the broker itself; the text says which.
	Internal Reason = iota
	// Busy: a bounded queue is full. Nothing was stored; the same request may succeed later.
	Busy
	// NotAvailable: this replica cannot take writes now, or the outcome of a write is unknown.
	NotAvailable
	// NotLeader: another replica leads. Nothing was stored.
	NotLeader
	// TopicNotExist: the topic is unknown and must not be created by this request.
	TopicNotExist
	// GroupNotExist: the consumer group is unknown and automatic creation is off.
	GroupNotExist
	// NoPermission: broker, topic or group permission forbids the operation.
	NoPermission
	// MessageIllegal: the message breaks a size or content limit.
	MessageIllegal
	// InvalidParameter: a field holds a value outside its range.
	InvalidParameter
	// SubscriptionInvalid: the subscription expression does not parse.
	SubscriptionInvalid
	// SubscriptionNotExist: no heartbeat of the group has registered this subscription here.
	SubscriptionNotExist
	// SubscriptionNotLatest: the request speaks of a newer subscription than the last heartbeat did.
	SubscriptionNotLatest
	// Unsupported: the feature is not offered by this broker or is switched off.
	Unsupported
	// NotEnoughReplicas: fewer data replicas are in sync than the group's settings ask for. Nothing was stored.
	NotEnoughReplicas
)

// Refusal is an error meant for the client: why, and in words that say what to do.
type Refusal struct {
	Reason Reason
	Text   string
	// Forbidden details a NoPermission on the pull path (0 when it does not apply); see PullResult.Forbidden.
	Forbidden int32
}

func (r *Refusal) Error() string { return r.Text }

func refuse(reason Reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Text: fmt.Sprintf(format, args...)}
}

// AsRefusal turns any error of this package or of the log into a Refusal. It never returns nil for a non-nil error.
func AsRefusal(err error) *Refusal {
	var r *Refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &r):
		return r
	case errors.Is(err, raftlog.ErrBusy):
		return refuse(Busy, "[OVERLOAD]system busy, start flow control for a while: %v", err)
	case errors.Is(err, raftlog.ErrNotLeader):
		return refuse(NotLeader, "this replica does not lead its group, nothing was stored: %v", err)
	case errors.Is(err, raftlog.ErrUncertain):
		return refuse(NotAvailable, "leadership was lost while the request was in flight, it may or may not be stored: %v", err)
	case errors.Is(err, raftlog.ErrTooLarge):
		return refuse(MessageIllegal, "the message is illegal: %v", err)
	case errors.Is(err, raftlog.ErrClosed):
		return refuse(NotAvailable, "the broker is stopping: %v", err)
	default:
		return refuse(Internal, "%v", err)
	}
}
