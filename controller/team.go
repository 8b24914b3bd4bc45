package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"

	"rmq/raftlog"
)

// team is the servers of the group as its leader sees them, for one term.
type team struct {
	g     *Group
	o     *Options
	self  string // server id
	term  uint64
	began time.Time
	wake  chan struct{} // holds a token when something has come that the plan may depend on
	tasks sync.WaitGroup
	turn  chan struct{} // holds the token of who changes the membership or hands the lead on

	mu      sync.Mutex
	members []*member
	joiners map[string]*joiner
	numbers map[string]int // given to directories without one, by incarnation
	commit  uint64         // at the last look
	seekAt  time.Time      // when an arbiter may be asked for again
	restAt  time.Time      // when the next change may be tried, after one that failed
	movedAt time.Time      // when the lead was last handed on, or came

	failed   string // the change that failed last, and when that was said
	failedAt time.Time
}

// member is a server of the configuration.
type member struct {
	Server
	number   int // -1 for an arbiter
	arbiter  bool
	report   *Report // the last one in this term; nil of an arbiter
	status   *ArbiterStatus
	asked    bool // it has been asked once, and has answered or not
	asking   bool
	async    bool      // known from its request to join, until it reports
	knows    bool      // whether async is known
	heard    time.Time // its last answer to entries
	match    uint64
	lag      int64 // bytes, -1 if unknown
	caught   bool
	caughtAt time.Time // when it was last seen to have caught up; zero if never
	contact  bool
	probing  bool      // it is looked whether its port is open
	downAt   time.Time // when that was found closed
	gone     bool
	addedAt  time.Time
	hopeless bool // an arbiter that seeding has not helped
}

// joiner is a server that asks to be a member.
type joiner struct {
	JoinRequest
	at time.Time
}

// arbiterGone divides the time after which an arbiter is replaced: it has no data that would have to be copied.
const arbiterGone = 3

const (
	joinerKept   = 10 * time.Second // after its last question
	actionTime   = 10 * time.Second
	actionRest   = time.Second // after a change that failed
	failedSay    = 5 * time.Minute
	caughtUpLag  = 256 << 10 // bytes that may be lacking
	joinersMax   = 64
	numberSearch = 1 << 16
)

func newTeam(g *Group, term uint64) *team {
	now := time.Now()
	t := &team{
		g: g, o: &g.o, self: string(g.self.ServerID()), term: term, began: now, movedAt: now,
		wake: make(chan struct{}, 1), turn: make(chan struct{}, 1), joiners: make(map[string]*joiner), numbers: make(map[string]int),
	}
	t.look(now)
	return t
}

// run leads the team until ctx ends.
func (t *team) run(ctx context.Context) {
	defer t.g.fills.close()
	defer t.tasks.Wait()
	look := time.NewTicker(t.o.Pace.Look)
	defer look.Stop()
	var polled time.Time
	for {
		now := time.Now()
		t.look(now)
		t.probe(ctx, now)
		if now.Sub(polled) >= t.o.Pace.Poll {
			polled = now
			t.poll(ctx)
			t.g.fills.sweep(now, t.o.Replicas.Match)
		}
		t.step(ctx, now)
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		case <-t.wake:
		}
	}
}

func (t *team) nudge() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// look takes note of the configuration and of who is in contact, and tells Replicas.
func (t *team) look(now time.Time) {
	conf, err := t.o.Log.Configuration()
	if err != nil {
		return // Raft ends
	}
	status := t.o.Log.Status()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.adopt(conf, now)
	for _, m := range t.members {
		if m.ID == t.self {
			m.contact, m.caught, m.match, m.heard, m.caughtAt = true, true, status.LastIndex, now, now
			continue
		}
		t.lookAt(m, status.CommitIndex, now)
	}
	t.commit = status.CommitIndex
	for id, j := range t.joiners {
		if now.Sub(j.at) > joinerKept {
			delete(t.joiners, id)
		}
	}
	t.o.Replicas.lead(t.term, t.counting(now))
}

// adopt makes the members those of a configuration. t.mu is held.
func (t *team) adopt(conf raft.Configuration, now time.Time) {
	old := t.members
	t.members = nil
	for _, s := range conf.Servers {
		id := string(s.ID)
		var m *member
		if i := slices.IndexFunc(old, func(m *member) bool { return m.ID == id }); i >= 0 {
			m = old[i]
		} else {
			m = &member{number: NumberOf(id), arbiter: IsArbiter(id), addedAt: now, lag: -1}
			if j := t.joiners[id]; j != nil {
				m.async, m.knows = j.Async, true
			}
		}
		m.Server = Server{ID: id, Address: string(s.Address), Voter: s.Suffrage == raft.Voter}
		if j := t.joiners[id]; j != nil && j.Address == m.Address {
			delete(t.joiners, id) // it is where it wants to be
		}
		t.members = append(t.members, m)
	}
}

