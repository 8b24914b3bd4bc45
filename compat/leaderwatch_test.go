package compat

import (
	"context"
	"testing"
	"time"

	"rmq/remoting"
	"rmq/remoting/protocol"
)

// What a replica makes of what it sees of its group's leader.
func TestLeaderWatch(t *testing.T) {
	now := time.Now()
	w := newLeaderWatch(now)
	expect := func(what string, hopeless, leaderless bool) {
		t.Helper()
		if got := w.hopeless(now); got != hopeless {
			t.Errorf("%s: hopeless %v", what, got)
		}
		if got := w.leaderless(now, actingAfter); got != leaderless {
			t.Errorf("%s: without a leader for long %v", what, got)
		}
	}
	expect("at the start", false, false)
	now = now.Add(actingAfter)
	expect("nobody came", true, true)
	w.look(t.Context(), LeaderView{Known: true, Term: 3}, true, now)
	expect("this one leads", false, false)
	w.look(t.Context(), LeaderView{Known: true, Term: 3}, false, now)
	w.look(t.Context(), LeaderView{Term: 3}, false, now)
	expect("its lease ran out", false, false)
	now = now.Add(cutOffGrace)
	w.look(t.Context(), LeaderView{Term: 3}, false, now)
	expect("and nobody followed", true, false)
	w.look(t.Context(), LeaderView{Term: 4}, false, now)
	expect("somebody calls for an election", false, false)
	w.look(t.Context(), LeaderView{Known: true, Term: 4}, false, now)
	expect("another one leads", false, false)
	w.look(t.Context(), LeaderView{Term: 4}, false, now)
	now = now.Add(actingAfter - 1)
	expect("that one is lost", false, false)
	now = now.Add(1)
	expect("for long", true, true)
}

// A leader that is cut off from its group refuses changes soon; it does not let them wait for another leader, which would
// take the client's whole time.
func TestDeposedLeaderRefusesChanges(t *testing.T) {
	e := newElection()
	e.known.Store(&LeaderView{Term: 3})
	p, addr := forwarder(t, e, protocol.SendMessage)
	now := time.Now()
	p.leader.look(t.Context(), LeaderView{Known: true, Term: 3}, true, now.Add(-time.Second))
	p.leader.look(t.Context(), LeaderView{Term: 3}, false, now)
	if resp := callAt(t, addr, protocol.NewRequest(protocol.SendMessage, nil)); resp.Code != protocol.ServiceNotAvailable {
		t.Fatalf("%d %s", resp.Code, resp.Remark)
	}
	if took := time.Since(now); took > leaderWait/2 {
		t.Errorf("the first answer took %v", took)
	}
	now = time.Now()
	if resp := callAt(t, addr, protocol.NewRequest(protocol.SendMessage, nil)); resp.Code != protocol.ServiceNotAvailable {
		t.Fatalf("%d %s", resp.Code, resp.Remark)
	}
	if took := time.Since(now); took > leaderWait/2 {
		t.Errorf("the second answer took %v", took)
	}
}

// A leader that hangs keeps its connections: queries go on to its successor as soon as there is one, and changes are
// answered before their clients give up.
func TestForwardOutlivesALeaderThatHangs(t *testing.T) {
	for name, c := range map[string]struct {
		use  func(p *Processors, mux *remoting.Mux) routes
		cmd  *protocol.Command
		want int32
	}{
		"pull":   {(*Processors).queries, pullFor(time.Minute), protocol.Success},
		"query":  {(*Processors).queries, protocol.NewRequest(protocol.GetMaxOffset, nil), protocol.Success},
		"change": {(*Processors).changes, protocol.NewRequest(protocol.SendMessage, nil), protocol.ServiceNotAvailable},
	} {
		t.Run(name, func(t *testing.T) {
			e := newElection()
			asked, wake := make(chan struct{}), make(chan struct{})
			hung := stub(t, c.cmd.Code, func(r *remoting.Request) {
				close(asked)
				<-wake
				r.Done()
			})
			t.Cleanup(func() { close(wake) }) // before the stub is closed
			next := stub(t, c.cmd.Code, succeed)
			e.last.Store(hung)
			p, addr := forwarder(t, e, c.cmd.Code, c.use)
			go func() {
				<-asked
				e.last.Store(next)
				e.known.Store(&LeaderView{Term: 1})
				for !p.leader.leaderless(time.Now(), 0) {
					<-time.After(time.Millisecond)
				}
				e.known.Store(&LeaderView{Known: true, Term: 2})
			}()
			began := time.Now()
			resp := callAt(t, addr, c.cmd)
			if took := time.Since(began); resp.Code != c.want || took > forwardTimeout-time.Second {
				t.Fatalf("%d %s after %v", resp.Code, resp.Remark, took)
			}
		})
	}
}

// Requests wait for a leader without asking for it all the time, and stop waiting when their time is over.
func TestAwaitLeader(t *testing.T) {
	w := newLeaderWatch(time.Now())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	for _, u := range []use{change, query} {
		go func() { _, err := w.await(ctx, u); done <- err }()
	}
	w.look(t.Context(), LeaderView{Known: true}, false, time.Now())
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	w.look(t.Context(), LeaderView{}, false, time.Now())
	cancel()
	if _, err := w.await(ctx, query); err == nil {
		t.Error("no leader, and no error")
	}
}
