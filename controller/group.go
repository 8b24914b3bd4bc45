// Package controller runs the life of a broker group's replica: it founds or rejoins the group, follows who leads, and
// keeps the leader's duties running exactly as long as this replica leads. It is never on a message's path.
package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
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
	Recovery() raftlog.Recovery
	LossSettled() error
	Leadership() <-chan bool
	Barrier(ctx context.Context) error
	Configuration() (raft.Configuration, error)
	ConfigurationIndex() uint64
	Status() raftlog.Status

	AddNonvoter(ctx context.Context, id, addr string) error
	AddVoter(ctx context.Context, id, addr string) error
	DemoteVoter(ctx context.Context, id string) error
	RemoveServer(ctx context.Context, id string) error
	TransferLeadershipTo(ctx context.Context, id, addr string) error

	EntryEnd(index uint64) (int64, bool)
	ReadAt(p []byte, off int64) (int, error)
	Snapshot() error
	Lease() (release func())
	FillPoint(applied int64) (raftlog.FillPoint, error)
}

// Net is the Raft port of this replica. *raftlog.PeerNet is one.
type Net interface {
	Caller
	Transport() raft.Transport
	Progress(addr string) (raftlog.PeerProgress, bool)
	Probe(ctx context.Context, addr string) (serverID string, err error)
	SetMuted(muted bool)
	Muted() bool
	SetServerID(id string) error
}

// Options configures a Group.
type Options struct {
	Name    string // brokerName
	Cluster string // brokerClusterName
	Replica int    // replica number: from brokerId, never changes; -1 before Admit: the leader allocates it
	Address string // of the Raft port; any non-empty word for a group of one voter
	// Net is the Raft port. Without it the group is this one voter for ever.
	Net        Net
	Calls      *Switchboard // answers at Net; nil if nobody asks
	ClientAddr string       // where this replica answers clients
	Log        Log
	State      raftlog.StateMachine

	// For Admit, and while the leader is looked for:

	Founding  Founding
	Peers     []Peer // the other listed members
	Refilling bool   // the directory holds a log that the leader's no longer continues: see Refill
	Find      func(ctx context.Context) ([]string, error)
	Grant     func(ctx context.Context, r GrantRequest) error // nil: nobody objects
	Sink      Sink                                            // nil: this replica cannot be filled

	// For Start:

	Servers  []raft.Server // of Admission
	Listed   bool          // the members were listed by hand: two voters are kept without an arbiter
	Async    bool          // asyncLearner: this replica never votes
	Priority int           // brokerElectionPriority: less is preferred, 0 is no wish
	Replicas *Replicas     // told who counts while this replica leads; nil: nobody wants to know
	Arbiters ArbiterSource // nil: no arbiter
	// Export pins the newest checkpoint of State for a replica that is to be filled; nil: none can be.
	Export             func() (Export, error)
	FillBytesPerSecond int64 // 0: no bound
	Node               *Node // nil: leaders are not spread
	// Prefer and Balance switch on the moves of the lead to the replica with the highest priority, and to the node that leads fewest
	// groups; nil is on.
	Prefer, Balance func() bool
	// Refill is told once that the leader no longer has what this replica needs. The replica is to be closed and started again, with
	// Refilling set. It must not block.
	Refill func()
	// Removals remembers who was removed from the group; nil: nobody does, and who was removed may join again when started anew.
	Removals Removals
	// Removed is told once that this replica is out of the group: it was removed or replaced, and why is a *raftlog.Fault. It takes
	// no part in elections any more and is to be closed. Removed must not block.
	Removed func(why error)
	Pace    Pace
	Timings raftlog.Timings // Raft's

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

func (o *Options) complete() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Led == nil {
		o.Led = func(bool) {}
	}
	if o.LeaderChanged == nil {
		o.LeaderChanged = func() {}
	}
	if o.Refill == nil {
		o.Refill = func() {}
	}
	if o.Removed == nil {
		o.Removed = func(error) {}
	}
	if o.Replicas == nil {
		o.Replicas = NewReplicas(func() uint64 { return o.Log.Status().LastIndex })
	}
	o.Pace.complete()
}

