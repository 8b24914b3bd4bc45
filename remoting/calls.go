package remoting

import (
	"bytes"
	"errors"
	"sync"
	"time"

	"rmq/remoting/protocol"
)

// How a call or push can fail, besides by its context. Test with errors.Is.
var (
	// ErrClosed: this side closed the connection, the client or the server. The peer may have acted.
	ErrClosed = errors.New("remoting: closed")
	// ErrConnLost: the connection ended before the answer came. The peer may have acted.
	ErrConnLost = errors.New("remoting: connection lost")
	// ErrTimeout: no answer in time. The peer may have acted, and its answer will be dropped.
	ErrTimeout = errors.New("remoting: no answer in time")
	// ErrBacklog: too much waits on the connection already. Nothing was sent.
	ErrBacklog = errors.New("remoting: too much waits on the connection")
	// ErrNotSent: there is no connection to the peer. Nothing was sent.
	ErrNotSent = errors.New("remoting: not sent")
)

// answer is what a call ends with: one of the two is set.
type answer struct {
	cmd *protocol.Command
	err error
}

// call is a request that waits for its answer. Whoever takes it out of calls.pending ends it, exactly once.
type call struct {
	deadline time.Time                      // zero: its caller watches the time
	ch       chan answer                    // set for Call: room for one
	done     func(*protocol.Command, error) // set for CallAsync
}

// end hands the answer over. A command given to it belongs to the callee (done: until it returns).
func (c call) end(cmd *protocol.Command, err error) {
	if c.done != nil {
		c.done(cmd, err)
		return
	}
	c.ch <- answer{cmd, err}
}

// calls are the requests of one connection that wait for an answer. Safe for concurrent use.
type calls struct {
	mu      sync.Mutex
	max     int
	opaque  int32
	pending map[int32]call
	closed  bool
}

// add enters c and returns the opaque to send it with.
func (s *calls) add(c call) (int32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, ErrNotSent
	}
	if len(s.pending) >= s.max {
		return 0, ErrBacklog
	}
	if s.pending == nil {
		s.pending = make(map[int32]call)
	}
	for {
		s.opaque++
		if _, used := s.pending[s.opaque]; !used {
			break
		}
	}
	s.pending[s.opaque] = c
	return s.opaque, nil
}

// nextOpaque returns an opaque for a request without an answer.
func (s *calls) nextOpaque() int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opaque++
	return s.opaque
}

// take removes and returns the call of opaque, if it is still there.
func (s *calls) take(opaque int32) (call, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.pending[opaque]
	if ok {
		delete(s.pending, opaque)
	}
	return c, ok
}

// expired removes and returns the calls whose deadline is not after now.
func (s *calls) expired(now time.Time) []call {
	s.mu.Lock()
	defer s.mu.Unlock()
	var late []call
	for opaque, c := range s.pending {
		if !c.deadline.IsZero() && !c.deadline.After(now) {
			late = append(late, c)
			delete(s.pending, opaque)
		}
	}
	return late
}

// close refuses further calls and returns those that wait.
func (s *calls) close() map[int32]call {
	s.mu.Lock()
	defer s.mu.Unlock()
	pending := s.pending
	s.pending, s.closed = nil, true
	return pending
}

// Clone returns a copy of cmd that shares no memory which changes, for callbacks and handlers that keep it.
func Clone(cmd *protocol.Command) *protocol.Command {
	own := *cmd
	own.Ext = append(protocol.Fields(nil), cmd.Ext...)
	own.Body = bytes.Clone(cmd.Body)
	return &own
}
