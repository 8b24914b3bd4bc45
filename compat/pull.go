package compat

import (
	"sync"
	"time"

	"rmq/compat/broker"
	"rmq/remoting"
	"rmq/remoting/protocol"
	"rmq/store"
)

// Bits of a pull request's sysFlag.
const (
	pullHasCommit     = 1
	pullMaySuspend    = 2
	pullHasExpression = 4
	pullIsLite        = 16
)

// suspendMax bounds how long a client may ask to wait; stock clients say 15 or 20 s, and idle connections live 120 s.
const suspendMax = 100 * time.Second

// pullBuffers holds the buffers that messages are read into on their way to a socket.
var pullBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 64<<10); return &b }}

// pullBufferMax bounds what goes back to the pool.
const pullBufferMax = 512 << 10

func (p *Processors) pull(r *remoting.Request) {
	if req, ok := pullRequest(r); ok {
		p.answerPull(r, req, func(*broker.PullResult) bool { return true })
	}
}

// suspendTime is how long a pull asks to wait for a message.
func suspendTime(h *protocol.PullMessageRequestHeader) time.Duration {
	if h.SysFlag&pullMaySuspend == 0 {
		return 0
	}
	return time.Duration(min(max(h.SuspendTimeoutMillis, 0), suspendMax.Milliseconds())) * time.Millisecond
}

// pullRequest reads a pull; one that cannot be read is answered.
func pullRequest(r *remoting.Request) (*broker.PullRequest, bool) {
	var h protocol.PullMessageRequestHeader
	if err := h.Decode(r.Cmd.Ext); err != nil {
		r.Reply(&protocol.Command{Code: protocol.SystemError, Remark: err.Error()})
		return nil, false
	}
	req := &broker.PullRequest{
		Group: h.ConsumerGroup, Queue: store.QueueID{Topic: h.Topic, ID: h.QueueID}, Offset: h.QueueOffset, MessagesMax: int(h.MaxMsgNums),
		CommitOffset: h.CommitOffset, HasCommit: h.SysFlag&pullHasCommit != 0, Lite: r.Cmd.Code == protocol.LitePullMessage,
		HasExpression: h.SysFlag&pullHasExpression != 0, Expression: h.Subscription, ExpressionVer: h.SubVersion, Type: h.ExpressionType,
	}
	if h.HasMaxMsgBytes {
		req.BytesMax = int(h.MaxMsgBytes)
	}
	if wait := suspendTime(&h); wait > 0 {
		req.Suspend = max(wait-time.Since(r.Received), time.Millisecond) // it may have waited for a leader before
	}
	return req, true
}

// answerPull has the broker answer a pull. accept may keep a result from the client, and has to answer it then.
func (p *Processors) answerPull(r *remoting.Request, req *broker.PullRequest, accept func(*broker.PullResult) bool) {
	var buf *[]byte
	p.broker.Pull(req, func() []byte {
		if buf == nil {
			buf = pullBuffers.Get().(*[]byte)
		}
		return (*buf)[:0]
	}, func() {
		r.Park()
		if buf != nil { // a filter wanted nothing of what there was
			releasePullBuffer(buf)
			buf = nil
		}
	}, func(res broker.PullResult) {
		if !accept(&res) {
			if buf != nil {
				releasePullBuffer(buf)
			}
			return
		}
		resp := pullAnswer(res)
		if buf == nil {
			r.Reply(resp)
			return
		}
		if cap(res.Messages) > cap(*buf) {
			*buf = res.Messages // it grew: keep the larger one
		}
		r.ReplyBuffer(resp, func() { releasePullBuffer(buf) })
	})
}

func releasePullBuffer(buf *[]byte) {
	if cap(*buf) <= pullBufferMax {
		pullBuffers.Put(buf)
	}
}

func pullAnswer(res broker.PullResult) *protocol.Command {
	h := protocol.PullMessageResponseHeader{SuggestWhichBrokerID: res.Suggest, NextBeginOffset: res.NextOffset, MinOffset: res.MinOffset, MaxOffset: res.MaxOffset}
	resp := &protocol.Command{Remark: res.Detail}
	if res.Err != nil {
		r := broker.AsRefusal(res.Err)
		resp.Code, resp.Remark = responseCode(r.Reason), r.Text
		h.ForbiddenType, h.HasForbiddenType = r.Forbidden, r.Forbidden != 0
	} else {
		switch res.Status {
		case broker.PullFound:
			resp.Code, resp.Body = protocol.Success, res.Messages
		case broker.PullNoNew:
			resp.Code = protocol.PullNotFound
		case broker.PullNoMatch:
			resp.Code = protocol.PullRetryImmediately
		case broker.PullOffsetMoved:
			resp.Code = protocol.PullOffsetMoved
		}
	}
	resp.Ext = h.AppendFields(make(protocol.Fields, 0, 8))
	return resp
}
