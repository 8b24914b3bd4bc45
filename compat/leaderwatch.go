package compat

import (
	"context"
	"errors"
	"sync"
	"time"
)

// LeaderView is who leads as far as this replica knows, at one moment.
type LeaderView struct {
	Known bool   // somebody leads, maybe this replica
	Term  uint64 // Raft's
}

const (
	// watchPoll is how often a replica looks whether somebody leads.
	watchPoll = 20 * time.Millisecond
	// cutOffGrace is how long a replica that had to give up the lead, and that nobody has succeeded, lets changes wait. It
	// carries none out from the end of its lease on; but a machine that only stood still for a moment leads again within this
	// time, or another one does, and none of its clients has to know.
	cutOffGrace = time.Second
	// lostGrace is how long a leader that is not heard of any more may still answer what it was asked to change.
	lostGrace = 300 * time.Millisecond
	// actingAfter without a leader a replica may stand in for reads, and changes have nobody to wait for.
	actingAfter = 10 * time.Second
)

// leaderWatch remembers whether the group has a leader, and since when it has none.
type leaderWatch struct {
	mu      sync.Mutex
	view    LeaderView
	since   time.Time          // of the last change of view.Known
	lostAt  time.Time          // when a leader was last lost
	led     bool               // the last leader was this replica,
	ledTerm uint64             // in this term
	changed chan struct{}      // closed and replaced when view.Known changes
	reign   context.Context    // ends when the leader that is known now is lost
	end     context.CancelFunc // of reign
}

func newLeaderWatch(now time.Time) leaderWatch {
	return leaderWatch{since: now, changed: make(chan struct{}), end: func() {}}
}

// look takes a new view, of a replica that leads or does not; ctx is the parent of a reign.
func (w *leaderWatch) look(ctx context.Context, view LeaderView, leading bool, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.view.Known
	w.view = view
	switch {
	case leading:
		w.led, w.ledTerm = true, view.Term
	case w.led && view.Known && view.Term != w.ledTerm: // a term has one leader, though this one may not be ready, or no more
		w.led = false
	}
	if was == view.Known {
		return
	}
	w.since = now
	if was {
		w.lostAt = now
		w.end()
	} else {
		w.reign, w.end = context.WithCancel(ctx)
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

// leaderless reports whether nobody has led for d.
func (w *leaderWatch) leaderless(now time.Time, d time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.view.Known && now.Sub(w.since) >= d
}

// hopeless reports whether a change has nothing to wait for: the group has been without a leader for long, or this replica
// was its leader until the lease ran out and nobody has called for an election since, so it is cut off from the others.
func (w *leaderWatch) hopeless(now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.view.Known {
		return false
	}
	gone := now.Sub(w.since)
	return gone >= actingAfter || w.led && w.view.Term == w.ledTerm && gone >= cutOffGrace
}

// lost is when a leader was last lost; zero if none was.
func (w *leaderWatch) lost() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lostAt
}

var errHopeless = errors.New("this replica reaches no majority of its group")

// await returns once somebody leads, with a context that ends when that is over. It gives up when ctx ends and, for a change, when there is nothing to wait for.
func (w *leaderWatch) await(ctx context.Context, u use) (context.Context, error) {
	for {
		w.mu.Lock()
		known, changed, reign := w.view.Known, w.changed, w.reign
		w.mu.Unlock()
		if known {
			return reign, nil
		}
		var look <-chan time.Time
		if u != query {
			if w.hopeless(time.Now()) {
				return nil, errHopeless
			}
			look = time.After(cutOffGrace / 10)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-changed:
		case <-look:
		}
	}
}

// watchLeader runs until ctx ends. It notices when the leader is lost, for the requests that wait for its answer, and when
// this replica may stand in for it.
func (p *Processors) watchLeader(ctx context.Context) {
	tick := time.NewTicker(watchPoll)
	defer tick.Stop()
	for {
		now := time.Now()
		leading := p.Leadership.Leading()
		p.leader.look(ctx, p.LeaderView(), leading, now)
		if lost := p.leader.lost(); now.Sub(lost) < lostGrace+time.Second {
			p.abandon(lost, now.Sub(lost) >= lostGrace)
		}
		p.setActing(!leading && p.leader.leaderless(now, actingAfter) && p.ActingMaster != nil && p.ActingMaster())
		p.setLed(leading)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Acting reports whether this replica stands in for a leader that the group has not had for ten seconds: it answers reads
// from what it has, and refuses changes.
func (p *Processors) Acting() bool { return p.acting.Load() }

func (p *Processors) setActing(acting bool) {
	if p.acting.Swap(acting) == acting {
		return
	}
	if acting {
		p.Logger.Warn("the group has no leader: this replica answers reads and refuses everything else", "after", actingAfter)
	}
	if p.ActingChanged != nil {
		p.ActingChanged()
	}
}

// setLed tells consumers that share out queues under locks when this replica begins to lead: they renew their locks here.
func (p *Processors) setLed(leading bool) {
	if p.led.Swap(leading) == leading || !leading || p.broker == nil {
		return
	}
	told := make(map[string]bool)
	for _, lock := range p.broker.Store().Locks() {
		if told[lock.Group] {
			continue
		}
		told[lock.Group] = true
		for _, m := range p.broker.Clients().Consumers(lock.Group) {
			NotifyMembership(m.Conn, lock.Group)
		}
	}
}
