package raftlog

import (
	"context"
	"errors"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	probesMax  = 10 // for a port that takes connections and ends them, as a process does that is going
	probePause = 5 * time.Millisecond
)

// leaderWatch looks after the port of the leader when a connection from it has ended.
type leaderWatch struct {
	n *PeerNet

	mu      sync.Mutex
	addr    string
	term    uint64
	armed   bool // it may be reported
	probing bool
	again   bool // another connection has ended meanwhile
}

// heard notes that the leader of term, at addr, has been accepted as such on a connection that is new in this.
func (w *leaderWatch) heard(addr string, term uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if term >= w.term {
		w.addr, w.term, w.armed = addr, term, true
	}
}

// forget notes that this replica itself leads in term.
func (w *leaderWatch) forget(term uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if term >= w.term {
		w.term, w.armed = term, false
	}
}

// lost notes that a connection has ended.
func (w *leaderWatch) lost(c *peerConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.n.o.OnPeerDown == nil || !w.armed || c.leaderTerm != w.term {
		return
	}
	if w.probing {
		w.again = true
		return
	}
	w.probing = w.n.tasks.spawn(w.look)
}

// look finds out whether the leader's port is open and reports it if not.
func (w *leaderWatch) look() {
	for {
		w.mu.Lock()
		addr, term := w.addr, w.term
		w.again = false
		w.mu.Unlock()
		down, refused := w.probe(addr)
		w.mu.Lock()
		report := down && w.armed && w.addr == addr && w.term == term && w.n.ctx.Err() == nil
		if report {
			w.armed = false
		}
		more := w.again && w.armed
		w.probing = more
		w.mu.Unlock()
		if report {
			w.n.log.Info("the leader's port does not answer", "addr", addr, "term", term, "refused", refused)
			w.n.o.OnPeerDown(addr, refused)
		}
		if !more {
			return
		}
	}
}

func (w *leaderWatch) probe(addr string) (down, refused bool) {
	ctx := w.n.ctx
	for range probesMax {
		w.n.stats.probes.Add(1)
		c, err := w.n.dial(ctx, addr, streamProbe, "")
		var refusal *PeerRefusal
		switch {
		case err == nil:
			c.Close() //nolint:errcheck // nothing was to be said
			return false, false
		case errors.As(err, &refusal) || ctx.Err() != nil:
			return false, false
		case errors.Is(err, syscall.ECONNREFUSED):
			return true, true
		case errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
			errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH):
			return true, false
		}
		select {
		case <-time.After(probePause):
		case <-ctx.Done():
			return false, false
		}
	}
	return false, false
}
