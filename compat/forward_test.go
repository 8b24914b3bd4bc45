package compat

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rmq/remoting"
	"rmq/remoting/protocol"
)

// election is a Leadership whose outcome a test decides.
type election struct {
	here   chan struct{} // closed when this replica leads
	others chan string   // each look takes one, or the last again
	last   atomic.Value
	known  atomic.Pointer[LeaderView] // what view tells, if it is not nil
}

// view is the election's LeaderView: somebody leads, unless the test says otherwise.
func (e *election) view() LeaderView {
	if v := e.known.Load(); v != nil {
		return *v
	}
	return LeaderView{Known: true}
}

func newElection(others ...string) *election {
	e := &election{here: make(chan struct{}), others: make(chan string, len(others))}
	for _, addr := range others {
		e.others <- addr
	}
	return e
}

func (e *election) Leading() bool {
	select {
	case <-e.here:
		return true
	default:
		return false
	}
}

func (e *election) LeaderAddr(ctx context.Context) (string, error) {
	select {
	case addr := <-e.others:
		e.last.Store(addr)
	default:
	}
	if addr, ok := e.last.Load().(string); ok {
		return addr, nil
	}
	<-ctx.Done()
	return "", ctx.Err()
}

func (e *election) LeaderAddrOrHere(ctx context.Context) (string, error) {
	if e.Leading() {
		return "", nil
	}
	if len(e.others) > 0 || e.last.Load() != nil {
		return e.LeaderAddr(ctx)
	}
	select {
	case <-e.here:
		return "", nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// forwarder serves one request code that only the leader can answer, a change unless said otherwise, at the address it
// returns.
func forwarder(t *testing.T, e *election, code int32, use ...func(*Processors, *remoting.Mux) routes) (p *Processors, addr string) {
	t.Helper()
	peers := remoting.NewClient(remoting.ClientOptions{})
	p = New(Options{Leadership: e, Peers: peers, LeaderView: e.view})
	mux := remoting.NewMux()
	use = append(use, (*Processors).changes)
	use[0](p, mux).handle(code, &remoting.Class{Name: "test", Limit: 10, Mode: remoting.Inline}, func(r *remoting.Request) {
		r.Reply(&protocol.Command{Code: protocol.Success, Remark: "here"})
	})
	addr = listen(t, p, mux)
	t.Cleanup(func() {
		if err := peers.Close(); err != nil {
			t.Error(err)
		}
	})
	return p, addr
}

// listen serves a mux until the test ends.
func listen(t *testing.T, p *Processors, mux *remoting.Mux) (addr string) {
	t.Helper()
	s, err := remoting.Listen(remoting.ServerOptions{Addrs: []string{"127.0.0.1:0"}, Mux: mux})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		p.Close()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return s.Addrs()[0].String()
}

func callAt(t *testing.T, addr string, cmd *protocol.Command) *protocol.Command {
	t.Helper()
	client := remoting.NewClient(remoting.ClientOptions{})
	defer client.Close() //nolint:errcheck // it never fails
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	resp, err := client.Call(ctx, addr, cmd)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// A request that finds no leader is answered here if this replica becomes it, also one that another replica passed on
// because it knew earlier.
func TestForwardMeetsTheNewLeader(t *testing.T) {
	for name, e := range map[string]*election{"no leader yet": newElection(), "an old leader is known": newElection("127.0.0.1:1")} {
		t.Run(name, func(t *testing.T) {
			p, addr := forwarder(t, e, protocol.SendMessage)
			go func() {
				for p.Forwarded() == 0 {
					<-time.After(time.Millisecond)
				}
				close(e.here)
			}()
			cmd := protocol.NewRequest(protocol.SendMessage, nil)
			cmd.Ext.Set(forwardedFrom, "10.0.0.1:5")
			if resp := callAt(t, addr, cmd); resp.Code != protocol.Success {
				t.Fatalf("%d %s", resp.Code, resp.Remark)
			}
		})
	}
}

// A leader whose process is gone takes no requests: they wait for the next one.
func TestForwardOutlivesTheLeader(t *testing.T) {
	leads := newElection()
	close(leads.here)
	_, leader := forwarder(t, leads, protocol.SendMessage)
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close() //nolint:errcheck // only its address is wanted
	_, addr := forwarder(t, newElection(gone.Addr().String(), leader), protocol.SendMessage)
	if resp := callAt(t, addr, protocol.NewRequest(protocol.SendMessage, nil)); resp.Code != protocol.Success {
		t.Fatalf("%d %s", resp.Code, resp.Remark)
	}
}

// stub serves one request code in place of a leader, at the address it returns.
func stub(t *testing.T, code int32, h remoting.HandlerFunc) string {
	t.Helper()
	mux := remoting.NewMux()
	mux.Handle(code, &remoting.Class{Name: "stub", Limit: 10, Mode: remoting.Spawn}, h)
	s, err := remoting.Listen(remoting.ServerOptions{Addrs: []string{"127.0.0.1:0"}, Mux: mux})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.Close(ctx)
	})
	return s.Addrs()[0].String()
}

// hangUp is a leader that dies over a request.
func hangUp(r *remoting.Request) {
	r.Conn.Close()
	r.Done()
}

func succeed(r *remoting.Request) { r.Reply(&protocol.Command{Code: protocol.Success}) }

func pullFor(suspend time.Duration) *protocol.Command {
	return protocol.NewRequest(protocol.PullMessage, &protocol.PullMessageRequestHeader{
		ConsumerGroup: "g", Topic: "T", QueueOffset: 7, MaxMsgNums: 1, SysFlag: pullMaySuspend, SuspendTimeoutMillis: suspend.Milliseconds(),
	})
}

// A leader that dies over a request is followed by another one: what may be asked again is asked there, a change that may
// have been carried out is not.
func TestForwardOutlivesTheLeaderOfARequest(t *testing.T) {
	for name, c := range map[string]struct {
		use  func(p *Processors, mux *remoting.Mux) routes
		want int32
	}{
		"query":      {(*Processors).queries, protocol.Success},
		"repeatable": {(*Processors).repeatables, protocol.Success},
		"change":     {(*Processors).changes, protocol.ServiceNotAvailable},
	} {
		t.Run(name, func(t *testing.T) {
			const code = protocol.GetMaxOffset
			_, addr := forwarder(t, newElection(stub(t, code, hangUp), stub(t, code, succeed)), code, c.use)
			if resp := callAt(t, addr, protocol.NewRequest(code, nil)); resp.Code != c.want {
				t.Fatalf("%d %s", resp.Code, resp.Remark)
			}
		})
	}
}

// A pull whose leader dies waits at the next one for the rest of its time.
func TestForwardedPullOutlivesItsLeader(t *testing.T) {
	got := make(chan protocol.PullMessageRequestHeader, 2)
	note := func(r *remoting.Request) {
		var h protocol.PullMessageRequestHeader
		if err := h.Decode(r.Cmd.Ext); err != nil {
			t.Error(err)
		}
		got <- h
	}
	first := stub(t, protocol.PullMessage, func(r *remoting.Request) { note(r); hangUp(r) })
	next := stub(t, protocol.PullMessage, func(r *remoting.Request) { note(r); succeed(r) })
	_, addr := forwarder(t, newElection(first, next), protocol.PullMessage, (*Processors).queries)
	cmd := pullFor(20 * time.Second)
	cmd.Ext.Set("sysFlag", strconv.Itoa(pullMaySuspend|pullHasCommit))
	if resp := callAt(t, addr, cmd); resp.Code != protocol.Success {
		t.Fatalf("%d %s", resp.Code, resp.Remark)
	}
	if h := <-got; h.SysFlag != pullMaySuspend|pullHasCommit {
		t.Errorf("flags at the first leader %d", h.SysFlag)
	}
	h := <-got
	if wait := h.SuspendTimeoutMillis; wait <= 10_000 || wait >= 20_000 {
		t.Errorf("waits %d ms at the next leader", wait)
	}
	if h.SysFlag != pullMaySuspend { // its progress is old by now
		t.Errorf("flags at the next leader %d", h.SysFlag)
	}
}

// lateElection finds out who leads later than it was asked to, as a process does that was stopped meanwhile.
type lateElection struct{ *election }

func (lateElection) LeaderAddrOrHere(context.Context) (string, error) {
	<-time.After(forwardedWait + 50*time.Millisecond)
	return "", nil
}

// A send that its client has given up is not stored any more: the client has sent it again.
func TestForwardedSendIsTooLate(t *testing.T) {
	p := New(Options{Leadership: lateElection{newElection()}})
	mux := remoting.NewMux()
	p.changes(mux).handle(protocol.SendMessage, &remoting.Class{Name: "test", Limit: 10}, succeed)
	cmd := protocol.NewRequest(protocol.SendMessage, nil)
	cmd.Ext.Set(forwardedFrom, "10.0.0.1:5")
	if resp := callAt(t, listen(t, p, mux), cmd); resp.Code != protocol.ServiceNotAvailable {
		t.Errorf("%d %s", resp.Code, resp.Remark)
	}
}

// A pull that finds no leader within its time ends as one that found no message: its client asks again, from the same
// offset.
func TestForwardedPullWithoutALeader(t *testing.T) {
	_, addr := forwarder(t, newElection(), protocol.PullMessage, (*Processors).queries)
	resp := callAt(t, addr, pullFor(100*time.Millisecond))
	var h protocol.PullMessageResponseHeader
	if err := h.Decode(resp.Ext); err != nil || resp.Code != protocol.PullNotFound || h.NextBeginOffset != 7 {
		t.Fatalf("%d %s, next %d: %v", resp.Code, resp.Remark, h.NextBeginOffset, err)
	}
}

// A replica that another one took for the leader says that it did nothing: the change may go elsewhere.
func TestForwardedSendIsRefusedByAnOldLeader(t *testing.T) {
	_, old := forwarder(t, newElection("127.0.0.1:1"), protocol.SendMessage)
	_, addr := forwarder(t, newElection(old, stub(t, protocol.SendMessage, succeed)), protocol.SendMessage)
	resp := callAt(t, addr, protocol.NewRequest(protocol.SendMessage, nil))
	if _, internal := resp.Ext.Get(notDone); resp.Code != protocol.Success || internal {
		t.Fatalf("%d %s %v", resp.Code, resp.Remark, resp.Ext)
	}
}

// A request that nobody waits for is passed on like others: it outlives a leader that is gone.
func TestForwardedOneway(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close() //nolint:errcheck // only its address is wanted
	got := make(chan bool, 1)
	leader := stub(t, protocol.UpdateConsumerOffset, func(r *remoting.Request) {
		got <- answerless(r)
		succeed(r)
	})
	dies := stub(t, protocol.UpdateConsumerOffset, hangUp)
	_, addr := forwarder(t, newElection(gone.Addr().String(), dies, leader), protocol.UpdateConsumerOffset, (*Processors).repeatables)
	client := remoting.NewClient(remoting.ClientOptions{})
	defer client.Close() //nolint:errcheck // it never fails
	if err := client.Oneway(t.Context(), addr, protocol.NewRequest(protocol.UpdateConsumerOffset, nil)); err != nil {
		t.Fatal(err)
	}
	select {
	case oneway := <-got:
		if !oneway {
			t.Error("the leader takes it for a request that somebody waits for")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("not within 10 s")
	}
}

// A handler that panics when it answers a request which waited for this replica to lead costs one answer.
func TestForwardOutlivesAPanic(t *testing.T) {
	peers := remoting.NewClient(remoting.ClientOptions{})
	defer peers.Close() //nolint:errcheck // it never fails
	e := newElection()
	var logged bytes.Buffer
	p := New(Options{Leadership: e, Peers: peers, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	mux := remoting.NewMux()
	p.changes(mux).handle(protocol.SendMessage, &remoting.Class{Name: "test", Limit: 10}, func(*remoting.Request) { panic("a bug") })
	addr := listen(t, p, mux)
	go func() {
		for p.Forwarded() == 0 {
			<-time.After(time.Millisecond)
		}
		close(e.here)
	}()
	resp := callAt(t, addr, protocol.NewRequest(protocol.SendMessage, nil))
	p.Close()
	if resp.Code != protocol.SystemError || !strings.Contains(logged.String(), "a bug") {
		t.Errorf("%d %s, logged %q", resp.Code, resp.Remark, logged.String())
	}
}

// A stop does not wait for pulls that another replica holds, and answers what comes later.
func TestForwardEndsWithClose(t *testing.T) {
	got := make(chan struct{})
	leader := stub(t, protocol.PullMessage, func(r *remoting.Request) {
		close(got)
		<-r.Conn.Done()
		r.Done()
	})
	p, addr := forwarder(t, newElection(leader), protocol.PullMessage)
	go func() { <-got; p.Close() }()
	for range 2 {
		if resp := callAt(t, addr, pullFor(time.Minute)); resp.Code != protocol.ServiceNotAvailable {
			t.Fatalf("%d %s", resp.Code, resp.Remark)
		}
	}
}
