package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"rmq/remoting"
	"rmq/remoting/fastjson"
	"rmq/remoting/protocol"
)

// Hold is a time in which a client took a queue for its own.
type Hold struct {
	Client   string
	From, To time.Time
	Renewed  int  // how often meanwhile
	Refused  bool // it ended because a renewal was refused
}

// Contend takes the lock of a queue in turns with others, as orderly consumers do: it locks the queue, renews the lock some
// times, gives it up, and begins again, until ctx ends.
func (c *Client) Contend(ctx context.Context, client, consumers, topic string, renewals int) (holds []Hold) {
	for ctx.Err() == nil {
		owned, err := c.lock(ctx, client, consumers, topic)
		if err != nil || !owned {
			pause(ctx, awaitPause)
			continue
		}
		h := Hold{Client: client, From: time.Now()}
		for h.Renewed < renewals && !h.Refused && ctx.Err() == nil {
			owned, err := c.lock(ctx, client, consumers, topic)
			switch {
			case err != nil: // a stock client keeps its lock until it is old
			case owned:
				h.Renewed++
			default:
				h.Refused = true
			}
			pause(ctx, awaitPause)
		}
		h.To = time.Now()
		holds = append(holds, h)
		giveUp, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
		for c.unlock(giveUp, client, consumers, topic) != nil && pause(giveUp, awaitPause) {
		}
		cancel()
		pause(ctx, awaitPause)
	}
	return holds
}

func (c *Client) lock(ctx context.Context, client, consumers, topic string) (bool, error) {
	resp, err := c.lockRequest(ctx, protocol.LockBatchMq, client, consumers, topic)
	if err != nil {
		return false, err
	}
	var body protocol.LockBatchResponseBody
	if err := fastjson.Unmarshal(resp.Body, &body); err != nil {
		return false, err
	}
	return len(body.LockOKMQSet) > 0, nil
}

func (c *Client) unlock(ctx context.Context, client, consumers, topic string) error {
	_, err := c.lockRequest(ctx, protocol.UnlockBatchMq, client, consumers, topic)
	return err
}

func (c *Client) lockRequest(ctx context.Context, code int32, client, consumers, topic string) (*protocol.Command, error) {
	leader, err := c.Leader(ctx)
	if err != nil {
		return nil, err
	}
	cmd := protocol.NewRequest(code, nil)
	cmd.Body, err = json.Marshal(protocol.LockBatchRequestBody{
		ConsumerGroup: consumers, ClientID: client, MQSet: []protocol.MessageQueue{{Topic: topic, BrokerName: c.group}},
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := c.Client().Call(ctx, leader, cmd)
	if err == nil && resp.Code != protocol.Success {
		err = fmt.Errorf("code %d: %s", resp.Code, resp.Remark)
	}
	if errors.Is(err, remoting.ErrNotSent) {
		pause(ctx, awaitPause) // nobody is there
	}
	return resp, err
}

// CheckHolds reports holds of different clients that overlap, and those that ended because a lock was taken away.
func CheckHolds(holds []Hold) (violations []string) {
	slices.SortFunc(holds, func(a, b Hold) int { return a.From.Compare(b.From) })
	for i, h := range holds {
		if h.Refused {
			violations = append(violations, fmt.Sprintf("%s held the lock from %s and was refused it at %s", h.Client, h.From.Format(clock), h.To.Format(clock)))
		}
		for _, o := range holds[i+1:] {
			if o.From.Before(h.To) && o.Client != h.Client {
				violations = append(violations, fmt.Sprintf("%s held the lock from %s to %s, and %s got it at %s", h.Client, h.From.Format(clock), h.To.Format(clock), o.Client, o.From.Format(clock)))
			}
		}
	}
	return violations
}
