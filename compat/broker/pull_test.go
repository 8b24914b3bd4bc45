package broker

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rmq/store"
)

// parking is a pull that may wait, and what became of it.
type parking struct {
	buffers, suspensions atomic.Int32 // how many buffers it holds, how often it was parked
	done                 chan PullResult
}

func (b *bench) park(r PullRequest) *parking {
	p := &parking{done: make(chan PullResult, 2)}
	r.Group, r.HasExpression = "g", true
	if r.Expression == "" {
		r.Expression = "*"
	}
	b.Pull(&r, func() []byte { p.buffers.Store(1); return nil }, func() { p.suspensions.Add(1); p.buffers.Store(0) }, func(res PullResult) { p.done <- res })
	return p
}

// A queue may grow at the very moment at which a pull starts to wait. Each pull is answered once, and none is kept.
func TestPullsAreWokenWhileTheyPark(t *testing.T) {
	b := newBench(t)
	b.put(t, "T")
	const pulls = 3000
	q := store.QueueID{Topic: "T"}
	for range pulls {
		offset := b.Store().MaxOffset(q)
		var put sync.WaitGroup
		put.Go(func() { b.put(t, "T") })
		p := b.park(PullRequest{Queue: q, Offset: offset, Suspend: time.Minute})
		if res := <-p.done; res.Err != nil || res.Status != PullFound {
			t.Fatalf("pull: %+v", res)
		}
		put.Wait()
	}
	b.tasks.Wait()
	b.waits.mu.Lock()
	defer b.waits.mu.Unlock()
	if n := len(b.waits.all); n != 0 || b.Parked() != 0 || b.Store().Stats().Waiters != 0 {
		t.Errorf("%d waits and %d waiters are left, %d pulls count as parked", n, b.Store().Stats().Waiters, b.Parked())
	}
}

func TestPullsAreAnsweredOnceWhenParkingEnds(t *testing.T) {
	b := newBench(t)
	b.put(t, "T")
	var pulls []*parking
	var all sync.WaitGroup
	for i := range 200 {
		if i == 100 {
			all.Go(b.EndParking)
		}
		pulls = append(pulls, b.park(PullRequest{Queue: store.QueueID{Topic: "T"}, Offset: 1, Suspend: time.Minute}))
	}
	all.Wait()
	for _, p := range pulls {
		if res := <-p.done; res.Err != nil || res.Status != PullNoNew || res.NextOffset != 1 {
			t.Fatalf("pull: %+v", res)
		}
	}
	b.tasks.Wait()
	for _, p := range pulls {
		if len(p.done) != 0 {
			t.Fatal("a pull was answered twice")
		}
	}
}

// A consumer that wants few of many messages waits most of the time, and holds no buffer meanwhile.
func TestParkedPullHoldsNoBuffer(t *testing.T) {
	b := newBench(t)
	b.put(t, "T", "TAGS", "Other")
	p := b.park(PullRequest{Queue: store.QueueID{Topic: "T"}, Offset: 1, Suspend: time.Minute, Expression: "Wanted"})
	b.put(t, "T", "TAGS", "Other")
	settle(t, "the pull has looked and waits again", func() bool { return p.suspensions.Load() == 2 && b.Store().Stats().Waiters == 1 })
	if p.buffers.Load() != 0 {
		t.Error("it holds a buffer")
	}
	b.put(t, "T", "TAGS", "Wanted")
	if res := <-p.done; res.Status != PullFound || res.Count != 1 || res.NextOffset != 3 {
		t.Errorf("pull: %+v", res)
	}
}

func TestParkedPullOfATopicThatGoes(t *testing.T) {
	b := newBench(t)
	b.put(t, "T")
	p := b.park(PullRequest{Queue: store.QueueID{Topic: "T"}, Offset: 1, Suspend: time.Minute})
	if err := b.DeleteTopic(t.Context(), "T"); err != nil {
		t.Fatal(err)
	}
	if res := <-p.done; reason(res.Err) != strconv.Itoa(int(TopicNotExist)) {
		t.Errorf("pull: %+v", res)
	}
}

func TestParkedPullTimesOut(t *testing.T) {
	for _, long := range []bool{true, false} {
		b := newBench(t, func(o *Options) { o.LongPolling = long })
		b.put(t, "T")
		p := b.park(PullRequest{Queue: store.QueueID{Topic: "T"}, Offset: 1, Suspend: 15 * time.Second})
		wait := 15 * time.Second
		if !long {
			wait = time.Second
		}
		b.clock.advance(wait - 1)
		if len(p.done) != 0 || b.Parked() != 1 {
			t.Errorf("long=%v: answered too early", long)
		}
		b.clock.advance(1)
		if res := <-p.done; res.Status != PullNoNew || res.NextOffset != 1 {
			t.Errorf("pull: %+v", res)
		}
	}
}

func TestParkedPullsAreBounded(t *testing.T) {
	b := newBench(t, func(o *Options) { o.ParkedPullsMax = 1 })
	b.put(t, "T")
	r := PullRequest{Queue: store.QueueID{Topic: "T"}, Offset: 1, Suspend: time.Minute}
	first := b.park(r)
	if res := <-b.park(r).done; res.Status != PullNoNew {
		t.Errorf("pull: %+v", res)
	}
	b.put(t, "T")
	<-first.done
	if b.Parked() != 0 {
		t.Errorf("%d pulls parked", b.Parked())
	}
}
