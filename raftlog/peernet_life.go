package raftlog

import (
	"net"
	"sync"
)

// taskGroup owns goroutines. After close it starts no more.
type taskGroup struct {
	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

// spawn runs f in a goroutine; it reports whether it did.
func (g *taskGroup) spawn(f func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.wg.Go(f)
	return true
}

// close waits for all goroutines.
func (g *taskGroup) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.wg.Wait()
}

// connSet holds open connections so that they can be closed together. After close it takes no more.
type connSet struct {
	mu     sync.Mutex
	max    int // 0: no limit
	closed bool
	all    map[net.Conn]struct{}
}

func (s *connSet) init(max int) { s.max, s.all = max, make(map[net.Conn]struct{}) }

// add takes a connection; it reports whether there was room.
func (s *connSet) add(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.max > 0 && len(s.all) >= s.max {
		return false
	}
	s.all[c] = struct{}{}
	return true
}

// drop closes a connection and forgets it.
func (s *connSet) drop(c net.Conn) {
	s.mu.Lock()
	delete(s.all, c)
	s.mu.Unlock()
	c.Close() //nolint:errcheck // whatever was sent and not answered counts as lost
}

func (s *connSet) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

// close closes all connections; who uses one drops it.
func (s *connSet) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.all {
		c.Close() //nolint:errcheck // as above
	}
}
