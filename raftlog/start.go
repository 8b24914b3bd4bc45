package raftlog

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Member is this replica's place in its group.
type Member struct {
	ServerID  string
	Address   string
	Transport raft.Transport // nil for a group of one voter; closed by Close if it can be
	Timings   Timings
}

// Timings are Raft's. The zero value of a field means its default: 300, 300, 150 and 5 ms.
type Timings struct {
	Heartbeat, Election, Lease, Commit time.Duration
}

// HasState reports whether this directory has ever been part of a group.
func (l *Log) HasState() (bool, error) {
	if l.filling {
		return false, nil
	}
	_, last := l.index.bounds()
	_, snapshot := l.snapshots.newest()
	voted, err := l.stable.GetUint64(keyVoteTerm)
	if err != nil && !errors.Is(err, errNotFound) {
		return false, err
	}
	return last > 0 || snapshot || voted > 0, nil
}

// Bootstrap founds a group: it writes the first configuration. Every founding member must write the same servers in the same
// order. It fails if there is state already.
func (l *Log) Bootstrap(servers []raft.Server) error {
	l.life.Lock()
	defer l.life.Unlock()
	switch {
	case l.started || l.closed:
		return ErrClosed
	case l.filling:
		return ErrFilling
	}
	if has, err := l.HasState(); err != nil || has {
		return errors.Join(errors.New("raftlog: bootstrap: the directory has state"), err)
	}
	seen := make(map[string]bool)
	for _, s := range servers {
		if s.ID == "" || s.Address == "" || seen["i"+string(s.ID)] || seen["a"+string(s.Address)] {
			return fmt.Errorf("raftlog: bootstrap: server %q at %q is incomplete or there twice", s.ID, s.Address)
		}
		seen["i"+string(s.ID)], seen["a"+string(s.Address)] = true, true
	}
	if voters(raft.Configuration{Servers: servers}) == 0 {
		return errors.New("raftlog: bootstrap: no voter")
	}
	// The term first: a crash between the two writes leaves a directory that can be bootstrapped again.
	if err := l.stable.SetUint64(keyTerm, 1); err != nil {
		return err
	}
	err := l.storeLogs([]*raft.Log{{
		Index: 1, Term: 1, Type: raft.LogConfiguration,
		Data: raft.EncodeConfiguration(raft.Configuration{Servers: servers}),
	}})
	if err == nil {
		err = l.flushBehind()
	}
	return err
}

// Start joins the group. It returns once Raft runs; who leads comes later, by Leadership.
func (l *Log) Start(sm StateMachine, m Member) error {
	l.life.Lock()
	defer l.life.Unlock()
	switch {
	case l.started || l.closed:
		return ErrClosed
	case l.filling:
		return ErrFilling
	}
	if err := l.poisoned(); err != nil {
		return err
	}
	if err := l.attach(sm); err != nil {
		return fmt.Errorf("raftlog: start: %w", refusal(err))
	}
	return l.startRaft(m)
}

// attach checks that log, snapshots and state fit together and brings the state machine's counters to the end of the log.
func (l *Log) attach(sm StateMachine) error {
	l.sm = sm
	applied := sm.AppliedOffset()
	first, last := l.index.span()
	// Raft applies what follows the newest snapshot; one that the state has not reached would leave a gap.
	list := l.snapshots.forgetAhead(applied)
	switch {
	case len(list) == 0 && first > 1:
		return damaged(fmt.Errorf("the log begins with entry %d and no snapshot covers what was before", first))
	case len(list) > 0 && (list[0].Index > last || list[0].Index+1 < first):
		return damaged(fmt.Errorf("the newest snapshot is of entry %d, the log holds %d to %d", list[0].Index, first, last))
	}
	if len(list) > 0 {
		l.fsm.snapAt, l.fsm.end = list[0].Offset, list[0].Offset
		l.fsm.applied.Store(list[0].Index)
		l.settled.Store(list[0].Offset)
	}
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.restamp()
}

