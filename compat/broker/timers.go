package broker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"rmq/raftlog"
	"rmq/store"
	"rmq/store/message"
)

const (
	// timerTick is how often the leader looks for due messages: a tenth of the second that users are promised.
	timerTick = 100 * time.Millisecond
	// One firing entry carries at most this much, so that a burst of due messages does not hold up sends.
	fireMessagesMax = 256
	fireBytesMax    = 256 << 10
)

// runTimers delivers parked messages whose time has come, until ctx ends.
func (b *Broker) runTimers(ctx context.Context) {
	every(ctx, b.clock, timerTick, func() {
		for more := true; more && ctx.Err() == nil; {
			due := func() []store.Timer { return b.store.DueTimers(b.clock.Now().UnixMilli(), fireMessagesMax) }
			var err error
			if more, err = b.refile(ctx, due, b.deliver); err != nil && ctx.Err() == nil {
				b.logger.Warn("delayed messages not delivered yet, will be tried again", "error", err)
			}
		}
	})
}

// errRefilingUncertain ends the leader's duties: the next ones begin behind a barrier, and so see what became of the entry.
var errRefilingUncertain = errors.New("broker: the outcome of moving parked messages is unknown")

// refile moves the parked messages that pick names, in one entry: each original leaves the pending set, and what copy
// makes of it is appended. copy reports false for a message that has no place to go to. It reports whether anything was
// moved. One refiling at a time picks, proposes and waits for the outcome, so no message is moved twice; when the outcome
// stays unknown, there is no other in this term, for the state machine takes a second move of a message for damage.
func (b *Broker) refile(ctx context.Context, pick func() []store.Timer, copy func(src message.View, buf *scratch) (message.Message, bool)) (bool, error) {
	b.refiling.Lock()
	defer b.refiling.Unlock()
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	timers := pick()
	if len(timers) == 0 {
		return false, nil
	}
	var removed []int64
	var messages []byte
	for _, t := range timers {
		if len(messages) > fireBytesMax {
			break
		}
		stored, err := b.store.MessageAt(t.Offset)
		switch {
		case errors.Is(err, store.ErrNotFound):
			b.logger.Error("a parked message is gone from the log and is dropped", "offset", t.Offset, "due", t.DeliverAt)
		case err != nil:
			return false, err
		default:
			var buf scratch
			if m, ok := copy(message.View(stored), &buf); ok {
				m.Properties = buf.properties
				if messages, err = m.AppendTo(messages); err != nil {
					return false, err
				}
			}
		}
		removed = append(removed, t.Offset)
	}
	_, err := b.append(ctx, append(store.FireTimers(removed), messages...))
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, raftlog.ErrBusy), errors.Is(err, raftlog.ErrNotLeader), errors.Is(err, raftlog.ErrClosed), errors.Is(err, raftlog.ErrTooLarge):
		return false, err // nothing was appended
	default:
		b.endDuties(fmt.Errorf("%w: %w", errRefilingUncertain, err))
		return false, err
	}
}

// deliver makes the copy that the target queue gets: the stored bytes without the marks of the wait.
func (b *Broker) deliver(src message.View, buf *scratch) (message.Message, bool) {
	m := src.Message()
	topic, _ := src.Properties().Get(message.PropertyRealTopic)
	queue, _ := src.Properties().Get(message.PropertyRealQueueID)
	id, err := strconv.ParseInt(queue, 10, 32)
	t, ok := b.store.Topic(topic)
	if err != nil || !ok {
		b.logger.Warn("a delayed message's topic is gone, the message is dropped", "topic", topic, "queue", queue, "offset", src.PhysicalOffset())
		return m, false
	}
	if limit := max(t.ReadQueues, t.WriteQueues); limit > 0 && int32(id) >= limit {
		id = int64(int32(id) % limit) // the topic has shrunk since
	}
	buf.properties = withoutProperties(buf.properties, src, func(name string) bool {
		switch name {
		case message.PropertyRealTopic, message.PropertyRealQueueID, message.PropertyDelay, message.PropertyTimerOutMS,
			message.PropertyTimerDeliverMS, message.PropertyTimerDelaySec, message.PropertyTimerDelayMS:
			return true
		}
		return false
	})
	m.Topic, m.QueueID, m.StoreHost = topic, int32(id), b.opts.Host
	return m, true
}

// keepParked makes an identical parked message at the log's end, for one whose bytes are about to be trimmed.
func (b *Broker) keepParked(src message.View, buf *scratch) (message.Message, bool) {
	buf.properties = append(buf.properties, src.Properties()...)
	return src.Message(), true
}

func withoutProperties(dst []byte, src message.View, drop func(name string) bool) []byte {
	src.Properties().Walk(func(name, value []byte) bool {
		if !drop(string(name)) {
			dst = message.AppendProperty(dst, string(name), string(value))
		}
		return true
	})
	return dst
}
