package compat

import (
	"strconv"
	"strings"
	"sync"

	"rmq/compat/broker"
	"rmq/remoting"
	"rmq/remoting/protocol"
	"rmq/store/message"
)

func (p *Processors) send(r *remoting.Request) {
	var h protocol.SendMessageRequestHeader
	if err := h.Decode(r.Cmd.Ext); err != nil {
		r.Reply(&protocol.Command{Code: protocol.SystemError, Remark: err.Error()})
		return
	}
	p.sendDecoded(r, &h)
}

func (p *Processors) sendV2(r *remoting.Request) {
	var v2 protocol.SendMessageRequestHeaderV2
	if err := v2.Decode(r.Cmd.Ext); err != nil {
		r.Reply(&protocol.Command{Code: protocol.SystemError, Remark: err.Error()})
		return
	}
	h := protocol.SendMessageRequestHeader(v2) // the same fields under short names
	p.sendDecoded(r, &h)
}

func (p *Processors) sendDecoded(r *remoting.Request, h *protocol.SendMessageRequestHeader) {
	req := broker.SendRequest{
		Topic: h.Topic, DefaultTopic: h.DefaultTopic, DefaultTopicQueues: h.DefaultTopicQueueNums,
		QueueID: h.QueueID, SysFlag: h.SysFlag, BornTimestamp: h.BornTimestamp, BornHost: bornHost(r), Flag: h.Flag,
		Properties: h.Properties, ReconsumeTimes: h.ReconsumeTimes, MaxReconsumeTimes: -1,
		Batch: h.Batch || r.Cmd.Code == protocol.SendBatchMessage, Body: r.Cmd.Body,
	}
	if h.HasMaxReconsumeTimes && r.Cmd.Version >= protocol.V3_4_9 {
		req.MaxReconsumeTimes = h.MaxReconsumeTimes
	}
	if p.Leadership != nil {
		r.Detach() // it may have to be passed on
	}
	err := p.broker.Send(&req, func(res broker.SendResult) { p.sent(r, res) })
	if err != nil {
		p.notSent(r, broker.AsRefusal(err), false)
	}
}

// sendAnswer is room for the answer to a send; an answer may be used again once it is given.
type sendAnswer struct {
	command protocol.Command
	fields  [8]protocol.Field
}

var sendAnswers = sync.Pool{New: func() any { return new(sendAnswer) }}

// sent answers a send.
func (p *Processors) sent(r *remoting.Request, res broker.SendResult) {
	if res.Err != nil {
		p.notSent(r, broker.AsRefusal(res.Err), res.Batched)
		return
	}
	h := protocol.SendMessageResponseHeader{
		MsgID: p.messageIDs(res), QueueID: res.QueueID, QueueOffset: res.QueueOffset, TransactionID: res.UniqueKey,
		MsgRegion: p.broker.Region(), TraceOn: strconv.FormatBool(p.broker.TraceOn()),
	}
	a := sendAnswers.Get().(*sendAnswer)
	a.command = protocol.Command{Code: sendCode(res.Status), Ext: h.AppendFields(a.fields[:0])}
	p.replyTo(r, &a.command, res.Batched)
	sendAnswers.Put(a)
}

// notSent answers a send that was refused; one that came as the lead went to another replica is passed on to that one.
func (p *Processors) notSent(r *remoting.Request, err *broker.Refusal, batched bool) {
	if err.Reason == broker.NotLeader && p.Leadership != nil {
		p.passOnLater(r)
		return
	}
	p.replyTo(r, refusal(err), batched)
}

// replyTo answers a request, together with others when the log hands out a run of results.
func (p *Processors) replyTo(r *remoting.Request, resp *protocol.Command, batched bool) {
	if batched {
		p.replyBatched(r, resp)
	} else {
		r.Reply(resp)
	}
}

// messageIDs are the offsetMsgIds of what was stored, joined by commas for a batch.
func (p *Processors) messageIDs(res broker.SendResult) string {
	host := p.broker.Options().Host
	if len(res.Offsets) == 0 {
		return message.OffsetID(host, res.Offset)
	}
	var ids strings.Builder
	for i, o := range res.Offsets {
		if i > 0 {
			ids.WriteByte(',')
		}
		ids.WriteString(message.OffsetID(host, o))
	}
	return ids.String()
}