// lookAt judges one member. t.mu is held; t.commit is still that of the look before.
func (t *team) lookAt(m *member, commit uint64, now time.Time) {
	if p, ok := t.o.Net.Progress(m.Address); ok && p.ServerID == m.ID && p.Term == t.term {
		m.heard, m.match = p.LastAnswer, p.MatchIndex
	}
	m.match = max(m.match, t.o.Replicas.Match(m.ID))
	silent := now.Sub(m.heard)
	if m.heard.IsZero() {
		silent = now.Sub(m.addedAt)
	}
	m.contact = !m.heard.IsZero() && silent <= t.o.Pace.Contact && m.heard.After(m.downAt)
	m.gone = silent > t.o.Pace.Gone || m.arbiter && silent > t.o.Pace.Gone/arbiterGone
	m.lag = -1
	if end, ok := t.o.Log.EntryEnd(commit); ok {
		if has, ok := t.o.Log.EntryEnd(m.match); ok {
			m.lag = max(end-has, 0)
		}
	}
	// What was committed a look ago is all that can be expected of it.
	m.caught = m.contact && m.match > 0 && (m.match >= t.commit && t.commit > 0 || m.lag >= 0 && m.lag <= caughtUpLag)
	if m.caught {
		m.caughtAt = now
	}
}

// counting returns the other data replicas that count for acknowledgements: the voters, and the learners that have caught up once
// and are not meant to be far. t.mu is held.
func (t *team) counting(now time.Time) []replica {
	var list []replica
	for _, m := range t.members {
		if m.ID == t.self || m.arbiter || !m.Voter && (!m.knows || m.async || m.caughtAt.IsZero()) {
			continue
		}
		inSync := m.contact && !m.caughtAt.IsZero() && now.Sub(m.caughtAt) <= t.o.Pace.InSync
		list = append(list, replica{id: m.ID, connected: m.contact, inSync: inSync})
	}
	return list
}

// NumberOf returns the replica number that a server id begins with, -1 if there is none.
func NumberOf(serverID string) int {
	number, _, _ := strings.Cut(serverID, "-")
	n, err := strconv.Atoi(number)
	if err != nil {
		return -1
	}
	return n
}

// probe looks whether the port of those is open who have not answered for a little: a process that has gone is known at once.
func (t *team) probe(ctx context.Context, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range t.members {
		if !m.contact || m.probing || now.Sub(m.heard) <= t.o.Pace.Silent {
			continue
		}
		m.probing = true
		id, addr := m.ID, m.Address
		t.tasks.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, callTimeout)
			defer cancel()
			there, err := t.o.Net.Probe(ctx, addr)
			down := errors.Is(err, syscall.ECONNREFUSED) || err == nil && there != id
			t.mu.Lock()
			if m := t.find(id); m != nil {
				if m.probing = false; down {
					m.downAt = time.Now()
				}
			}
			t.mu.Unlock()
			if down {
				t.nudge()
			}
		})
	}
}

// poll asks every member where it stands, each in its own time.
func (t *team) poll(ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	below := t.durable() + 1
	for _, m := range t.members {
		if m.ID == t.self || m.asking {
			continue
		}
		m.asking = true
		id, addr := m.ID, m.Address
		if m.arbiter {
			t.tasks.Go(func() { t.askArbiter(ctx, id, addr, below) })
		} else {
			t.tasks.Go(func() { t.askMember(ctx, id, addr) })
		}
	}
}

// durable is the last entry that every data replica with a vote, or one that has caught up and may get it any moment, is known to have
// on stable storage; 0 if one has not said. t.mu is held.
func (t *team) durable() uint64 {
	lowest := t.o.Log.Status().DurableIndex
	for _, m := range t.members {
		switch {
		case m.ID == t.self || m.arbiter || !m.Voter && (m.async || !m.caught):
		case m.report == nil:
			return 0
		default:
			lowest = min(lowest, m.report.DurableIndex, m.match)
		}
	}
	return lowest
}

func (t *team) askMember(ctx context.Context, id, addr string) {
	var r Report
	err := Ask(ctx, t.o.Net, addr, CallReport, ReportRequest{Leader: t.self, Term: t.term, ClientAddr: t.o.ClientAddr}, &r)
	if err == nil && string(r.ServerID()) != id {
		err = fmt.Errorf("%s is now %s", addr, r.ServerID())
	}
	t.answered(id, func(m *member) {
		if err == nil {
			m.report, m.async, m.knows = &r, r.Async, true
		}
	})
}

