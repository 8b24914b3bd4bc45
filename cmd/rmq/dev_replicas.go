package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"rmq/remoting"
)

// devReplicas is replicas of a development cluster that run in this process.
type devReplicas struct {
	client *remoting.Client
	groups []*group
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
	r := &devReplicas{client: remoting.NewClient(remoting.ClientOptions{Logger: logger})}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		starting sync.WaitGroup
		mu       sync.Mutex // of r.groups
	)
	for _, j := range nodes {
		for i := range o.groups {
			starting.Go(func() {
				g, err := startDevReplica(ctx, o, j, i, r.client, logger)
				if err != nil {
					cancel(err) // the first one is the reason why the others fail
					return
				}
				mu.Lock()
				defer mu.Unlock()
				r.groups = append(r.groups, g)
			})
		}
	}
	starting.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, errors.Join(err, r.stop())
	}
	return r, nil
}

func startDevReplica(ctx context.Context, o devOptions, node, i int, client *remoting.Client, logger *slog.Logger) (*group, error) {
	c, err := o.brokerConfig(node, i)
	if err != nil {
		return nil, err
	}
	if o.nodes > 1 {
		logger = logger.With("node", node)
	}
	g, err := startGroup(ctx, groupOptions{config: c, client: client, logger: logger, fatal: exitOnFault(logger)})
	if err != nil {
		if o.nodes > 1 {
			err = fmt.Errorf("node %d, %s: %w", node, c.BrokerName, err)
		}
		return nil, portHint(err, "--broker-port", c.ListenPort)
	}
	return g, nil
}

func (r *devReplicas) describe(*lineWriter, map[string]string) {}

// stop ends the replicas without handing the lead over: nobody is to take it, the whole cluster stops.
func (r *devReplicas) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var all sync.WaitGroup
	for _, g := range r.groups {
		if g.leading() {
			// While the others still take part in the decision.
			all.Go(func() {
				flush, cancel := context.WithTimeout(ctx, flushTimeout)
				defer cancel()
				if err := g.broker.FlushOffsets(flush); err != nil {
					g.logger.Warn("consumer offsets of the last moments are lost, those messages come again", "error", err)
				}
			})
		}
	}
	all.Wait()
	for _, g := range r.groups {
		all.Go(func() { g.close(ctx) })
	}
	all.Wait()
	return r.client.Close()
}
