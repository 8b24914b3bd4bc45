package compat

import (
	"context"
	"time"

	"rmq/compat/broker"
	"rmq/remoting"
	"rmq/remoting/protocol"
)

// Reads that a replica which does not lead answers from its copy: what is committed and applied there. It may know less
// than the leader does, so it never says that something is not there; the leader says that, if there is one.

// copyOf makes the handler of such a read out of the leader's.
func copyOf[H any, D decoder[H]](p *Processors, f func(ctx context.Context, r *remoting.Request, h *H) (answer, error)) remoting.HandlerFunc {
	return func(r *remoting.Request) {
		h := new(H)
		if err := D(h).Decode(r.Cmd.Ext); err != nil {
			r.Reply(&protocol.Command{Code: protocol.SystemError, Remark: err.Error()})
			return
		}
		known := true
		if topic, ok := r.Cmd.Ext.Get("topic"); ok {
			_, known = p.broker.Store().Topic(topic)
		}
		ctx, cancel := context.WithTimeout(p.ctx, requestTimeout)
		defer cancel()
		a, err := f(ctx, r, h)
		switch {
		case (!known || err != nil || a.code != protocol.Success) && !p.Acting():
			p.passOn(r)
		case err != nil:
			r.Reply(refusal(err))
		default:
			a.to(r)
		}
	}
}

// offsetCopy answers QUERY_CONSUMER_OFFSET while this replica stands in for the leader. The progress that it knows may be
// old, and messages come again then; of a progress that it does not know it must not say that there is none, because
// consumers would start anew.
func (p *Processors) offsetCopy(r *remoting.Request) {
	var h protocol.QueryConsumerOffsetRequestHeader
	if err := h.Decode(r.Cmd.Ext); err != nil {
		r.Reply(&protocol.Command{Code: protocol.SystemError, Remark: err.Error()})
		return
	}
	offset, known := p.broker.Store().Offset(h.ConsumerGroup, h.Topic, h.QueueID)
	if !p.Acting() || !known {
		p.passOn(r)
		return
	}
	a := answer{header: &protocol.QueryConsumerOffsetResponseHeader{Offset: offset}}
	a.to(r)
}

// leaderlessSuspend bounds how long a pull waits for messages on a copy while this replica knows of no leader: nothing new
// comes here, and the client may find the leader where this replica does not.
const leaderlessSuspend = time.Second

// pullCopy answers a pull from the copy. What only the leader may say it leaves to the leader: that an offset is outside
// the queue, on which clients move their progress, and every refusal.
func (p *Processors) pullCopy(r *remoting.Request) {
	req, ok := pullRequest(r)
	if !ok {
		return
	}
	if req.HasCommit {
		p.passCommit(r, req)
		req.HasCommit = false
	}
	acting := p.Acting()
	if !acting && p.leader.leaderless(time.Now(), 0) {
		req.Suspend = min(req.Suspend, leaderlessSuspend)
	}
	if req.Offset > p.broker.Store().MaxOffset(req.Queue) {
		p.passOn(r) // what the client has seen is not here yet
		return
	}
	p.answerPull(r, req, func(res *broker.PullResult) bool {
		moved := res.Err == nil && res.Status == broker.PullOffsetMoved
		removed := moved && req.Offset < res.MinOffset // from every copy
		if (res.Err != nil || moved) && !(acting && (res.Err != nil || removed)) {
			p.passOn(r)
			return false
		}
		return true
	})
}

// passCommit passes the progress that came with a pull on to the leader, if there is one.
func (p *Processors) passCommit(r *remoting.Request, req *broker.PullRequest) {
	cmd := protocol.NewRequest(protocol.UpdateConsumerOffset, &protocol.UpdateConsumerOffsetRequestHeader{
		ConsumerGroup: req.Group, Topic: req.Queue.Topic, QueueID: req.Queue.ID, CommitOffset: req.CommitOffset,
	})
	cmd.Ext.Set(forwardedFrom, r.Conn.RemoteAddr().String())
	p.passing.Lock()
	defer p.passing.Unlock()
	if p.ctx.Err() != nil || p.leader.leaderless(time.Now(), 0) {
		return // the client reports again
	}
	p.forwards.Go(func() {
		ctx, cancel := context.WithTimeout(p.ctx, leaderWait)
		defer cancel()
		addr, err := p.Leadership.LeaderAddr(ctx)
		if err == nil {
			err = p.Peers.Oneway(ctx, addr, cmd)
		}
		if err != nil {
			p.Logger.Debug("progress was not passed on to the leader", "group", req.Group, "error", err)
		}
	})
}
