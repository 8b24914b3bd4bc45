package controller

import (
	"context"
	"sync/atomic"
)

// Switchboard answers the calls at the Raft port of a replica, all its life: it is the port's Handler, from before it is known what
// the replica is until it ends.
type Switchboard struct {
	answer atomic.Pointer[answerer]
}

// answerer answers one call. The body of the answer is v as JSON with raw behind it.
type answerer func(ctx context.Context, m Message) (v any, raw []byte, err error)

// Handle is for raftlog.PeerNetOptions.Handler.
func (s *Switchboard) Handle(ctx context.Context, _ string, request []byte) []byte {
	m, err := DecodeMessage(request)
	if err != nil {
		return encodeAnswer(nil, nil, refuse(CodeRefused, "%v", err))
	}
	answer := s.answer.Load()
	if answer == nil {
		return encodeAnswer(nil, nil, refuse(CodeNotNow, "this replica is starting"))
	}
	v, raw, err := (*answer)(ctx, m)
	return encodeAnswer(v, raw, err)
}

// connect has calls answered by a from now on.
func (s *Switchboard) connect(a answerer) {
	if s != nil {
		s.answer.Store(&a)
	}
}

// greet answers who this replica is, and nothing else: it is on its way into the group.
func greet(o *Options) answerer {
	return func(_ context.Context, m Message) (any, []byte, error) {
		if Kind(m.Head) != CallHello {
			return nil, nil, refuse(CodeNotNow, "this replica is on its way into the group")
		}
		return Self(*o), nil, nil
	}
}
