package broker

import (
	"errors"
	"testing"
	"time"

	"rmq/raftlog"
	"rmq/store"
	"rmq/store/message"
)

// An entry that moves parked messages and whose outcome is unknown may be committed yet: the same messages must not be moved
// again before a barrier tells. The duties end, and the next ones begin behind one.
func TestRefilingOfUnknownOutcomeEndsTheDuties(t *testing.T) {
	b := newBench(t)
	b.put(t, "T", "DELAY", "1")
	fired := 0
	b.log.outcome = func(record []byte) (error, bool) {
		if _, _, magic, err := message.NextItem(record); err == nil && !message.IsMessage(magic) {
			fired++
			return nil, true
		}
		return nil, false
	}
	ended := make(chan error, 1)
	go func() { ended <- b.Lead(t.Context()) }()
	for {
		b.clock.advance(2 * time.Second)
		select {
		case err := <-ended:
			if !errors.Is(err, errRefilingUncertain) || !errors.Is(err, raftlog.ErrUncertain) {
				t.Errorf("the duties ended with %v", err)
			}
			if fired != 1 {
				t.Errorf("fired %d times in one term", fired)
			}
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// What was refused was not appended: the duties go on and it is tried again.
func TestRefilingThatIsRefusedIsTriedAgain(t *testing.T) {
	b := newBench(t)
	b.put(t, "T", "DELAY", "1")
	refusals := 2
	b.log.outcome = func([]byte) (error, bool) {
		if refusals--; refusals >= 0 {
			return raftlog.ErrBusy, false
		}
		return nil, false
	}
	end := b.lead(t)
	settle(t, "the message is delivered", func() bool {
		b.clock.advance(2 * time.Second)
		return b.Store().MaxOffset(store.QueueID{Topic: "T"}) == 1
	})
	if err := end(); err != nil {
		t.Errorf("the duties ended with %v", err)
	}
}

// Searches by time rely on store times that never go back, also when the next leader's clock does.
func TestStoreTimeGoesOnWhereTheLogEnds(t *testing.T) {
	b := newBench(t)
	first := b.put(t, "T")
	before := b.Store().LastStoreTime()
	b.clock.advance(-time.Hour)
	again, err := New(b.log, b.Store(), b.opts) // a new run over the same state
	if err != nil {
		t.Fatal(err)
	}
	b.log.broker = again
	second := b.put(t, "T")
	for _, r := range []SendResult{first, second} {
		m, err := b.Store().MessageAt(r.Offset)
		if err != nil {
			t.Fatal(err)
		}
		if got := message.View(m).StoreTimestamp(); got != before {
			t.Errorf("stored at %d, want %d", got, before)
		}
	}
}
