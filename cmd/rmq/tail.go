package main

import (
	"bytes"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/spf13/pflag"

	"rmq/compat/admin"
	"rmq/remoting/protocol"
	"rmq/store/message"
)

const (
	// tailSuspend is how long a pull of rmq tail waits at the broker for a message.
	tailSuspend = 15 * time.Second
	// tailRetry paces pulls that fail, as stock consumers do.
	tailRetry = time.Second
	// tailGroup reads for rmq tail when it is given no group: a group that RocketMQ's tools own and that always exists.
	tailGroup = "TOOLS_CONSUMER"
	// Bits of a pull's sysFlag.
	pullCommits, pullSuspends, pullSubscribes = 1, 2, 4
)

// runTail is `rmq tail`.
func runTail(ctx context.Context, env environment, args []string) error {
	f := pflag.NewFlagSet("tail", pflag.ContinueOnError)
	n := nameServerFlag(f, env)
	topic := f.StringP("topic", "t", "", "topic (required)")
	group := f.StringP("group", "g", "", "consumer group whose progress to continue and to keep; without it nothing is kept")
	fromStart := f.Bool("from-start", false, "begin with the oldest message where the group has no progress, instead of with the next one")
	count := f.Int64("count", 0, "end after this many messages (0: go on until interrupted)")
	tag := f.String("tag", "*", "only messages with these tags: A || B")
	if asked, err := parseFlags(f, env, "rmq tail -n ADDR -t TOPIC [-g GROUP] [--from-start] [--count N]\nPrints the bodies, one a line.", args); asked || err != nil {
		return err
	}
	if *topic == "" || f.NArg() > 0 || *count < 0 {
		return &exitError{exitUsage, errors.New("give a topic with -t; --count must not be negative")}
	}
	servers, err := nameServers(*n, env)
	if err != nil {
		return err
	}
	cluster := admin.NewCluster(servers, clientTimeout)
	defer cluster.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t := &tailer{cluster: cluster, topic: *topic, group: *group, keep: *group != "", fromStart: *fromStart, tags: *tag, left: *count, out: env.stdout, errors: env.stderr, stop: cancel}
	if !t.keep {
		t.group = tailGroup
	}
	return t.run(ctx)
}

// tailer reads all queues of a topic at once.
type tailer struct {
	cluster     *admin.Cluster
	topic       string
	group       string
	keep        bool // the group's progress
	fromStart   bool
	tags        string
	out, errors io.Writer
	stop        func()

	mu   sync.Mutex // of what follows and of out
	left int64      // messages to print, 0 = no limit
	over bool
	err  error
}

// run reads until the count is reached or ctx ends, which is a success unless messages were still wanted.
func (t *tailer) run(ctx context.Context) error {
	queues, err := t.waitForTopic(ctx)
	if err != nil {
		return err
	}
	var readers sync.WaitGroup
	for _, q := range queues {
		readers.Go(func() { t.follow(ctx, q) })
	}
	readers.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.left > 0 && !t.over && t.err == nil {
		return fmt.Errorf("interrupted with %d messages still to come", t.left)
	}
	return t.err
}

func (t *tailer) waitForTopic(ctx context.Context) ([]admin.Queue, error) {
	deadline := time.Now().Add(leaderWait)
	for said := false; ; {
		pause := tailRetry / 4
		route, err := t.cluster.Route(ctx, t.topic)
		var reply *admin.ReplyError
		switch {
		case err == nil:
			if queues := admin.RouteQueues(route, admin.PermRead); len(queues) > 0 {
				return queues, nil
			}
			if time.Now().After(deadline) {
				return nil, fmt.Errorf("topic %s has no readable queue on a live master", t.topic)
			}
			pause = leaderPoll // its group elects a leader, which takes less
		case !errors.As(err, &reply) || reply.Code != protocol.TopicNotExist:
			return nil, fmt.Errorf("finding topic %s: %w", t.topic, err)
		case !said:
			fmt.Fprintf(t.errors, "topic %s does not exist yet: waiting for its first message\n", t.topic)
			said, t.fromStart = true, true // what is sent from now on is new to us
		}
		if !sleep(ctx, pause) {
			return nil, context.Cause(ctx)
		}
	}
}

// sleep waits and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// follow prints the messages of one queue until ctx ends.
func (t *tailer) follow(ctx context.Context, q admin.Queue) {
	offset := int64(-1)
	committed := int64(-1)
	for ctx.Err() == nil {
		var err error
		if offset < 0 {
			offset, err = t.start(ctx, q)
		}
		if err == nil {
			offset, committed, err = t.pull(ctx, q, offset, committed)
		}
		if err != nil && ctx.Err() == nil {
			fmt.Fprintf(t.errors, "broker %s queue %d: %v\n", q.Broker, q.ID, err)
			sleep(ctx, tailRetry)
		}
	}
	if t.keep && offset >= 0 && offset != committed {
		if err := t.commit(q, offset); err != nil {
			fmt.Fprintf(t.errors, "broker %s queue %d: the group's progress was not kept: %v\n", q.Broker, q.ID, err)
		}
	}
}

