package controller

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"rmq/raftlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeLog is a log whose leadership and barriers the test decides.
type fakeLog struct {
	Log          // what no test of these asks for
	known        bool
	bootstrapped []raft.Server
	member       raftlog.Member
	failStart    error
	leadership   chan bool
	status       atomic.Pointer[raftlog.Status]
	barrier      func(ctx context.Context) error
}

func newFakeLog() *fakeLog {
	return &fakeLog{leadership: make(chan bool), barrier: func(context.Context) error { return nil }}
}

func (l *fakeLog) HasState() (bool, error) { return l.known, nil }

func (l *fakeLog) Bootstrap(servers []raft.Server) error {
	l.bootstrapped = servers
	return nil
}

func (l *fakeLog) Start(_ raftlog.StateMachine, m raftlog.Member) error {
	l.member = m
	return l.failStart
}

func (l *fakeLog) Identity() raftlog.Identity { return raftlog.Identity{Incarnation: "me"} }
func (l *fakeLog) Recovery() raftlog.Recovery { return raftlog.Recovery{} }
func (l *fakeLog) Leadership() <-chan bool    { return l.leadership }
func (l *fakeLog) Status() raftlog.Status {
	if s := l.status.Load(); s != nil {
		return *s
	}
	return raftlog.Status{}
}

func (l *fakeLog) Configuration() (raft.Configuration, error) {
	return raft.Configuration{Servers: l.bootstrapped}, nil
}
func (l *fakeLog) ConfigurationIndex() uint64        { return 1 }
func (l *fakeLog) Barrier(ctx context.Context) error { return l.barrier(ctx) }

// journal notes what happens, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
	grown chan struct{} // one token for each line
}

func newJournal() *journal { return &journal{grown: make(chan struct{}, 1000)} }

func (j *journal) add(line string) {
	j.mu.Lock()
	j.lines = append(j.lines, line)
	j.mu.Unlock()
	j.grown <- struct{}{}
}

// await waits until n lines are there and returns them all.
func (j *journal) await(t *testing.T, n int) []string {
	t.Helper()
	for {
		j.mu.Lock()
		lines := slices.Clone(j.lines)
		j.mu.Unlock()
		if len(lines) >= n {
			return lines
		}
		select {
		case <-j.grown:
		case <-time.After(10 * time.Second):
			t.Fatalf("want %d lines, there are %q", n, lines)
		}
	}
}

// start runs a group whose duties end with their term, all noted.
func start(t *testing.T, log *fakeLog, change func(o *Options, j *journal)) (*Group, *journal) {
	t.Helper()
	j := newJournal()
	o := Options{
		Name: "g", Address: "a", Log: log,
		TakeOver: func(context.Context) error { j.add("take over"); return nil },
		Lead: func(ctx context.Context) error {
			j.add("lead")
			<-ctx.Done()
			j.add("end")
			return nil
		},
		Led: func(leads bool) {
			if leads {
				j.add("leads")
			} else {
				j.add("leads no more")
			}
		},
	}
	if change != nil {
		change(&o, j)
	}
	g, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g, j
}

func equal(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("happened %q, want %q", got, want)
	}
}

func TestFoundsANewGroupOnly(t *testing.T) {
	log := newFakeLog()
	start(t, log, nil)
	if len(log.bootstrapped) != 1 || log.bootstrapped[0].ID != "0-me" || log.member.ServerID != "0-me" || log.member.Address != "a" {
		t.Errorf("founded with %v, started as %+v", log.bootstrapped, log.member)
	}
	log = newFakeLog()
	log.known = true
	start(t, log, nil)
	if log.bootstrapped != nil {
		t.Errorf("founded %v again", log.bootstrapped)
	}
	log = newFakeLog()
	log.failStart = errors.New("no")
	if g, err := Start(t.Context(), Options{Log: log}); g != nil || !errors.Is(err, log.failStart) {
		t.Errorf("started: %v %v", g, err)
	}
}

func TestLeadershipFlaps(t *testing.T) {
	log := newFakeLog()
	g, j := start(t, log, nil)
	if g.Leading() {
		t.Error("leads before it was elected")
	}
	log.leadership <- true
	if err := g.WaitLeading(t.Context()); err != nil {
		t.Fatal(err)
	}
	equal(t, j.await(t, 3), "take over", "leads", "lead")
	log.leadership <- false
	equal(t, j.await(t, 5)[3:], "end", "leads no more")
	if g.Leading() {
		t.Error("still leads")
	}
	log.leadership <- true
	j.await(t, 8)
	log.leadership <- true // false came and went unseen: a new term all the same
	equal(t, j.await(t, 13)[5:], "take over", "leads", "lead", "end", "leads no more", "take over", "leads", "lead")
	g.Close()
	equal(t, j.await(t, 15)[13:], "end", "leads no more")
	if err := g.WaitLeading(t.Context()); err == nil {
		t.Error("a closed group leads")
	}
}

func TestBarrierFailsThenHolds(t *testing.T) {
	log := newFakeLog()
	failures := 2
	log.barrier = func(context.Context) error {
		if failures--; failures >= 0 {
			return errors.New("not now")
		}
		return nil
	}
	_, j := start(t, log, nil)
	log.leadership <- true
	equal(t, j.await(t, 3), "take over", "leads", "lead")
}

// Between duties that failed and the next take-over, the replica does not count as leading.
func TestDutiesThatReturnEarly(t *testing.T) {
	log := newFakeLog()
	barriers := 0
	var g *Group
	ready := make(chan struct{})
	log.barrier = func(context.Context) error {
		<-ready
		if barriers++; barriers > 1 && g.Leading() {
			t.Error("counts as leading while it takes over again")
		}
		return nil
	}
	first := true
	g, j := start(t, log, func(o *Options, j *journal) {
		lead := o.Lead
		o.Lead = func(ctx context.Context) error {
			if first {
				first = false
				j.add("fail")
				return errors.New("no duty today")
			}
			return lead(ctx)
		}
	})
	close(ready)
	log.leadership <- true
	equal(t, j.await(t, 7), "take over", "leads", "fail", "leads no more", "take over", "leads", "lead")
}

func TestCloseDuringTakeOver(t *testing.T) {
	log := newFakeLog()
	g, j := start(t, log, func(o *Options, j *journal) {
		o.TakeOver = func(ctx context.Context) error {
			j.add("take over")
			<-ctx.Done()
			return nil // it came through all the same
		}
	})
	log.leadership <- true
	j.await(t, 1)
	g.Close()
	equal(t, j.await(t, 1), "take over")
}

func TestWaitLeadingGivesUp(t *testing.T) {
	g, _ := start(t, newFakeLog(), nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if err := g.WaitLeading(ctx); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
}
