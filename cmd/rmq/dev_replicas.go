package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
)

// devReplicas is nodes of a development cluster that run in this process.
type devReplicas struct {
	logs  string      // directory, "" for none
	nodes []*groupSet // each as if it were a process, so that leaders spread over them
}

// startDevReplicas starts all replicas of all nodes in this process.
func startDevReplicas(ctx context.Context, o devOptions, logger *slog.Logger) (*devReplicas, error) {
	var nodes []int
	for j := range o.nodes {
		nodes = append(nodes, j)
	}
	return startReplicasOf(ctx, o, nodes, logger)
}

// startReplicasOf starts the replicas of some nodes, all at once, for a group is founded when all its members are there.
func startReplicasOf(ctx context.Context, o devOptions, nodes []int, logger *slog.Logger) (*devReplicas, error) {
	r := &devReplicas{}
	if o.nodes > 1 {
		r.logs = o.logs()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var starting sync.WaitGroup
	for _, j := range nodes {
		nodeLogger := logger
		if o.nodes > 1 {
			nodeLogger = logger.With("node", j)
		}
		set := newGroupSet(fmt.Sprintf("node%d", j), nodeLogger)
		r.nodes = append(r.nodes, set)
		for i := range o.groups {
			starting.Go(func() {
				if err := startDevReplica(ctx, o, j, i, set, nodeLogger); err != nil {
					cancel(err) // the first one is the reason why the others fail
				}
			})
		}
	}
	starting.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, errors.Join(err, r.stop())
	}
	return r, nil
}

func startDevReplica(ctx context.Context, o devOptions, node, i int, set *groupSet, logger *slog.Logger) error {
	c, err := o.brokerConfig(node, i)
	if err != nil {
		return err
	}
	_, err = set.start(ctx, c, logger)
	if err != nil && o.nodes > 1 {
		err = fmt.Errorf("node %d, %s: %w", node, c.BrokerName, err)
	}
	return portHint(err, "--broker-port", c.ListenPort)
}

// describe prints where the logs are.
func (r *devReplicas) describe(out *lineWriter, _ map[string]string) {
	if r.logs != "" {
		out.printf("  logs          %s", r.logs)
	}
}

// stop ends the replicas without handing the lead over: nobody is to take it, the whole cluster stops.
func (r *devReplicas) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var all sync.WaitGroup
	for _, set := range r.nodes {
		for _, g := range set.list() {
			if g.leading() {
				all.Go(func() { g.flushOffsets(ctx) }) // while the others still take part in the decision
			}
		}
	}
	all.Wait()
	for _, set := range r.nodes {
		all.Go(set.closeAll)
	}
	all.Wait()
	return nil
}

// leave ends the replicas of a single node; the other nodes take over first.
func (r *devReplicas) leave() {
	var all sync.WaitGroup
	for _, set := range r.nodes {
		all.Go(set.leave)
	}
	all.Wait()
}