// start finds the first offset to read.
func (t *tailer) start(ctx context.Context, q admin.Queue) (int64, error) {
	if t.keep {
		resp, err := t.cluster.Call(ctx, q.Address, protocol.QueryConsumerOffset, &protocol.QueryConsumerOffsetRequestHeader{
			ConsumerGroup: t.group, Topic: t.topic, QueueID: q.ID, SetZeroIfNotFound: false,
		})
		var reply *admin.ReplyError
		if err == nil {
			var h protocol.QueryConsumerOffsetResponseHeader
			return h.Offset, h.Decode(resp.Ext)
		}
		if !errors.As(err, &reply) || reply.Code != protocol.QueryNotFound {
			return -1, err
		}
	}
	if t.fromStart {
		return t.cluster.MinOffset(ctx, t.topic, q)
	}
	end, _, err := t.cluster.MaxOffset(ctx, t.topic, q)
	return end, err
}

func (t *tailer) commit(q admin.Queue, offset int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	_, err := t.cluster.Call(ctx, q.Address, protocol.UpdateConsumerOffset, &protocol.UpdateConsumerOffsetRequestHeader{
		ConsumerGroup: t.group, Topic: t.topic, QueueID: q.ID, CommitOffset: offset,
	})
	return err
}

// pull asks once and prints what came. The progress made so far travels with the request.
func (t *tailer) pull(ctx context.Context, q admin.Queue, offset, committed int64) (next, nowCommitted int64, err error) {
	h := protocol.PullMessageRequestHeader{
		ConsumerGroup: t.group, Topic: t.topic, QueueID: q.ID, QueueOffset: offset, MaxMsgNums: 32, SysFlag: pullSuspends | pullSubscribes,
		SuspendTimeoutMillis: tailSuspend.Milliseconds(), Subscription: t.tags, ExpressionType: "TAG",
	}
	if t.keep {
		h.SysFlag |= pullCommits
		h.CommitOffset = offset
	}
	callCtx, cancel := context.WithTimeout(ctx, tailSuspend+clientTimeout)
	defer cancel()
	resp, err := t.cluster.Client().Call(callCtx, q.Address, protocol.NewRequest(protocol.PullMessage, &h))
	if err != nil {
		return offset, committed, err
	}
	var rh protocol.PullMessageResponseHeader
	if err := rh.Decode(resp.Ext); err != nil {
		return offset, committed, fmt.Errorf("code %d %s: %w", resp.Code, resp.Remark, err)
	}
	switch resp.Code {
	case protocol.Success, protocol.PullNotFound, protocol.PullRetryImmediately, protocol.PullOffsetMoved:
	default:
		return offset, committed, &admin.ReplyError{Code: resp.Code, Remark: resp.Remark}
	}
	if t.keep {
		committed = offset
	}
	if resp.Code == protocol.Success {
		next, err := t.print(resp.Body, offset)
		if err != nil || next < rh.NextBeginOffset && t.done() {
			return next, committed, err
		}
	}
	return rh.NextBeginOffset, committed, nil
}

func (t *tailer) done() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.over
}

// print writes bodies and returns the offset after the last one written.
func (t *tailer) print(messages []byte, offset int64) (int64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for rest := messages; len(rest) > 0 && !t.over; {
		v, err := message.ParseView(rest)
		if err != nil {
			return offset, fmt.Errorf("the broker sent a message that is none: %w", err)
		}
		rest = rest[v.Size():]
		body, err := plainBody(v)
		if err != nil {
			fmt.Fprintf(t.errors, "queue %d offset %d: %v\n", v.QueueID(), v.QueueOffset(), err)
			body = v.Body()
		}
		if _, err := fmt.Fprintf(t.out, "%s\n", body); err != nil {
			t.err, t.over = err, true // nobody reads on: a closed pipe
			t.stop()
			return offset, err
		}
		offset = v.QueueOffset() + 1
		if t.left > 0 {
			if t.left--; t.left == 0 {
				t.over = true
				t.stop()
			}
		}
	}
	return offset, nil
}

// plainBody is a message's body as its sender wrote it, decompressed if its client compressed it.
func plainBody(v message.View) ([]byte, error) {
	flag := v.SysFlag()
	if flag&message.SysFlagCompressed == 0 {
		return v.Body(), nil
	}
	var r io.Reader
	var err error
	switch (flag & message.SysFlagCompressMask) >> 8 {
	case 1:
		r = lz4.NewReader(bytes.NewReader(v.Body()))
	case 2:
		var z *zstd.Decoder
		if z, err = zstd.NewReader(bytes.NewReader(v.Body()), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20)); err == nil {
			defer z.Close()
			r = z
		}
	default:
		r, err = zlib.NewReader(bytes.NewReader(v.Body()))
	}
	if err != nil {
		return nil, fmt.Errorf("the body does not decompress: %w", err)
	}
	body, err := io.ReadAll(io.LimitReader(r, bodyBytesMax+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the body does not decompress: %w", err)
	case len(body) > bodyBytesMax:
		return nil, fmt.Errorf("the decompressed body is larger than %d bytes", bodyBytesMax)
	}
	return body, nil
}
