package compat

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"strconv"
	"time"

	"rmq/compat/broker"
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

// Ext fields between replicas. Every client may send the first two; what they decide is a message's born host, which clients could
// always choose, and whether the answer waits for a commit.
const (
	// forwardedFrom is the address that the client's request came from.
	forwardedFrom = "rmqFrom"
	// forwardedOneway says that the client waits for no answer; the replica that passes the request on does.
	forwardedOneway = "rmqOneway"
	// notDone, in an answer, says that the request was certainly not carried out and may be passed to another replica.
	notDone = "rmqNotDone"
)

const (
	// leaderWait bounds how long a request waits for a leader: less than the 3 s that clients give a send.
	leaderWait = 2500 * time.Millisecond
	// onewayWait is leaderWait for a request that nobody waits for: as long as consumers take between two reports of their
	// progress, so that an old one does not come after a newer one.
	onewayWait = 5 * time.Second
	// forwardTimeout bounds how long the leader may take for a forwarded request, beside the time it asked to wait.
	forwardTimeout = 5 * time.Second
	// forwardedWait bounds how long a request that was passed on waits for this replica to lead.
	forwardedWait = time.Second
	// forwardPause is how long a request waits before the leader is looked for again.
	forwardPause = 20 * time.Millisecond
)

// use is what may be done with a request when it is not sure that the leader carries it out.
type use uint8

const (
	// change: it is passed on again only if it was certainly not carried out.
	change use = iota
	// repeatable: a change that has the same effect when it is carried out twice.
	repeatable
	// query: it changes nothing, and a replica that stands in for the leader answers it.
	query
)

// route is how requests of one code are answered.
type route struct {
	use    use
	leader remoting.HandlerFunc // on the leader
	// copy answers on another replica from what that has, where the group allows it, or always; nil: never. It may pass the
	// request on.
	copy   remoting.HandlerFunc
	always bool
}

// everywhere adds handlers of requests that every replica answers by itself.
type everywhere struct {
	p   *Processors
	mux *remoting.Mux
}

func (e everywhere) handle(code int32, class *remoting.Class, h remoting.HandlerFunc) {
	e.mux.Handle(code, class, func(r *remoting.Request) {
		if !e.p.sentAway(r) {
			h(r)
		}
	})
}

// routes adds handlers of one kind of requests that are the leader's.
type routes struct {
	p   *Processors
	mux *remoting.Mux
	route
}

// changes are requests that only the leader can carry out: any other replica passes them on, so that a client with an old
// route notices nothing.
func (p *Processors) changes(mux *remoting.Mux) routes { return routes{p, mux, route{use: change}} }

// repeatables are changes that may be carried out twice.
func (p *Processors) repeatables(mux *remoting.Mux) routes {
	return routes{p, mux, route{use: repeatable}}
}

// queries are requests that ask the leader for something.
func (p *Processors) queries(mux *remoting.Mux) routes { return routes{p, mux, route{use: query}} }

// copied are queries that other replicas can answer too, by local.
func (p *Processors) copied(mux *remoting.Mux, local remoting.HandlerFunc) routes {
	return routes{p, mux, route{use: query, copy: local}}
}

// copiedAlways are copied ones whose answer is the same everywhere, for those that have it.
func (p *Processors) copiedAlways(mux *remoting.Mux, local remoting.HandlerFunc) routes {
	return routes{p, mux, route{use: query, copy: local, always: true}}
}

func (s routes) handle(code int32, class *remoting.Class, h remoting.HandlerFunc) {
	p, rt := s.p, s.route
	rt.leader = h
	p.routes[code] = rt
	s.mux.Handle(code, class, func(r *remoting.Request) {
		switch {
		case p.sentAway(r):
		case p.leads():
			h(r)
		default:
			p.elsewhere(r.Detach(), rt)
		}
	})
}

func (p *Processors) leads() bool { return p.Leadership == nil || p.Leadership.Leading() }

// elsewhere has a request answered that came to a replica which does not lead.
func (p *Processors) elsewhere(r *remoting.Request, rt route) {
	_, again := r.Cmd.Ext.Get(forwardedFrom)
	acting := p.Acting()
	switch {
	case rt.copy != nil && !again && (rt.always || acting || p.SlaveRead != nil && p.SlaveRead()):
		rt.copy(r)
	case rt.copy == nil && rt.use == query && acting:
		rt.leader(r)
	default:
		p.passOn(r)
	}
}

// passOn has a request answered by whoever leads, this replica included.
func (p *Processors) passOn(r *remoting.Request) {
	p.forwarded.Add(1)
	p.pass(p.newTransit(r), 0)
}

// passOnLater is passOn for a request that was refused because this replica has just ceased to lead.
func (p *Processors) passOnLater(r *remoting.Request) {
	p.forwarded.Add(1)
	p.pass(p.newTransit(r), forwardPause)
}

