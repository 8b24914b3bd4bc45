package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
)

// devReplicas is replicas of a development cluster that run in this process.
type devReplicas struct {
	set *groupSet
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
	r := &devReplicas{set: newGroupSet(fmt.Sprintf("node%v", nodes), logger)}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var starting sync.WaitGroup
	for _, j := range nodes {
		for i := range o.groups {
			starting.Go(func() {
				if err := r.start(ctx, o, j, i, logger); err != nil {
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

func (r *devReplicas) start(ctx context.Context, o devOptions, node, i int, logger *slog.Logger) error {
	c, err := o.brokerConfig(node, i)
	if err != nil {
		return err
	}
	if o.nodes > 1 {
		logger = logger.With("node", node)
	}
	_, err = r.set.start(ctx, c, logger)
	if err != nil && o.nodes > 1 {
		err = fmt.Errorf("node %d, %s: %w", node, c.BrokerName, err)
	}
	return portHint(err, "--broker-port", c.ListenPort)
}

func (r *devReplicas) describe(*lineWriter, map[string]string) {}

// stop ends the replicas without handing the lead over: nobody is to take it, the whole cluster stops.
func (r *devReplicas) stop() error {
	r.set.closeAll()
	return nil
}
