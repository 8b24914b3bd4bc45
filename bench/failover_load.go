package bench

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"rmq/compat/admin"
	"rmq/remoting/protocol"
)

const (
	failoverSenders = 64 // callers of the load, each with one request at a time
	failoverBody    = 1024
	failoverQueues  = 8
	failoverTimeout = 3 * time.Second
)

// send sends one message to a replica, which passes it on to the leader, and returns nil once it is acknowledged.
func (g *replicas) send(ctx context.Context, address string, body []byte) error {
	if body == nil {
		body = make([]byte, failoverBody)
	}
	cmd := protocol.NewRequest(protocol.SendMessageV2, &protocol.SendMessageRequestHeaderV2{
		ProducerGroup: "rmq-bench-failover", Topic: failoverTopic, DefaultTopic: admin.AutoCreateTopic, DefaultTopicQueueNums: failoverQueues,
		QueueID: int32(time.Now().UnixNano() % failoverQueues), BornTimestamp: time.Now().UnixMilli(),
	})
	cmd.Body = body
	ctx, cancel := context.WithTimeout(ctx, failoverTimeout)
	defer cancel()
	resp, err := g.client.Client().Call(ctx, address, cmd)
	if err == nil && resp.Code != protocol.Success {
		err = &admin.ReplyError{Code: resp.Code, Remark: resp.Remark}
	}
	return err
}

// groupLoad is messages that go to the group's leader, whoever that is, until it is stopped.
type groupLoad struct {
	acked  atomic.Int64
	cancel context.CancelFunc
	busy   sync.WaitGroup
}

// startLoad starts it; rate is in messages per second, 0 is without pause.
func (g *replicas) startLoad(rate float64) *groupLoad {
	ctx, cancel := context.WithCancel(context.Background())
	l := &groupLoad{cancel: cancel}
	var leader atomic.Pointer[string]
	find := func() {
		if address, err := g.client.Leader(ctx); err == nil {
			leader.Store(&address)
		}
	}
	find()
	l.busy.Go(func() {
		for pause(ctx, 20*time.Millisecond) == nil {
			find()
		}
	})
	began := time.Now()
	var sent atomic.Int64
	body := make([]byte, failoverBody)
	for range failoverSenders {
		l.busy.Go(func() {
			for ctx.Err() == nil {
				if n := sent.Add(1); rate > 0 {
					due := began.Add(time.Duration(float64(n) / rate * float64(time.Second)))
					if late := time.Since(due); late > time.Second {
						// After an outage the load goes on at its rate; it does not catch up.
						sent.Add(int64(rate * late.Seconds()))
					} else if pause(ctx, -late) != nil {
						return
					}
				}
				to := leader.Load()
				if to == nil || g.send(ctx, *to, body) != nil {
					_ = pause(ctx, 5*time.Millisecond)
					continue
				}
				l.acked.Add(1)
			}
		})
	}
	return l
}

// stop ends the load and waits for it.
func (l *groupLoad) stop() {
	l.cancel()
	l.busy.Wait()
}
