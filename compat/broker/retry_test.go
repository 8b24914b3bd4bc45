package broker

import (
	"errors"
	"slices"
	"testing"
	"time"

	"rmq/store/message"
)

// outcomes notes the results that callbacks of dedup get.
type outcomes []string

func (o *outcomes) callback(name string) func(SendResult) {
	return func(r SendResult) {
		if r.Err != nil {
			name += " failed"
		}
		*o = append(*o, name)
	}
}

func TestRetryWindow(t *testing.T) {
	var d dedup
	d.init()
	now := time.Unix(1000, 0)
	key := retryKey{"g", "U", 1, 7}
	r := SendBackRequest{Group: "g", Offset: 100}
	twin := SendBackRequest{Group: "g", Offset: 200} // another message of the same key
	var got outcomes
	expect := func(want ...string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("answered %q, want %q", got, want)
		}
		got = nil
	}

	first := d.begin(key, r, now, got.callback("first"))
	if !d.join(key, now, got.callback("fallback")) {
		t.Error("a fallback was not absorbed while the send-back was in flight")
	}
	if d.join(key, now, nil) {
		t.Error("a second fallback was absorbed")
	}
	if d.begin(key, r, now, got.callback("repeated")) != nil {
		t.Error("a repeated send-back is a retry of its own")
	}
	second := d.begin(key, twin, now, got.callback("twin"))
	if second == nil {
		t.Fatal("a send-back of another message was taken for a repeat")
	}
	expect()
	d.resolve(first, SendResult{}) // those who wait for it are answered although the twin has its place
	expect("fallback", "repeated")
	d.resolve(second, SendResult{})
	if !d.join(key, now.Add(retryWindow-1), got.callback("fallback of the twin")) {
		t.Error("a fallback within the window was not absorbed")
	}
	expect("fallback of the twin")

	failed := d.begin(retryKey{"g", "V", 1, 7}, r, now, nil)
	d.join(failed.key, now, got.callback("fallback"))
	d.resolve(failed, SendResult{Err: errors.New("no")})
	expect("fallback failed")
	if d.join(failed.key, now, nil) {
		t.Error("a send-back that failed absorbed a fallback")
	}

	late := now.Add(retryWindow)
	if d.join(key, late, nil) {
		t.Error("a fallback after the window was absorbed")
	}
	last := d.begin(retryKey{"g", "W", 1, 7}, r, late, nil)
	if len(d.entries) != 1 || len(d.order) != 1 || d.order[0] != last {
		t.Errorf("%d entries, %d in order are left", len(d.entries), len(d.order))
	}
}

func TestRetryWindowIsBounded(t *testing.T) {
	var d dedup
	d.init()
	now := time.Unix(1000, 0)
	for i := range int32(retryWindowEntriesMax + 10) {
		d.resolve(d.begin(retryKey{"g", "U", i, 7}, SendBackRequest{}, now, nil), SendResult{})
	}
	if len(d.order) != retryWindowEntriesMax || len(d.entries) != retryWindowEntriesMax {
		t.Errorf("%d entries, %d in order", len(d.entries), len(d.order))
	}
}

// The position that a client sends back may be that of a parked message: its marks must not decide where the copy goes.
func TestSendBackOfAParkedMessage(t *testing.T) {
	b := newBench(t)
	parked := b.put(t, "T", "DELAY", "18", "UNIQ_KEY", "U")
	if err := b.SendBack(SendBackRequest{Group: "g", Offset: parked.Offset, DelayLevel: 1, MaxReconsumeTimes: -1}, func(r SendResult) {
		if r.Err != nil {
			t.Error(r.Err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	due := b.Store().DueTimers(b.clock.Now().Add(time.Second).UnixMilli(), 10)
	if len(due) != 1 {
		t.Fatalf("due after a second: %v", due)
	}
	m, err := b.Store().MessageAt(due[0].Offset)
	if err != nil {
		t.Fatal(err)
	}
	if topic, _ := message.View(m).Properties().Get(message.PropertyRealTopic); topic != RetryTopic("g") {
		t.Errorf("goes to %s", topic)
	}
}

func TestRetryQueuesAreBounded(t *testing.T) {
	b := newBench(t)
	g := DefaultGroup("g")
	g.RetryQueueNums = 1 << 30
	if err := b.PutGroup(t.Context(), g); err == nil {
		t.Error("a group may have a billion retry queues")
	}
	g.RetryQueueNums = queuesPerTopicMax
	if err := b.PutGroup(t.Context(), g); err != nil {
		t.Error(err)
	}
}
