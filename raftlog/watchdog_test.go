package raftlog

import (
	"testing"
	"time"
)

// The disk is charged for the time in which this process could have seen it answer.
func TestWatchdogDoesNotCountPauses(t *testing.T) {
	const limit = 3 * time.Second
	w := watchdog{limit: limit}
	place := w.begin("fsync", "f")
	now := time.Now()
	look := func(after time.Duration) error {
		now = now.Add(after)
		return w.stalled(now)
	}
	if err := look(w.tick()); err != nil {
		t.Fatal(err)
	}
	if err := look(time.Hour); err != nil { // SIGSTOP, SIGCONT
		t.Errorf("a pause counts as the disk's: %v", err)
	}
	var err error
	looks := 0
	for ; err == nil && looks < 100; looks++ {
		err = look(w.tick())
	}
	if err == nil || looks > 4 {
		t.Errorf("a disk that hangs is noticed after %d looks: %v", looks, err)
	}
	w.end(place)
	if err := look(w.tick()); err != nil {
		t.Errorf("after the operation's end: %v", err)
	}
}