// transit is a request on its way to whoever leads.
type transit struct {
	route
	r     *remoting.Request
	again bool // another replica has passed it on to this one
	// pull is set if it is a pull that may wait for messages until the time waits.
	pull  *protocol.PullMessageRequestHeader
	waits time.Time
	asked bool      // a leader, before
	until time.Time // it looks for a leader
}

func (p *Processors) newTransit(r *remoting.Request) *transit {
	t := &transit{route: p.routes[r.Cmd.Code], r: r}
	_, t.again = r.Cmd.Ext.Get(forwardedFrom)
	wait := leaderWait
	if r.Cmd.IsOneway() {
		wait = onewayWait
	}
	if t.again {
		wait = forwardedWait // the other replica may know earlier than this one who leads
	}
	t.until = r.Received.Add(wait)
	if r.Cmd.Code == protocol.PullMessage || r.Cmd.Code == protocol.LitePullMessage {
		var h protocol.PullMessageRequestHeader
		if err := h.Decode(r.Cmd.Ext); err == nil && suspendTime(&h) > 0 {
			t.pull, t.waits = &h, r.Received.Add(suspendTime(&h))
			if !t.again {
				t.until = t.waits
			}
			r.Park()
		}
	}
	return t
}

// pass starts a request on its way, after a pause.
func (p *Processors) pass(t *transit, pause time.Duration) {
	p.passing.Lock()
	defer p.passing.Unlock()
	if p.ctx.Err() != nil { // Close waits for those before
		p.giveUp(t, errStopping, true)
		return
	}
	p.forwards.Go(func() {
		if pause > 0 {
			select {
			case <-p.ctx.Done():
			case <-time.After(pause):
			}
		}
		p.forward(t)
	})
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

// answerless reports whether the client waits for no answer.
func answerless(r *remoting.Request) bool {
	_, forwarded := r.Cmd.Ext.Get(forwardedOneway)
	return forwarded || r.Cmd.IsOneway()
}

// leaderWhere is where the leader is: an address, or "" for here.
func (p *Processors) leaderWhere(t *transit) (string, error) {
	ctx, cancel := context.WithDeadline(p.ctx, t.until)
	defer cancel()
	for {
		reign, err := p.leader.await(ctx, t.use)
		if err != nil {
			return "", err
		}
		asking, cancel := context.WithDeadline(reign, t.until)
		addr, err := p.Leadership.LeaderAddrOrHere(asking)
		cancel()
		if err == nil || reign.Err() == nil || ctx.Err() != nil {
			return addr, err
		}
	}
}

// forward passes a request on to the leader and its answer back. A request that nobody can answer in time gets
// SERVICE_NOT_AVAILABLE, on which stock clients try again.
func (p *Processors) forward(t *transit) {
	addr, err := p.leaderWhere(t)
	for t.again && err == nil && addr != "" && time.Now().Before(t.until) {
		select {
		case <-p.ctx.Done():
		case <-time.After(forwardPause):
		}
		addr, err = p.leaderWhere(t)
	}
	if err == nil && !time.Now().Before(t.until) {
		// The client has given up, or soon will, and asks again: what comes now would come a second time, behind newer ones.
		err = errLate
	}
	switch {
	case err != nil:
		p.giveUp(t, fmt.Errorf("the group has no leader now, nothing was stored: %w", err), true)
	case addr == "":
		if t.pull != nil {
			t.dropCommit(t.r.Cmd)
		}
		p.guarded(t.r, t.leader)
	case t.again:
		// Two replicas that take each other for the leader must not play ball.
		p.giveUp(t, errors.New("this replica does not lead its group, nothing was stored"), true)
	default:
		p.ask(t, addr)
	}
}

var errLate = errors.New("the leader was found too late")

// guarded runs a handler outside the goroutine that the request came with. A panic there costs one SYSTEM_ERROR.
func (p *Processors) guarded(r *remoting.Request, h remoting.HandlerFunc) {
	defer func() {
		if v := recover(); v != nil {
			p.Logger.Error("panic in a handler", "code", r.Cmd.Code, "peer", r.Conn.RemoteAddr(), "panic", v, "stack", string(debug.Stack()))
			r.Reply(&protocol.Command{Code: protocol.SystemError, Remark: "internal error"})
		}
	}()
	h(r)
}

// attempt is a request that a leader was asked to answer. Whoever takes it out of Processors.attempts goes on with it.
type attempt struct {
	*transit
	begun time.Time
}

// ask has the leader at addr answer.
func (p *Processors) ask(t *transit, addr string) {
	cmd := *t.r.Cmd // its body is never written to
	cmd.Ext = append(make(protocol.Fields, 0, len(cmd.Ext)+2), cmd.Ext...)
	cmd.Ext.Set(forwardedFrom, t.r.Conn.RemoteAddr().String())
	a := &attempt{transit: t, begun: time.Now()}
	wait := forwardTimeout
	if t.pull != nil {
		t.dropCommit(&cmd)
		left := max(t.waits.Sub(a.begun), 0)
		cmd.Ext.Set("suspendTimeoutMillis", strconv.FormatInt(left.Milliseconds(), 10))
		wait += left
	}
	if cmd.IsOneway() {
		cmd.Flag = 0
		cmd.Ext.Set(forwardedOneway, "true")
	}
	p.mu.Lock()
	p.attempts[a] = struct{}{}
	p.mu.Unlock()
	p.Peers.CallAsync(addr, &cmd, a.begun.Add(wait), func(resp *protocol.Command, err error) {
		if p.take(a) {
			p.answered(t, resp, err)
		}
	})
}

// commitFresh is how long the progress that came with a pull may wait for a leader: less than consumers take between two
// reports of it.
const commitFresh = time.Second

// dropCommit takes the progress out of a pull that is not new: the consumer has consumed meanwhile, and told the leader.
func (t *transit) dropCommit(cmd *protocol.Command) {
	if t.asked || time.Since(t.r.Received) > commitFresh {
		cmd.Ext.Set("sysFlag", strconv.FormatInt(int64(t.pull.SysFlag&^pullHasCommit), 10))
	}
	t.asked = true
}

// take reports whether the caller is the first to know how an attempt ended.
func (p *Processors) take(a *attempt) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.attempts[a]
	delete(p.attempts, a)
	return ok
}