// Group is one replica of a group, running.
type Group struct {
	o      Options
	self   Hello         // of the start
	asking chan struct{} // holds a token while the leader is asked where it is
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}

	fills    *fills
	team     atomic.Pointer[team] // while this replica leads
	settled  atomic.Bool          // it has its vote back because nobody else could lead
	refilled atomic.Bool          // Refill has been told

	mu      sync.Mutex
	leading bool
	changed chan struct{} // closed and replaced when leading changes
	leader  string        // server id of the leader that is known
	addr    string        // where that one answers clients, once asked
	guided  bool          // these two come from the leader itself: Raft tells this replica nothing any more
}

// Start founds the group if the directory is new and Servers says with whom, and joins it. It returns as soon as Raft runs; WaitLeading
// and WaitLeader tell who leads. A directory that may be new has been through Admit, or Start does that: it cannot fill it then.
func Start(ctx context.Context, o Options) (*Group, error) {
	o.complete()
	known, err := o.Log.HasState()
	if err != nil {
		return nil, fmt.Errorf("group %s: %w", o.Name, err)
	}
	if !known && o.Servers == nil && o.Founding == Listed {
		a, err := Admit(ctx, o)
		if err != nil {
			return nil, fmt.Errorf("group %s: founding it: %w", o.Name, err)
		}
		o.Servers = a.Servers
	}
	g := &Group{o: o, self: Self(o), asking: make(chan struct{}, 1), done: make(chan struct{}), changed: make(chan struct{})}
	id := g.self.ServerID()
	if !known && o.Servers != nil {
		o.Logger.Info("founding the group", "group", o.Name, "replica", id, "members", o.Servers)
		if err := o.Log.Bootstrap(o.Servers); err != nil {
			return nil, fmt.Errorf("group %s: founding it: %w", o.Name, err)
		}
	}
	g.fills = newFills(o.Log, o.Export, o.FillBytesPerSecond)
	m := raftlog.Member{ServerID: string(id), Address: o.Address, Timings: o.Timings}
	muted := g.muted()
	if o.Net != nil {
		if err := o.Net.SetServerID(string(id)); err != nil { // it has listened before its number was known
			return nil, fmt.Errorf("group %s: %w", o.Name, err)
		}
		o.Net.SetMuted(muted)
		m.Transport = o.Net.Transport()
	}
	if muted {
		o.Logger.Warn("the machine has stopped before the last bytes reached the disk: this replica does not vote until it has caught up", "group", o.Name)
	}
	if err := o.Log.Start(o.State, m); err != nil {
		return nil, fmt.Errorf("group %s: %w", o.Name, err)
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	o.Calls.connect(g.answer)
	go g.run(g.ctx, muted)
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
		g.o.Node.note(g.o.Name, leading)
		g.o.Led(leading)
	}
}

// run keeps one term's duties going at a time.
func (g *Group) run(ctx context.Context, muted bool) {
	defer close(g.done)
	var term, watch sync.WaitGroup
	watch.Go(func() { g.watchLeader(ctx) })
	if g.o.Net != nil {
		watch.Go(func() { g.petition(ctx) })
	}
	if muted {
		watch.Go(func() { g.settle(ctx) })
	}
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
			err = g.duties(ctx)
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

// duties runs what a leader does, until ctx ends or the duties of the group's owner do.
func (g *Group) duties(ctx context.Context) error {
	if g.o.Net == nil {
		g.setLeading(true)
		return g.o.Lead(ctx)
	}
	t := newTeam(g, g.o.Log.Status().Term)
	g.team.Store(t)
	g.setLeading(true)
	ctx, cancel := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	tasks.Go(func() { t.run(ctx) })
	err := g.o.Lead(ctx)
	cancel()
	g.team.Store(nil)
	tasks.Wait()
	g.o.Replicas.follow()
	return err
}