func (t *team) askArbiter(ctx context.Context, id, addr string, below uint64) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var s ArbiterStatus
	var err error
	if below > 1 {
		s, err = DropArbiterBelow(ctx, t.o.Net, addr, id, t.term, below)
	} else {
		s, err = AskArbiter(ctx, t.o.Net, addr, id)
	}
	t.answered(id, func(m *member) {
		if m.status = nil; err == nil {
			m.status = &s
		}
	})
}

func (t *team) answered(id string, note func(m *member)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range t.members {
		if m.ID == id {
			if note(m); !m.asked {
				t.nudge()
			}
			m.asked, m.asking = true, false
		}
	}
}

// step plans, and begins what is planned unless something is under way.
func (t *team) step(ctx context.Context, now time.Time) {
	select {
	case t.turn <- struct{}{}:
	default:
		return // when that is done it nudges
	}
	v, ok := t.view(now)
	var a Action
	if ok {
		a = Plan(v)
	}
	var move func(ctx context.Context) error
	if ok && a.Kind == NoAction {
		move = t.better(now)
	}
	if a.Kind == NoAction && move == nil {
		<-t.turn
		return
	}
	t.tasks.Go(func() {
		defer t.nudge()
		defer func() { <-t.turn }()
		ctx, cancel := context.WithTimeout(ctx, actionTime)
		defer cancel()
		if move != nil {
			if err := move(ctx); err != nil {
				t.o.Logger.Info("the lead stays here", "group", t.o.Name, "error", err)
			}
			return
		}
		t.carryOut(ctx, a)
	})
}

// view is what the plan depends on; ok is false until every member has been asked in this term, and while a failure rests.
func (t *team) view(now time.Time) (v View, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v = View{Self: t.self, Listed: t.o.Listed, Arbiter: ArbiterOff}
	if t.o.Arbiters != nil {
		v.Arbiter = ArbiterSeek
		if now.Before(t.seekAt) {
			v.Arbiter = ArbiterWait
		}
	}
	first := t.o.Log.Status().FirstIndex
	for _, m := range t.members {
		if m.ID != t.self && !m.asked {
			return v, false
		}
		mv := MemberView{
			ID: m.ID, Address: m.Address, Number: m.number, Arbiter: m.arbiter, Voter: m.Voter,
			Contact: m.contact, Gone: m.gone, Caught: m.caught, Async: m.async || !m.knows,
		}
		if m.status != nil {
			mv.Full = m.status.BytesMax > 0 && m.status.Bytes >= m.status.BytesMax
			// One that failed is replaced, also by its own host. One without an entry has just been seeded.
			mv.Unfit = !m.hopeless && (m.status.Lacks || m.status.State == ArbiterEmpty || m.status.State == ArbiterRunning && m.status.LastIndex > 0 && m.status.LastIndex+1 < first)
		}
		switch j := t.joiners[m.ID]; {
		case m.ID == t.self:
			mv.Moved = t.o.Address
		case j != nil && j.Address != m.Address:
			mv.Moved = j.Address
		}
		v.Members = append(v.Members, mv)
	}
	for id, j := range t.joiners {
		if j.Running {
			v.Joiners = append(v.Joiners, JoinerView{ID: id, Address: j.Address, Number: j.Number})
		}
	}
	slices.SortFunc(v.Joiners, func(a, b JoinerView) int { return strings.Compare(a.ID, b.ID) })
	return v, !now.Before(t.restAt)
}

// carryOut does one planned change.
func (t *team) carryOut(ctx context.Context, a Action) {
	level := slog.LevelInfo
	if a.Kind == SeekArbiter {
		level = slog.LevelDebug // it may be in vain for long; the learner that comes of it is told of
	}
	t.o.Logger.Log(ctx, level, "the group's members change", "group", t.o.Name, "change", a.String(), "address", a.Address, "why", a.Why)
	var err error
	log := t.o.Log
	switch a.Kind {
	case AddLearner, ChangeAddress: // of a voter it changes the address only
		err = log.AddNonvoter(ctx, a.ID, a.Address)
	case Promote:
		if err = t.present(ctx, a.ID, a.Address); err == nil {
			err = log.AddVoter(ctx, a.ID, a.Address)
		}
	case Demote:
		err = log.DemoteVoter(ctx, a.ID)
	case Remove:
		err = t.remove(ctx, a.ID, a.Address)
	case SeekArbiter:
		err = t.seek(ctx)
	case SeedAnew:
		err = t.seed(ctx, a.ID, a.Address)
	}
	now := time.Now()
	t.look(now)
	if err == nil || ctx.Err() != nil && t.g.ctx.Err() != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	level = slog.LevelWarn
	if text := a.String() + err.Error(); text == t.failed && now.Sub(t.failedAt) < failedSay {
		level = slog.LevelDebug
	} else {
		t.failed, t.failedAt = text, now
	}
	t.o.Logger.Log(ctx, level, "a change of the group's members has failed", "group", t.o.Name, "change", a.String(), "error", err)
	switch m := t.find(a.ID); {
	case a.Kind == SeedAnew && m != nil:
		var no *Refusal
		m.hopeless = errors.As(err, &no) && no.Code == CodeRefused
		fallthrough
	case a.Kind == SeekArbiter:
		t.seekAt = now.Add(t.o.Pace.Retry)
	default:
		t.restAt = now.Add(actionRest)
	}
}