func (p *Processors) answered(t *transit, resp *protocol.Command, err error) {
	certain := errors.Is(err, remoting.ErrNotSent) || errors.Is(err, remoting.ErrBacklog)
	if err == nil {
		if _, certain = resp.Ext.Get(notDone); !certain {
			t.r.Reply(remoting.Clone(resp))
			return
		}
		err = errors.New(resp.Remark)
	}
	switch {
	case !certain && t.use == change:
		p.giveUp(t, fmt.Errorf("the leader did not answer, the request may or may not be carried out: %w", err), false)
	case time.Now().Before(t.until):
		p.pass(t, forwardPause) // the leader is gone and the next one not known yet
	default:
		p.giveUp(t, fmt.Errorf("the leader did not answer: %w", err), certain)
	}
}

// giveUp answers a request that no leader has answered; certain says that it was not carried out.
func (p *Processors) giveUp(t *transit, err error, certain bool) {
	if t.r.Cmd.IsOneway() {
		p.Logger.Debug("a oneway request was not passed on to the leader", "code", t.r.Cmd.Code, "error", err)
		t.r.Done()
		return
	}
	if t.pull != nil && !t.again && !time.Now().Before(t.waits) {
		t.r.Reply(nothingYet(t.pull)) // as the leader answers when the time is over
		return
	}
	resp := unavailable(err)
	if t.again && certain {
		resp.Ext.Set(notDone, "true")
	}
	t.r.Reply(resp)
}

// abandon goes on with requests whose leader was lost at a time: queries look for the next one. With changes, those get an
// answer too: whether they are carried out will never be known here.
func (p *Processors) abandon(lost time.Time, changes bool) {
	for _, a := range p.takeAll(func(a *attempt) bool { return a.begun.Before(lost) && (changes || a.use != change) }) {
		p.answered(a.transit, nil, errLeaderLost)
	}
}

var errLeaderLost = errors.New("it leads no more")

func (p *Processors) takeAll(match func(*attempt) bool) []*attempt {
	p.mu.Lock()
	defer p.mu.Unlock()
	var taken []*attempt
	for a := range p.attempts {
		if match(a) {
			delete(p.attempts, a)
			taken = append(taken, a)
		}
	}
	return taken
}

// nothingYet answers a pull that waited for messages in vain, from a replica that knows no more than the client does.
func nothingYet(h *protocol.PullMessageRequestHeader) *protocol.Command {
	next := &protocol.PullMessageResponseHeader{NextBeginOffset: h.QueueOffset, MinOffset: h.QueueOffset, MaxOffset: h.QueueOffset}
	return &protocol.Command{Code: protocol.PullNotFound, Remark: "the group has no leader now", Ext: next.AppendFields(nil)}
}

// refuse answers a request that failed; one that came as the lead went to another replica is passed on to that one.
func (p *Processors) refuse(r *remoting.Request, err *broker.Refusal) {
	if _, ok := p.routes[r.Cmd.Code]; ok && err.Reason == broker.NotLeader && p.Leadership != nil {
		p.passOnLater(r)
		return
	}
	r.Reply(refusal(err))
}

func unavailable(err error) *protocol.Command {
	return &protocol.Command{Code: protocol.ServiceNotAvailable, Remark: err.Error()}
}
