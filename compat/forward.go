package compat

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"rmq/remoting"
	"rmq/remoting/protocol"
)

// Leadership is what a replica knows of who leads its group.
type Leadership interface {
	// Leading reports whether this replica leads and is ready to answer.
	Leading() bool
	// LeaderAddr is where the leader answers clients. It waits until another replica is known to lead, or ctx ends.
	LeaderAddr(ctx context.Context) (string, error)
	// LeaderAddrOrHere is LeaderAddr, and returns "" as soon as this replica itself leads and is ready.
	LeaderAddrOrHere(ctx context.Context) (string, error)
}

// forwardedFrom is the ext field that a forwarding replica adds: the address that the client's request came from. Every
// client may send it; what it decides is the born host of a message, which clients could always choose.
const forwardedFrom = "rmqFrom"

const (
	// leaderWait bounds how long a request waits for a leader: less than the 3 s that clients give a send.
	leaderWait = 2500 * time.Millisecond
	// forwardTimeout bounds how long the leader may take for a forwarded request, beside the time it asked to wait.
	forwardTimeout = 3 * time.Second
	// forwardedWait bounds how long a request that was passed on waits for this replica to lead.
	forwardedWait = time.Second
	// forwardPause is how long a request waits before the leader is looked for again.
	forwardPause = 20 * time.Millisecond
)

// handleLeading adds a handler of requests that only the leader can answer: any other replica passes them on, so that a
// client with an old route notices nothing.
func (p *Processors) handleLeading(mux *remoting.Mux, code int32, class *remoting.Class, h remoting.HandlerFunc) {
	mux.Handle(code, class, func(r *remoting.Request) {
		if p.Leadership == nil || p.Leadership.Leading() {
			h(r)
			return
		}
		r.Detach()
		p.passOn(r, h)
	})
}

// passOn has a request answered by whoever leads: by another replica, or by local, if that is not nil, once this replica
// itself leads.
func (p *Processors) passOn(r *remoting.Request, local remoting.HandlerFunc) {
	p.forwarded.Add(1)
	p.pass(r, local, time.Now().Add(leaderWait))
}

func (p *Processors) pass(r *remoting.Request, local remoting.HandlerFunc, until time.Time) {
	p.passing.Lock()
	defer p.passing.Unlock()
	if p.ctx.Err() != nil { // Close waits for those before
		r.Reply(unavailable(errors.New("this replica is stopping, nothing was stored")))
		return
	}
	p.forwards.Go(func() { p.forward(r, local, until) })
}

// Forwarded is how many requests were passed on to the leader so far.
func (p *Processors) Forwarded() int64 { return p.forwarded.Load() }

// bornHost is where a request comes from, seen from the replica that the client asked.
func bornHost(r *remoting.Request) netip.AddrPort {
	if from, ok := r.Cmd.Ext.Get(forwardedFrom); ok {
		if addr, err := netip.ParseAddrPort(from); err == nil {
			return addr
		}
	}
	return r.Conn.RemoteAddr()
}

// leaderWhere is where the leader is: an address, or "" for here.
func (p *Processors) leaderWhere(local remoting.HandlerFunc, until time.Time) (string, error) {
	ctx, cancel := context.WithDeadline(p.ctx, until)
	defer cancel()
	if local != nil {
		return p.Leadership.LeaderAddrOrHere(ctx)
	}
	return p.Leadership.LeaderAddr(ctx)
}

// forward passes a request on to the leader and its answer back. A request that nobody can answer in time gets
// SERVICE_NOT_AVAILABLE, on which stock clients try again.
func (p *Processors) forward(r *remoting.Request, local remoting.HandlerFunc, until time.Time) {
	_, again := r.Cmd.Ext.Get(forwardedFrom)
	if again {
		// The other replica may know earlier than this one who leads.
		if soon := time.Now().Add(forwardedWait); soon.Before(until) {
			until = soon
		}
	}
	addr, err := p.leaderWhere(local, until)
	for again && local != nil && err == nil && addr != "" && time.Now().Before(until) {
		select {
		case <-p.ctx.Done():
		case <-time.After(forwardPause):
		}
		addr, err = p.leaderWhere(local, until)
	}
	switch {
	case err != nil:
		r.Reply(unavailable(fmt.Errorf("the group has no leader now, nothing was stored: %w", err)))
		return
	case addr == "":
		local(r)
		return
	case again:
		// Two replicas that take each other for the leader must not play ball.
		r.Reply(unavailable(errors.New("this replica does not lead its group, nothing was stored")))
		return
	}
	cmd := remoting.Clone(r.Cmd)
	cmd.Ext.Set(forwardedFrom, r.Conn.RemoteAddr().String())
	wait := forwardTimeout
	stop := func() bool { return true }
	if cmd.Code == protocol.PullMessage || cmd.Code == protocol.LitePullMessage {
		r.Park()
		wait += suspendMax
		// A stop does not wait for the leader's messages.
		stop = context.AfterFunc(p.ctx, func() { r.Reply(unavailable(errors.New("this replica is stopping"))) })
	}
	if cmd.IsOneway() {
		ctx, cancel := context.WithTimeout(p.ctx, forwardTimeout)
		defer cancel()
		if err := p.Peers.Oneway(ctx, addr, cmd); err != nil {
			p.Logger.Debug("a oneway request was not passed on to the leader", "code", cmd.Code, "leader", addr, "error", err)
		}
		stop()
		r.Done()
		return
	}
	p.Peers.CallAsync(addr, cmd, time.Now().Add(wait), func(resp *protocol.Command, err error) {
		stop()
		switch {
		case err == nil:
			r.Reply(remoting.Clone(resp))
		case errors.Is(err, remoting.ErrNotSent) && time.Now().Before(until):
			// The leader is gone and the next one not known yet.
			time.AfterFunc(forwardPause, func() { p.pass(r, local, until) })
		default:
			r.Reply(unavailable(fmt.Errorf("the leader %s did not answer, the request may or may not be carried out: %w", addr, err)))
		}
	})
}

func unavailable(err error) *protocol.Command {
	return &protocol.Command{Code: protocol.ServiceNotAvailable, Remark: err.Error()}
}
