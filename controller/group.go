// Package controller runs the life of a broker group's replica: it founds or rejoins the group, follows who leads, and
// keeps the leader's duties running exactly as long as this replica leads. It is never on a message's path.
package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"rmq/raftlog"
)

// Log is what a group's life needs of its log. *raftlog.Log is one.
type Log interface {
	HasState() (bool, error)
	Bootstrap(servers []raft.Server) error
	Start(sm raftlog.StateMachine, m raftlog.Member) error
	Identity() raftlog.Identity
	Leadership() <-chan bool
	Barrier(ctx context.Context) error
	Configuration() (raft.Configuration, error)
	Status() raftlog.Status
}

// Net is the Raft port of this replica. *raftlog.PeerNet is one.
type Net interface {
	Caller
	Transport() raft.Transport
}

// Options configures a Group.
type Options struct {
	Name    string // brokerName
	Replica int    // replica number: from brokerId, never changes
	Address string // of the Raft port; any non-empty word for a group of one voter
	// Peers are the other listed members; none means a group of one voter, which needs no Net.
	Peers      []Peer
	Net        Net
	ClientAddr string // where this replica answers clients
	Log        Log
	State      raftlog.StateMachine
	// TakeOver prepares this replica for leading: it is called when everything committed before this term is applied.
	// Only when it returns nil does the replica count as leading.
	TakeOver func(ctx context.Context) error
	// Lead then carries out the leader's duties; its ctx ends with the term, and it must return soon after. A return
	// before that is a failure.
	Lead func(ctx context.Context) error
	// Led is told whenever leadership comes (true, after the barrier) or goes (false).
	Led func(leads bool)
	// LeaderChanged is told whenever this replica learns of another leader, itself included.
	LeaderChanged func()
	Logger        *slog.Logger
}

// Group is one replica of a group, running.
type Group struct {
	o      Options
	self   Hello         // of the start
	asking chan struct{} // holds a token while the leader is asked where it is
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	leading bool
	changed chan struct{} // closed and replaced when leading changes
	leader  string        // server id of the leader that is known
	addr    string        // where that one answers clients, once asked
}

// Start founds the group if the directory is new, which takes every listed member, and joins it. It returns as soon as
// Raft runs; WaitLeading and WaitLeader tell who leads.
func Start(ctx context.Context, o Options) (*Group, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Led == nil {
		o.Led = func(bool) {}
	}
	if o.LeaderChanged == nil {
		o.LeaderChanged = func() {}
	}
	self := Self(o)
	id := self.ServerID()
	known, err := o.Log.HasState()
	if err != nil {
		return nil, fmt.Errorf("group %s: %w", o.Name, err)
	}
	if !known {
		servers, err := Found(ctx, self, o.Address, o.Peers, o.Net, o.Logger)
		if err != nil {
			return nil, fmt.Errorf("group %s: founding it: %w", o.Name, err)
		}
		o.Logger.Info("founding the group", "group", o.Name, "replica", id, "members", servers)
		if err := o.Log.Bootstrap(servers); err != nil {
			return nil, fmt.Errorf("group %s: founding it: %w", o.Name, err)
		}
	}
	m := raftlog.Member{ServerID: string(id), Address: o.Address}
	if o.Net != nil {
		m.Transport = o.Net.Transport()
	}
	if err := o.Log.Start(o.State, m); err != nil {
		return nil, fmt.Errorf("group %s: %w", o.Name, err)
	}
	runCtx, cancel := context.WithCancel(context.Background())
	g := &Group{o: o, self: self, asking: make(chan struct{}, 1), cancel: cancel, done: make(chan struct{}), changed: make(chan struct{})}
	go g.run(runCtx)
	return g, nil
}

// Close ends the leader's duties and waits for them. The log is its owner's to close, afterwards.
func (g *Group) Close() {
	g.cancel()
	<-g.done
}

// Leading reports whether this replica leads and has applied all that was committed before its term.
func (g *Group) Leading() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.leading
}

// WaitLeading returns nil once this replica leads.
func (g *Group) WaitLeading(ctx context.Context) error {
	for {
		g.mu.Lock()
		leading, changed := g.leading, g.changed
		g.mu.Unlock()
		if leading {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("group %s has no leader yet: %w", g.o.Name, context.Cause(ctx))
		case <-g.done:
			return errors.New("group " + g.o.Name + " is closed")
		case <-changed:
		}
	}
}

func (g *Group) setLeading(leading bool) {
	g.mu.Lock()
	was := g.leading
	if was != leading {
		g.leading = leading
		close(g.changed)
		g.changed = make(chan struct{})
	}
	g.mu.Unlock()
	if was != leading {
		g.o.Led(leading)
	}
}

// run keeps one term's duties going at a time.
func (g *Group) run(ctx context.Context) {
	defer close(g.done)
	var term, watch sync.WaitGroup
	watch.Go(func() { g.watchLeader(ctx) })
	defer watch.Wait()
	endTerm := context.CancelFunc(func() {})
	stop := func() {
		endTerm()
		term.Wait()
		g.setLeading(false)
	}
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return
		case leads := <-g.o.Log.Leadership():
			stop()
			if !leads {
				continue
			}
			termCtx, cancel := context.WithCancel(ctx)
			endTerm = cancel
			term.Go(func() { defer cancel(); g.lead(termCtx) })
		}
	}
}

// barrierRetry paces the attempts of a leader whose barrier or duties fail while it still leads.
const barrierRetry = 100 * time.Millisecond

// lead runs one term: barrier, then the duties, again if they fail, until ctx ends.
func (g *Group) lead(ctx context.Context) {
	for ctx.Err() == nil {
		err := g.o.Log.Barrier(ctx)
		if err == nil {
			err = g.o.TakeOver(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			g.setLeading(true)
			err = g.o.Lead(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		g.setLeading(false) // until it has taken over again
		g.o.Logger.Warn("the leader's duties failed, they start again", "group", g.o.Name, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(barrierRetry):
		}
	}
}
