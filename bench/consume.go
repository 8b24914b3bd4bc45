package bench

import (
	"context"
	"io"
	"time"

	"rmq/compat/admin"
	"rmq/remoting/protocol"
)

// ConsumeCommand is "rmq bench consume": flags in args, the result on stdout, progress and complaints on stderr. It
// returns the process's exit code, see [Command].
func ConsumeCommand(args []string, stdout, stderr io.Writer) int {
	var o consumeOptions
	flags := newFlagSet("consume", "Pulls messages from a topic as a push consumer does and measures. The latency of a message is the time from\n"+
		"when it was meant to be sent to when it arrived here; only messages of \"rmq bench produce\" sent during this run have one.", stderr)
	o.register(flags)
	if code, ok := parseFlags(flags, args, o.validate, stdout, stderr); !ok {
		return code
	}
	return o.run(stdout, stderr, func(ctx context.Context, progress io.Writer) (*Result, error) {
		return consume(ctx, o, hooks{}, progress)
	})
}

// consume carries out one run. An error means that there is nothing to report.
func consume(ctx context.Context, o consumeOptions, h hooks, progress io.Writer) (*Result, error) {
	cl := admin.NewCluster(o.addresses(), o.timeout)
	defer cl.Close()
	queues, err := cl.EnsureTopic(ctx, o.topic, o.queues, protocol.PermRead)
	if err != nil {
		return nil, err
	}
	r := newRecorder(o.connections)
	started := time.Now()
	c := newConsumer(o, queues, r, started)
	defer c.close()
	version, err := c.seek(ctx, cl)
	if err != nil {
		return nil, err
	}
	if err := c.heartbeat(ctx); err != nil {
		return nil, err
	}
	collected, usage := measure(ctx, c, r, o.common, c.enough, h, progress)
	result := &Result{
		Kind: kindConsume, Workload: o.workload(), StartedAt: started.UTC(), Client: usage,
		Target: Target{
			NameServers: o.addresses(), Topic: o.topic, Group: o.group,
			Queues: len(queues), Brokers: brokerNames(queues), BrokerVersion: version,
		},
	}
	result.fill(collected, false)
	result.Totals.Gaps, result.Totals.Repeats = c.gaps.Load(), c.repeats.Load()
	return result, nil
}