// present asks a server that is to vote whether it is there now. A vote counts from the moment on in which the only voter so far has
// written it down: if the new one has just died the group stands still until it is back.
func (t *team) present(ctx context.Context, id, addr string) error {
	if IsArbiter(id) {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		_, err := AskArbiter(ctx, t.o.Net, addr, id)
		return err
	}
	if !t.there(ctx, &Server{ID: id, Address: addr}) {
		return fmt.Errorf("%s at %s does not answer", id, addr)
	}
	return nil
}

// remove takes a server out of the configuration, and tells it if it is an arbiter: a replica learns it from the log.
func (t *team) remove(ctx context.Context, id, addr string) error {
	if err := t.o.Log.RemoveServer(ctx, id); err != nil {
		return err
	}
	if IsArbiter(id) {
		told, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		if err := RemoveArbiter(told, t.o.Net, addr, id, t.term); err != nil {
			t.o.Logger.Info("a removed arbiter does not answer", "group", t.o.Name, "arbiter", id, "error", err)
		}
	}
	return nil
}

// seek finds an arbiter, has it begin where the group stands, and makes it a learner.
func (t *team) seek(ctx context.Context) error {
	r := ArbiterRequest{Cluster: t.o.Log.Identity().ClusterID, Group: t.o.Name}
	if t.o.Cluster != "" {
		r.Cluster = t.o.Cluster
	}
	t.mu.Lock()
	for _, m := range t.members {
		if m.arbiter {
			r.Exclude = append(r.Exclude, m.ID)
		}
	}
	t.mu.Unlock()
	point, err := t.o.Log.FillPoint(noLimit)
	if err != nil {
		return err
	}
	r.SegmentBytes = point.SegmentBytes
	offer, err := t.o.Arbiters.Offer(ctx, r)
	if err != nil {
		return fmt.Errorf("no arbiter, so that the group does not survive the loss of its leader's machine by itself: %w", err)
	}
	if !IsArbiter(offer.ServerID) || offer.Address == "" {
		return fmt.Errorf("the arbiter on offer is %q at %q", offer.ServerID, offer.Address)
	}
	if err := t.seedWith(ctx, offer.ServerID, offer.Address, point); err != nil {
		return err
	}
	if err := t.vacate(ctx, offer); err != nil {
		return err
	}
	t.o.Logger.Info("the group takes an arbiter", "group", t.o.Name, "arbiter", offer.ServerID, "address", offer.Address)
	return t.o.Log.AddNonvoter(ctx, offer.ServerID, offer.Address)
}

// vacate removes the arbiter that was where another one is now: its directory was emptied, and no two servers may have one address.
// Without it the group needs no more of the others than with it.
func (t *team) vacate(ctx context.Context, offer ArbiterOffer) error {
	t.mu.Lock()
	var v View
	gone := ""
	for _, m := range t.members {
		v.Members = append(v.Members, MemberView{ID: m.ID, Voter: m.Voter, Contact: m.contact})
		if m.arbiter && m.Address == offer.Address && m.ID != offer.ServerID {
			gone = m.ID
		}
	}
	v.Self = t.self
	t.mu.Unlock()
	if gone == "" {
		return nil
	}
	if !(&planner{v}).holds(MemberView{ID: gone}, false) {
		return fmt.Errorf("%s is where %s was, and too few are in contact to remove that", offer.ServerID, gone)
	}
	t.o.Logger.Info("an arbiter has made way for another one at its address", "group", t.o.Name, "arbiter", gone, "address", offer.Address)
	return t.o.Log.RemoveServer(ctx, gone)
}

// seed has an arbiter that is a member begin where the group stands. That it is told to once more in a while is no harm.
func (t *team) seed(ctx context.Context, id, addr string) error {
	point, err := t.o.Log.FillPoint(noLimit)
	if err != nil {
		return err
	}
	if err := t.seedWith(ctx, id, addr, point); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seekAt = time.Now().Add(t.o.Pace.Retry)
	return nil
}

func (t *team) seedWith(ctx context.Context, id, addr string, point raftlog.FillPoint) error {
	ctx, cancel := context.WithTimeout(ctx, actionTime/2)
	defer cancel()
	return SeedArbiter(ctx, t.o.Net, addr, id, point)
}
