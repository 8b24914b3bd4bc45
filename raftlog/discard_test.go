package raftlog

import "testing"

// TestDropIsTriedAgain: a snapshot can fail for a moment, after the floor was raised. The next call with the same entry frees what
// the first one could not.
func TestDropIsTriedAgain(t *testing.T) {
	noLeaks(t)
	m := found(t, 2, testTimings)
	m.leader(-1)
	m.grow(0, 60, 50<<10)
	p, _, release := m.point(0)
	seed, err := OpenSeeder("/d/log", m.options(1, Options{SegmentBytes: 128 << 10}), p.WithoutBytes())
	if err != nil {
		t.Fatal(err)
	}
	if seed.Commit() != nil || seed.Close() != nil {
		t.Fatal("not seeded")
	}
	release()
	l := m.open(1, Options{SegmentBytes: 128 << 10, Flush: SyncFlush})
	m.run(1, l, Discard(l))
	m.learner(0, 1)
	m.grow(0, 150, 1<<20) // all that the arbiter lacks stays
	last := m.nodes[0].log.Status().LastIndex
	m.await("the arbiter has it all", func() bool { return l.Status().AppliedIndex >= last })
	s, ok, err := l.index.find(last - 1)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	l.sm.(*discard).floor.Store(s.off)
	if err := l.DropBelow(last); err != nil {
		t.Fatal(err)
	}
	if got := l.SizeBytes(); got > 128<<10 {
		t.Errorf("%d bytes are kept", got)
	}
}
