package compat

import (
	"context"
	"errors"
	"net"
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

// forwarder serves one request that only the leader can answer, at the address it returns.
func forwarder(t *testing.T, e *election, code int32) (p *Processors, addr string) {
	t.Helper()
	peers := remoting.NewClient(remoting.ClientOptions{})
	p = New(Options{Leadership: e, Peers: peers})
	mux := remoting.NewMux()
	p.handleLeading(mux, code, &remoting.Class{Name: "test", Limit: 10, Mode: remoting.Inline}, func(r *remoting.Request) {
		r.Reply(&protocol.Command{Code: protocol.Success, Remark: "here"})
	})
	s, err := remoting.Listen(remoting.ServerOptions{Addrs: []string{"127.0.0.1:0"}, Mux: mux})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		p.Close()
		if err := errors.Join(s.Close(ctx), peers.Close()); err != nil {
			t.Error(err)
		}
	})
	return p, s.Addrs()[0].String()
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

// A stop does not wait for pulls that another replica holds, and answers what comes later.
func TestForwardEndsWithClose(t *testing.T) {
	got := make(chan struct{})
	mux := remoting.NewMux()
	mux.Handle(protocol.PullMessage, &remoting.Class{Name: "pull", Limit: 1, Mode: remoting.Spawn}, func(r *remoting.Request) {
		close(got)
		<-r.Conn.Done()
		r.Done()
	})
	s, err := remoting.Listen(remoting.ServerOptions{Addrs: []string{"127.0.0.1:0"}, Mux: mux})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.Close(ctx)
	})
	p, addr := forwarder(t, newElection(s.Addrs()[0].String()), protocol.PullMessage)
	go func() { <-got; p.Close() }()
	for range 2 {
		if resp := callAt(t, addr, protocol.NewRequest(protocol.PullMessage, nil)); resp.Code != protocol.ServiceNotAvailable {
			t.Fatalf("%d %s", resp.Code, resp.Remark)
		}
	}
}
