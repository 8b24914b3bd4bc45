package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"rmq/controller"
	"rmq/raftlog"
	"rmq/remoting"
)

// groupSet is the groups of a process, each with one replica. Groups start all at once: one may have to wait for a replica in
// another process that starts its groups in another order.
type groupSet struct {
	client *remoting.Client // for the name servers
	node   *controller.Node
	logger *slog.Logger
	fatal  func(code int, id string, err error)
	// emptied is told when the last replica is out of its group; nil: nobody wants to know.
	emptied func(why error)

	running context.Context // ends with close
	stop    context.CancelFunc
	refills sync.WaitGroup

	mu     sync.Mutex
	groups map[*BrokerConfig]*group
}

// newGroupSet returns an empty set. node names the process and must differ from that of any other in the cluster.
func newGroupSet(node string, logger *slog.Logger) *groupSet {
	s := &groupSet{
		client: remoting.NewClient(remoting.ClientOptions{Logger: logger}), node: controller.NewNode(node), logger: logger,
		fatal: exitOnFault(logger), groups: make(map[*BrokerConfig]*group),
	}
	s.running, s.stop = context.WithCancel(context.Background())
	return s
}

// start starts one replica and adds it. Several may be started at a time.
func (s *groupSet) start(ctx context.Context, c *BrokerConfig, logger *slog.Logger) (*group, error) {
	g, err := startGroup(ctx, s.options(c, logger, false))
	if err == nil {
		s.put(c, g)
	}
	return g, err
}

func (s *groupSet) options(c *BrokerConfig, logger *slog.Logger, refilling bool) groupOptions {
	return groupOptions{config: c, client: s.client, node: s.node, logger: logger, fatal: s.fatal, refill: s.refill, refilling: refilling, removed: s.removed}
}

func (s *groupSet) put(c *BrokerConfig, g *group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.groups[c] = g
	switch {
	case g.out != nil:
		s.drop(g)
	case g.stale:
		s.renew(g)
	}
}

func (s *groupSet) list() []*group {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*group
	for _, g := range s.groups {
		all = append(all, g)
	}
	return all
}

// refillPause is how long a replica waits after an attempt to be filled that failed.
const refillPause = time.Second

// refill closes a replica that is too far behind its leader's log and starts it again by way of a fill. One that is only
// starting is let finish that first: a replica that was away for long hears it within moments.
func (s *groupSet) refill(g *group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g.stale = true
	if s.groups[g.config] == g && g.out == nil {
		s.renew(g)
	}
}

// renew does that; s.mu is held.
func (s *groupSet) renew(g *group) {
	if s.running.Err() != nil {
		return // everything is being closed
	}
	s.refills.Go(func() {
		s.logger.Warn("the leader no longer has what this replica lacks: it is filled anew", "group", g.config.BrokerName)
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		g.close(ctx)
		cancel()
		for {
			next, err := startGroup(s.running, s.options(g.config, g.o.logger, true))
			if err == nil {
				s.put(g.config, next)
				return
			}
			var f *raftlog.Fault
			if errors.As(err, &f) {
				s.fatal(f.Code, f.ID, f.Err)
			}
			s.logger.Error("this replica cannot be filled yet", "group", g.config.BrokerName, "error", err)
			select {
			case <-s.running.Done():
				return
			case <-time.After(refillPause):
			}
		}
	})
}

// leave stops the groups one by one as far as clients are concerned: each hands its lead over first and passes requests on for a
// while.
func (s *groupSet) leave() {
	began := time.Now()
	s.logger.Info("Shutdown hook was invoked, 1")
	s.end(func(g *group) {
		g.leave()
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		g.close(ctx)
	})
	s.logger.Info(fmt.Sprintf("Shutdown hook over, consuming total time(ms): %d", time.Since(began).Milliseconds()))
}

// closeAll stops the groups without handing their leads over: nobody is to take them, the whole cluster stops.
func (s *groupSet) closeAll() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var all sync.WaitGroup
	for _, g := range s.list() {
		if g.leading() {
			all.Go(func() { g.flushOffsets(ctx) }) // while the others still take part in the decision
		}
	}
	all.Wait()
	s.end(func(g *group) { g.close(ctx) })
}

// end ends every group by stopOne, all at once, and what else the set has.
func (s *groupSet) end(stopOne func(*group)) {
	s.mu.Lock()
	s.stop()
	s.mu.Unlock()
	s.refills.Wait()
	var all sync.WaitGroup
	for _, g := range s.list() {
		all.Go(func() { stopOne(g) })
	}
	all.Wait()
	if err := s.client.Close(); err != nil {
		s.logger.Warn("closing the connections to name servers", "error", err)
	}
}
