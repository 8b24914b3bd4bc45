package remoting

import (
	"context"
	"errors"
	"log/slog"
)

// ServerStats are counters since start, except where they say "now".
type ServerStats struct {
	Conns         int    // connections now
	Accepted      uint64 // connections
	Refused       uint64 // connections over ConnsMax
	FramesIn      uint64
	BytesIn       uint64 // as frames: without TCP and TLS overhead
	BytesOut      uint64
	Busy          uint64 // requests answered SYSTEM_BUSY because their class or the memory for requests was full
	BadFrames     uint64 // connections closed for a frame that cannot be read
	Timeouts      uint64 // connections closed by a timeout other than IdleTimeout
	SlowReaders   uint64 // connections reset for unread answers
	InboundBytes  int64  // held by half-received and unanswered large frames now
	OutboundBytes int64  // that wait for peers to read them now
}

// Stats returns the counters. They are read one by one, not at one moment.
func (s *Server) Stats() ServerStats {
	h := s.host
	h.mu.Lock()
	conns := len(h.conns)
	h.mu.Unlock()
	return ServerStats{
		Conns:         conns,
		Accepted:      h.count.accepted.Load(),
		Refused:       h.count.refused.Load(),
		FramesIn:      h.count.framesIn.Load(),
		BytesIn:       h.count.bytesIn.Load(),
		BytesOut:      h.count.bytesOut.Load(),
		Busy:          h.count.busy.Load(),
		BadFrames:     h.count.badFrames.Load(),
		Timeouts:      h.count.timeouts.Load(),
		SlowReaders:   h.count.slowReaders.Load(),
		InboundBytes:  h.inbound.held.Load(),
		OutboundBytes: h.outbound.Load(),
	}
}

// note counts and logs how c ended. What a peer can cause at will is logged for debugging only: it is counted.
func (h *host) note(c *Conn) {
	level := slog.LevelDebug
	switch err := c.err; {
	case errors.Is(err, errBadFrame):
		h.count.badFrames.Add(1)
	case errors.Is(err, errFrameTimeout):
		h.count.timeouts.Add(1)
	case errors.Is(err, errWriteTimeout), errors.Is(err, errSlowReader):
		h.count.slowReaders.Add(1)
		level = slog.LevelWarn
	case errors.Is(err, errBudget):
		level = slog.LevelWarn
	}
	h.log.Log(context.Background(), level, "connection ended", "peer", c.remote, "id", c.id, "reason", c.err)
}
