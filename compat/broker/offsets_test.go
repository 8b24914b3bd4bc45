package broker

import (
	"errors"
	"testing"

	"rmq/raftlog"
	"rmq/store"
	"rmq/store/message"
)

func isCommand(record []byte) bool {
	_, _, magic, err := message.NextItem(record)
	return err == nil && !message.IsMessage(magic)
}

// Progress that a consumer reports while its topic is being deleted must not be there when the topic is made again.
func TestProgressDuringTheDeletionOfItsTopic(t *testing.T) {
	b := newBench(t)
	b.put(t, "T")
	q := store.QueueID{Topic: "T"}
	if err := b.CommitOffset("g", q, 1); err != nil {
		t.Fatal(err)
	}
	b.log.outcome = func(record []byte) (error, bool) {
		if isCommand(record) {
			b.log.outcome = nil // once: the deletion is on its way, the topic still there
			b.offsets.mu.Lock()
			b.offsets.dirty[offsetKey{"g", q}] = progress{1, 1}
			b.offsets.mu.Unlock()
		}
		return nil, false
	}
	if err := b.DeleteTopic(t.Context(), "T"); err != nil {
		t.Fatal(err)
	}
	if err := b.CommitOffset("g", q, 1); reason(err) != reason(b.topicNotExist("T")) {
		t.Errorf("progress in a deleted topic: %v", err)
	}
	if err := b.FlushOffsets(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.put(t, "T")
	if o, ok := b.Offset("g", q); ok {
		t.Errorf("the new topic begins with progress %d", o)
	}
}

// Progress reported before a reset does not show after it, not even until it would have been flushed.
func TestProgressFromBeforeAReset(t *testing.T) {
	b := newBench(t)
	for range 5 {
		b.put(t, "T")
	}
	q := store.QueueID{Topic: "T"}
	if err := b.CommitOffset("g", q, 5); err != nil {
		t.Fatal(err)
	}
	if err := b.ResetOffsets(t.Context(), "g", "T", map[int32]int64{0: 2}); err != nil {
		t.Fatal(err)
	}
	at := func(want int64) {
		t.Helper()
		if o, ok := b.Offset("g", q); !ok || o != want {
			t.Errorf("progress %d %v, want %d", o, ok, want)
		}
	}
	at(2)
	if err := b.CommitOffset("g", q, 5); err != nil { // from the old position: accepted and ignored
		t.Fatal(err)
	}
	at(2)
	res := <-b.park(PullRequest{Queue: q, Offset: 5}).done
	if res.Status != PullOffsetMoved || res.NextOffset != 2 {
		t.Errorf("pull: %+v", res)
	}
	if err := b.CommitOffset("g", q, 3); err != nil {
		t.Fatal(err)
	}
	at(3)
	if err := b.FlushOffsets(t.Context()); err != nil {
		t.Fatal(err)
	}
	at(3)
}

func TestFlushThatFailsIsTriedAgain(t *testing.T) {
	b := newBench(t)
	b.put(t, "T")
	b.put(t, "T")
	q := store.QueueID{Topic: "T"}
	if err := b.CommitOffset("g", q, 9); err != nil {
		t.Fatal(err)
	}
	b.log.outcome = func([]byte) (error, bool) { return raftlog.ErrBusy, false }
	if err := b.FlushOffsets(t.Context()); !errors.Is(err, raftlog.ErrBusy) {
		t.Errorf("flush: %v", err)
	}
	b.log.outcome = nil
	if o, _ := b.Offset("g", q); o != 2 { // not beyond the end
		t.Errorf("progress %d", o)
	}
	if err := b.FlushOffsets(t.Context()); err != nil {
		t.Fatal(err)
	}
	if o, _ := b.Store().Offset("g", "T", 0); o != 2 {
		t.Errorf("stored progress %d", o)
	}
}

// A leader that lost the lead and has it again has collected progress that another one has heard of more since.
func TestProgressOfAnEarlierTermIsForgotten(t *testing.T) {
	b := newBench(t)
	b.put(t, "T")
	q := store.QueueID{Topic: "T"}
	b.log.term.Store(1)
	if err := b.CommitOffset("g", q, 1); err != nil {
		t.Fatal(err)
	}
	b.log.term.Store(3)
	if o, ok := b.Offset("g", q); ok {
		t.Errorf("progress %d of term 1 is told in term 3", o)
	}
}
