package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// workload is a topic with one producer and its consumers, all of one client.
type workload struct {
	name         string
	threads      int // that send
	keys         int // one sequence of numbers each
	pauseMs      int // after each message of a thread
	queues       int // of the topic, in each group
	orderly      bool
	refuse       bool // every delivery is sent back, until the message is dead
	maxReconsume int
	workMs       int // of a listener
	retries      int // that the Go client may make; 0: as it is delivered
}

const (
	sendTimeoutMs  = 3_000 // what clients are delivered with,
	sendRetries    = 2     // likewise
	maxReconsume   = 16    // likewise
	orderlyMembers = 2
	drainLimit     = 3 * time.Minute
	recoverLimit   = 75 * time.Second // Go asks for routes every 30 s, and its pull that was under way takes 33 s to fail
)

// load is a workload that runs.
type load struct {
	workload
	record
	agent     *agent
	cluster   *cluster
	topic     string
	group     string
	producer  string   // its id
	consumers []string // ids of those that run
}

// id names the parts of a load, unlike those of any other.
func startLoad(ctx context.Context, c *cluster, a *agent, w workload, scenario string) (*load, error) {
	l := &load{workload: w, agent: a, cluster: c}
	base := strings.ReplaceAll(scenario+"-"+a.client+"-"+w.name, ".", "_") // a topic's name has no dots
	l.topic, l.group, l.producer = base, "group-"+base, base+"-producer"
	if err := c.createTopic(ctx, l.topic, w.queues); err != nil {
		return nil, err
	}
	// Otherwise a first member of the group makes the broker create it, and finds no route of it for one poll.
	if err := c.createTopic(ctx, "%RETRY%"+l.group, 1); err != nil {
		return nil, err
	}
	a.listen(l.producer, &l.record)
	if w.refuse {
		// So that its reader can start before the first message is dead; a Java client whose first look at its group comes too early asks again after 20 s.
		if err := c.createTopic(ctx, "%DLQ%"+l.group, 1); err != nil {
			return nil, err
		}
		if err := l.consume(ctx, l.topic+deadLetters, "%DLQ%"+l.group, "dead-"+l.topic); err != nil {
			return nil, err
		}
	}
	for i := range l.members() {
		if err := l.consume(ctx, fmt.Sprintf("%s-%d", base, i), l.topic, l.group); err != nil {
			return nil, err
		}
	}
	retries := sendRetries
	if a.client == goClient && w.retries > 0 {
		retries = w.retries
	}
	err := a.order(ctx, "produce", l.producer, fmt.Sprintf("namesrv=%s topic=%s threads=%d keys=%d repeat=%v pauseMs=%d retries=%d timeoutMs=%d pollMs=%d",
		c.namesrvAddr, l.topic, w.threads, w.keys, w.orderly, w.pauseMs, retries, sendTimeoutMs, a.pollMs))
	return l, err
}

// members is how many consumers the load has. A Go client never gives up the lock of a queue, so that the second member of an ordered group
// waits for the lock to expire, with any broker.
func (l *load) members() int {
	if l.orderly && l.agent.client != goClient {
		return orderlyMembers
	}
	return 1
}

func (l *load) consume(ctx context.Context, id, topic, group string) error {
	l.agent.listen(id, &l.record)
	refuse, most := false, maxReconsume
	if l.refuse && topic == l.topic {
		refuse, most = true, l.maxReconsume
	}
	err := l.agent.order(ctx, "consume", id, fmt.Sprintf("namesrv=%s topic=%s group=%s orderly=%v refuse=%v maxReconsume=%d workMs=%d pollMs=%d",
		l.cluster.namesrvAddr, topic, group, l.orderly, refuse, most, l.workMs, l.agent.pollMs))
	if err == nil {
		l.consumers = append(l.consumers, id)
	}
	return err
}

// awaitSteady waits until messages flow from the producer to every consumer. Members of an ordered group may take 20 s to share its queues.
func (l *load) awaitSteady(ctx context.Context) error {
	const some = 10
	want := min(l.members(), l.queues)
	return await(ctx, l.topic+": the first messages", recoverLimit, func() bool { return l.acked(0) >= some && l.received() >= some && l.active() >= want })
}

// awaitAcks waits until messages that were sent after from are acknowledged.
func (l *load) awaitAcks(ctx context.Context, from time.Time) error {
	const some = 20
	return await(ctx, l.topic+": sends acknowledged after the fault", recoverLimit, func() bool { return l.acked(from.UnixMicro()) >= some })
}

// drain stops the producer, waits until everything acknowledged has been received, and stops the consumers.
// With async, what is missing may be lost. What is not received in time is for judge to report.
func (l *load) drain(ctx context.Context, async bool) error {
	if err := l.agent.order(ctx, "stop", l.producer, ""); err != nil {
		return err
	}
	// A consumer that works slowly gets its time; the wait ends when nothing comes any more.
	silence := recoverLimit
	if async {
		silence = 5 * time.Second
	}
	count, since := 0, time.Now()
	late := await(ctx, "", drainLimit, func() bool {
		if n := l.received(); n != count {
			count, since = n, time.Now()
		}
		return len(l.missing(false)) == 0 || time.Since(since) > silence
	})
	if l.refuse && late == nil {
		await(ctx, "", recoverLimit, func() bool { return len(l.missing(true)) == 0 })
	}
	const settle = 300 * time.Millisecond // for what must not come
	<-time.After(settle)
	var errs []error
	for _, id := range l.consumers {
		errs = append(errs, l.agent.order(ctx, "stop", id, ""))
	}
	return errors.Join(append(errs, ctx.Err())...)
}

// await looks every few milliseconds until cond holds.
func await(ctx context.Context, what string, limit time.Duration, cond func() bool) error {
	deadline := time.Now().Add(limit)
	for !cond() {
		if time.Now().After(deadline) {
			return fmt.Errorf("waited %v for %s", limit, what)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(lookEach):
		}
	}
	return nil
}