// startRaft runs Raft and the goroutines around it.
func (l *Log) startRaft(m Member) error {
	trans := m.Transport
	if trans == nil {
		trans = soloTransport{addr: raft.ServerAddress(m.Address)}
	}
	if t, ok := trans.(interface {
		setFollows(f func() (index, term uint64))
	}); ok {
		t.setFollows(l.follows)
	}
	var kick *kickTransport
	conf, index, err := l.lastConfiguration()
	if err != nil {
		return fmt.Errorf("raftlog: start: the configuration: %w", refusal(err))
	}
	l.queue.setAlone(voters(conf) == 1, index)
	if soleVoterIs(conf, m.ServerID) {
		if l.found.MayHaveLost {
			l.log.Warn("the machine has restarted and the last run did not stop in order: what was appended in its last moments may be lost",
				"window", l.o.FlushInterval, "end", l.EndOffset())
			if err := l.LossSettled(); err != nil {
				return err
			}
		}
		kick = newKickTransport(trans)
		trans = kick
	}
	changes := make(chan bool, 16)
	r, err := raft.NewRaft(l.raftConfig(m, changes), &l.fsm, logStore{l}, l.stable, &l.snapshots, trans)
	if err != nil {
		if c, ok := trans.(raft.WithClose); ok {
			err = joinClose(err, c)
		}
		return fmt.Errorf("raftlog: start raft: %w", err)
	}
	l.started, l.peers, l.trans = true, m.Transport, trans
	l.raft.Store(r)
	l.halt = sync.OnceValue(func() raft.Future { return r.Shutdown() })
	l.tasks.Go(func() { l.runLeadership(changes) })
	l.tasks.Go(l.runSnapshots)
	if kick != nil {
		kick.kick()
	}
	return nil
}

// follows returns the entry that the log follows, and its term; 0 if it begins with the first.
func (l *Log) follows() (index, term uint64) {
	if segs := *l.segs.Load(); len(segs) > 0 {
		return segs[0].firstIndex - 1, segs[0].prevTerm
	}
	return 0, 0
}

// soleVoterIs reports whether id alone elects and commits; there may be learners.
func soleVoterIs(conf raft.Configuration, id string) bool {
	s, ok := serverOf(conf, id)
	return ok && s.Suffrage == raft.Voter && voters(conf) == 1
}

// Configuration returns the group's last configuration in the log or in the newest snapshot; it is empty before the group is
// founded. Once Raft runs it is Raft's own copy, at no cost.
func (l *Log) Configuration() (raft.Configuration, error) {
	if r := l.raft.Load(); r != nil {
		f := r.GetConfiguration()
		return f.Configuration(), f.Error()
	}
	conf, _, err := l.lastConfiguration()
	return conf, err
}

func (l *Log) raftConfig(m Member, changes chan<- bool) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(m.ServerID)
	c.HeartbeatTimeout = orDefault(m.Timings.Heartbeat, 300*time.Millisecond)
	c.ElectionTimeout = orDefault(m.Timings.Election, 300*time.Millisecond)
	c.LeaderLeaseTimeout = orDefault(m.Timings.Lease, 150*time.Millisecond)
	c.CommitTimeout = orDefault(m.Timings.Commit, 5*time.Millisecond)
	c.MaxAppendEntries = 64
	c.BatchApplyCh = true
	c.NotifyCh = changes
	c.Logger = &raftLogger{out: l.log, said: &saidLines{}}
	c.NoSnapshotRestoreOnStart = true
	c.NoLegacyTelemetry = true
	// Snapshots are taken by applied bytes, see runSnapshots, and never shorten the log.
	c.SnapshotInterval = 365 * 24 * time.Hour
	c.SnapshotThreshold = math.MaxUint64
	c.TrailingLogs = math.MaxUint64
	return c
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
