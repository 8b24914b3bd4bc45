package broker

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"rmq/raftlog"
	"rmq/store"
	"rmq/store/message"
)

// replicas is a group as the test says it is.
type replicas struct {
	mu                      sync.Mutex
	data, connected, inSync int
	held                    []uint64 // by the number of replicas
	onHeld                  func()
}

func (r *replicas) get(f func() int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return f()
}

func (r *replicas) Data() int      { return r.get(func() int { return r.data }) }
func (r *replicas) Connected() int { return r.get(func() int { return r.connected }) }
func (r *replicas) InSync() int    { return r.get(func() int { return r.inSync }) }
func (r *replicas) OnHeld(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.onHeld = f
}

func (r *replicas) Held(n int) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n >= len(r.held) {
		return 0
	}
	return r.held[n]
}

// set changes the group, and tells.
func (r *replicas) set(f func()) {
	r.mu.Lock()
	f()
	tell := r.onHeld
	r.mu.Unlock()
	tell()
}

// hold says that n replicas hold everything up to an entry.
func (r *replicas) hold(n int, index uint64) {
	r.set(func() {
		for len(r.held) <= n {
			r.held = append(r.held, 0)
		}
		r.held[n] = index
	})
}

func newReplicas(n int) *replicas { return &replicas{data: n, connected: n, inSync: n} }

// newGroupBench is a leader among others whose duties run.
func newGroupBench(t *testing.T, r *replicas, change ...func(*Options)) *bench {
	t.Helper()
	b := newBench(t, append([]func(*Options){func(o *Options) { o.Replicas = r }}, change...)...)
	b.put(t, "Probe", "WAIT", "false") // creates the topic
	if err := b.PutTopic(t.Context(), topicConfig("T", 1, PermRead|PermWrite), ""); err != nil {
		t.Fatal(err)
	}
	end := b.lead(t)
	t.Cleanup(func() { _ = end() })
	return b
}

var queueT = store.QueueID{Topic: "T"}

func settings(s GroupSettings) func(*Options) { return func(o *Options) { o.Settings = s } }

// try sends a message; the result arrives when it is answered.
func (b *bench) try(t *testing.T, properties ...string) (<-chan SendResult, error) {
	t.Helper()
	var p []byte
	for i := 0; i < len(properties); i += 2 {
		p = message.AppendProperty(p, properties[i], properties[i+1])
	}
	done := make(chan SendResult, 2)
	err := b.Send(&SendRequest{Topic: "T", Properties: string(p), MaxReconsumeTimes: -1, Body: []byte("x")}, func(r SendResult) { done <- r })
	return done, err
}

// stays checks that a send is not answered; what could answer it has happened.
func (b *bench) stays(t *testing.T, done <-chan SendResult) {
	t.Helper()
	b.lookAtAcks()
	select {
	case r := <-done:
		t.Errorf("answered already: %+v", r)
	default:
	}
}

// alarm waits until the duty of the acknowledgements has set its alarm for the given time.
func (b *bench) alarm(t *testing.T, at time.Duration) {
	t.Helper()
	want := b.clock.Now().Add(at)
	settle(t, "an alarm at "+at.String(), func() bool {
		b.clock.mu.Lock()
		defer b.clock.mu.Unlock()
		for a := range b.clock.alarms {
			if a.at.Equal(want) {
				return true
			}
		}
		return false
	})
}

func outcome(r SendResult) string {
	if r.Err != nil {
		return reason(r.Err)
	}
	return []string{"OK", "11", "12"}[r.Status]
}

func TestCopiesAskedFor(t *testing.T) {
	for _, c := range []struct {
		s            GroupSettings
		data, inSync int
		want         int
	}{
		{GroupSettings{}, 1, 1, 1},
		{GroupSettings{Role: RoleSync}, 1, 1, 2}, // a lone SYNC_MASTER says that its slave is missing
		{GroupSettings{InSync: 2}, 1, 1, 2},
		{GroupSettings{}, 2, 2, 2},
		{GroupSettings{}, 2, 1, 2},
		{GroupSettings{}, 3, 3, 2},
		{GroupSettings{}, 4, 4, 3},
		{GroupSettings{Role: RoleSync, InSync: 4}, 5, 5, 4},
		{GroupSettings{MinInSync: 4}, 5, 5, 4},
		{GroupSettings{AllInSync: true}, 5, 5, 5},
		{GroupSettings{AllInSync: true}, 5, 4, 4},
		{GroupSettings{AllInSync: true}, 5, 1, 3},
		{GroupSettings{Role: RoleAsync, InSync: 3, AllInSync: true}, 3, 3, 1},
	} {
		b := &Broker{opts: Options{Replicas: &replicas{data: c.data, inSync: c.inSync}}}
		c.s.setDefaults()
		if n := b.copies(&c.s); n != c.want {
			t.Errorf("%+v with %d data replicas, %d in sync: %d, want %d", c.s, c.data, c.inSync, n, c.want)
		}
	}
}

// A4: a send is answered when two data replicas hold it, whatever the arbiter holds.
func TestSendWaitsForADataReplica(t *testing.T) {
	r := newReplicas(2)
	b := newGroupBench(t, r)
	first, err := b.try(t)
	if err != nil {
		t.Fatal(err)
	}
	second, err := b.try(t)
	if err != nil {
		t.Fatal(err)
	}
	b.stays(t, first)
	r.hold(2, b.log.index-1)
	if got := outcome(<-first); got != "OK" {
		t.Error(got)
	}
	b.stays(t, second)
	r.hold(2, b.log.index)
	if got := <-second; outcome(got) != "OK" || got.QueueOffset != 1 || got.Batched {
		t.Errorf("%+v", got)
	}
	held, err := b.try(t, "WAIT", "false")
	if err != nil || outcome(<-held) != "OK" {
		t.Error("a producer that does not want to wait waited")
	}
}

func TestSendsAreAnsweredInRuns(t *testing.T) {
	r, flushed := newReplicas(2), make(chan struct{}, 10)
	b := newGroupBench(t, r, func(o *Options) { o.CompletedBatch = func() { flushed <- struct{}{} } })
	var all []<-chan SendResult
	for range 50 {
		done, err := b.try(t)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, done)
	}
	r.hold(2, b.log.index)
	for i, done := range all {
		if got := <-done; !got.Batched || got.QueueOffset != int64(i) {
			t.Fatalf("%d: %+v", i, got)
		}
	}
	<-flushed
}

func TestSendWithoutItsReplicas(t *testing.T) {
	r := newReplicas(2)
	b := newGroupBench(t, r)
	late, err := b.try(t)
	if err != nil {
		t.Fatal(err)
	}
	b.alarm(t, 3*time.Second)
	b.clock.advance(3*time.Second - 1)
	b.stays(t, late)
	b.clock.advance(1)
	if got := <-late; outcome(got) != "12" || got.Offset == 0 {
		t.Errorf("after slaveTimeout: %+v", got)
	}
	waiting, err := b.try(t)
	if err != nil {
		t.Fatal(err)
	}
	r.set(func() { r.connected = 1 })
	if got := outcome(<-waiting); got != "11" {
		t.Error("when the other one went: " + got)
	}
	gone, err := b.try(t)
	if err != nil || outcome(<-gone) != "11" {
		t.Error("with the other one gone a send is not answered at once")
	}
	if max := b.Store().MaxOffset(queueT); max != 3 {
		t.Errorf("%d messages are stored", max)
	}
	// A lone master of which nobody asked for a slave is content, another one says so.
	r.set(func() { r.data = 1 })
	if done, err := b.try(t); err != nil || outcome(<-done) != "OK" {
		t.Error("a lone replica does not answer OK")
	}
	if err := b.SetGroupConfig(t.Context(), map[string]string{"brokerRole": "SYNC_MASTER"}); err != nil {
		t.Fatal(err)
	}
	if done, err := b.try(t); err != nil || outcome(<-done) != "11" {
		t.Error("a lone SYNC_MASTER does not say that it has no slave")
	}
}

// 11 and 12 say that the message is stored; a replica that has lost the lead cannot know that.
func TestSendWaitsWhenTheLeadIsLost(t *testing.T) {
	r := newReplicas(3)
	b := newGroupBench(t, r)
	waiting, err := b.try(t)
	if err != nil {
		t.Fatal(err)
	}
	b.log.lose()
	b.StepDown()
	if got := outcome(<-waiting); got != fmt.Sprint(NotAvailable) {
		t.Error("when the lead was lost: " + got)
	}
	b.log.deposed.Store(false)
	done, err := b.try(t) // committed, and nobody leads the duties
	if err != nil || outcome(<-done) != fmt.Sprint(NotAvailable) {
		t.Error("a send waits although nothing will answer it")
	}
	if err := b.TakeOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	again, err := b.try(t)
	if err != nil {
		t.Fatal(err)
	}
	b.log.deposed.Store(true)
	r.set(func() { r.connected = 1 })
	if got := outcome(<-again); got != fmt.Sprint(NotAvailable) {
		t.Error("11 from a replica that does not lead: " + got)
	}
}

// B3: too few in-sync replicas refuse a send before anything is stored.
func TestInSyncReplicasNotEnough(t *testing.T) {
	r := newReplicas(5)
	b := newGroupBench(t, r, settings(GroupSettings{Role: RoleSync, InSync: 4}))
	r.set(func() { r.inSync, r.connected = 3, 3 })
	end := b.log.EndOffset()
	_, err := b.try(t)
	if reason(err) != fmt.Sprint(NotEnoughReplicas) || !strings.HasPrefix(err.Error(), "in-sync replicas not enough") {
		t.Errorf("send: %v", err)
	}
	if b.log.EndOffset() != end {
		t.Error("something was appended")
	}
	if done, err := b.try(t, "WAIT", "false"); err != nil || outcome(<-done) != "OK" {
		t.Errorf("a producer that does not want to wait: %v", err)
	}
	if err := b.SetGroupConfig(t.Context(), map[string]string{"inSyncReplicas": "1", "minInSyncReplicas": "4"}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.try(t); reason(err) != fmt.Sprint(NotEnoughReplicas) {
		t.Errorf("minInSyncReplicas: %v", err)
	}
	r.set(func() { r.inSync, r.connected = 4, 4 })
	done, err := b.try(t)
	if err != nil {
		t.Fatal(err)
	}
	b.stays(t, done)
	r.hold(4, b.log.index)
	if got := outcome(<-done); got != "OK" {
		t.Error(got)
	}
}

// B2: the role is switched while the group runs, and a send that waits goes by what is in force.
func TestRoleIsSwitched(t *testing.T) {
	r := newReplicas(3)
	b := newGroupBench(t, r, settings(GroupSettings{Role: RoleSync}))
	waiting, err := b.try(t)
	if err != nil {
		t.Fatal(err)
	}
	b.stays(t, waiting)
	if err := b.SetGroupConfig(t.Context(), map[string]string{"brokerRole": "ASYNC_MASTER"}); err != nil {
		t.Fatal(err)
	}
	if got := outcome(<-waiting); got != "OK" {
		t.Error(got)
	}
	b.log.behind = true
	done, err := b.try(t)
	if err != nil || outcome(<-done) != "OK" {
		t.Error("ASYNC_MASTER waits for the commit")
	}
	if max := b.Store().MaxOffset(queueT); max != 1 {
		t.Errorf("consumers see %d messages", max)
	}
	for _, c := range []struct {
		what       string
		properties []string
	}{{"delayed", []string{"DELAY", "3"}}} {
		done, err := b.try(t, c.properties...)
		if err != nil {
			t.Fatal(err)
		}
		b.stays(t, done)
		b.log.commit(9)
		if got := outcome(<-done); got != "OK" {
			t.Errorf("%s: %s", c.what, got)
		}
	}
}

// A send that waits for room in the lag window when the group becomes SYNC_MASTER is answered as SYNC_MASTER answers: 11 and
// 12 are for what is committed.
func TestRoleIsSwitchedWhileSendsWaitForRoom(t *testing.T) {
	r := newReplicas(2)
	b := newGroupBench(t, r, settings(GroupSettings{Role: RoleAsync, LagMessages: 1}))
	b.log.behind = true
	switched := make(chan error, 1)
	go func() {
		switched <- b.SetGroupConfig(t.Context(), map[string]string{"brokerRole": "SYNC_MASTER"})
	}()
	open := func(what string, n int) {
		t.Helper()
		settle(t, what, func() bool {
			b.log.append.Lock()
			defer b.log.append.Unlock()
			return len(b.log.open) == n
		})
	}
	open("the switch is in the log", 1)
	first, err := b.try(t)
	if err != nil || outcome(<-first) != "OK" {
		t.Fatal("the first one does not find room")
	}
	waiting, err := b.try(t)
	if err != nil {
		t.Fatal(err)
	}
	b.stays(t, waiting)
	b.log.commit(1)
	if err := <-switched; err != nil {
		t.Fatal(err)
	}
	r.set(func() { r.connected = 1 })
	b.stays(t, waiting)
	b.log.commit(1) // which makes room
	open("the one that waited is in the log", 1)
	if b.stays(t, waiting); t.Failed() {
		return
	}
	b.log.commit(1)
	if got := outcome(<-waiting); got != "11" {
		t.Error("committed, and the other replica is away: " + got)
	}
}

// ASYNC_MASTER answers before the commit, within a window: at its end a send waits before it is proposed.
func TestLagWindow(t *testing.T) {
	for _, c := range []struct {
		what string
		s    GroupSettings
		fill int           // how many get in
		age  time.Duration // after the first
	}{
		{"messages", GroupSettings{LagMessages: 3}, 3, 0},
		{"bytes", GroupSettings{LagBytes: 400}, 2, 0},
		{"age", GroupSettings{LagAge: 200 * time.Millisecond}, 1, 201 * time.Millisecond},
	} {
		t.Run(c.what, func(t *testing.T) {
			c.s.Role = RoleAsync
			b := newGroupBench(t, newReplicas(3), settings(c.s))
			b.log.behind = true
			for i := range c.fill {
				done, err := b.try(t)
				if err != nil || outcome(<-done) != "OK" {
					t.Fatalf("send %d: %v", i, err)
				}
			}
			b.clock.advance(c.age)
			end := b.log.EndOffset()
			var waiting []<-chan SendResult
			for range 2 {
				done, err := b.try(t)
				if err != nil {
					t.Fatal(err)
				}
				waiting = append(waiting, done)
			}
			b.stays(t, waiting[0])
			if b.log.EndOffset() != end {
				t.Fatal("a send was proposed beyond the window")
			}
			b.log.commit(c.fill)
			for i, done := range waiting {
				if got := <-done; outcome(got) != "OK" || got.QueueOffset != int64(c.fill+i) {
					t.Errorf("waiting %d: %+v", i, got)
				}
			}

			// Whoever waits too long is turned away, and nothing of it is stored.
			b.clock.advance(c.age)
			for range c.fill - len(waiting) {
				done, err := b.try(t)
				if err != nil || outcome(<-done) != "OK" {
					t.Fatalf("%v", err)
				}
			}
			end = b.log.EndOffset()
			late, err := b.try(t)
			if err != nil {
				t.Fatal(err)
			}
			b.alarm(t, 2700*time.Millisecond)
			b.clock.advance(2700 * time.Millisecond)
			if got := <-late; outcome(got) != fmt.Sprint(Busy) {
				t.Errorf("late: %+v", got)
			}
			if b.log.EndOffset() != end {
				t.Error("a send that was turned away is in the log")
			}
			b.acks.mu.Lock()
			defer b.acks.mu.Unlock()
			if n := b.backlog.pending.Load(); n != 0 || b.acks.queued != 0 || b.acks.flying != (weight{}) {
				t.Errorf("%d pending, %d bytes queued, %+v flying", n, b.acks.queued, b.acks.flying)
			}
		})
	}
}

func TestLagWindowTakesALargeMessage(t *testing.T) {
	b := newGroupBench(t, newReplicas(3), settings(GroupSettings{Role: RoleAsync, LagBytes: 100}))
	b.log.behind = true
	if done, err := b.try(t); err != nil || outcome(<-done) != "OK" {
		t.Errorf("a message that is larger than the window: %v", err)
	}
}

func TestLagWindowWhenTheLeadIsLost(t *testing.T) {
	b := newGroupBench(t, newReplicas(3), settings(GroupSettings{Role: RoleAsync, LagMessages: 1}))
	b.log.behind = true
	if done, err := b.try(t); err != nil || outcome(<-done) != "OK" {
		t.Fatal(err)
	}
	waiting, err := b.try(t)
	if err != nil {
		t.Fatal(err)
	}
	b.log.lose()
	b.StepDown()
	if got := outcome(<-waiting); got != fmt.Sprint(NotLeader) { // nothing is stored: it goes to who leads
		t.Error(got)
	}
	if _, err := b.try(t); reason(err) != fmt.Sprint(NotLeader) && !errors.Is(err, raftlog.ErrNotLeader) {
		t.Errorf("a send to a replica that does not lead: %v", err)
	}
	// What was answered and lost does not count against the next term.
	b.log.deposed.Store(false)
	b.log.behind = false
	if err := b.TakeOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.log.behind = true
	if done, err := b.try(t); err != nil || outcome(<-done) != "OK" {
		t.Error("the window is not empty")
	}
}

func TestWaitingSendsAreBounded(t *testing.T) {
	b := newGroupBench(t, newReplicas(3), settings(GroupSettings{Role: RoleAsync, LagMessages: 1}))
	b.log.behind = true
	refused := 0
	for range waitingSendsMax + 6 {
		if _, err := b.try(t); err != nil {
			if reason(err) != fmt.Sprint(Busy) {
				t.Fatal(err)
			}
			refused++
		}
	}
	if refused != 5 { // one lies in the window
		t.Errorf("%d were refused", refused)
	}
}

// Alone there is nobody to wait for.
func TestAsyncMasterAlone(t *testing.T) {
	b := newBench(t, settings(GroupSettings{Role: RoleAsync}))
	b.put(t, "T")
	if b.log.appends[raftlog.AckAppended] != 0 {
		t.Error("a lone leader answers before the commit")
	}
}

func TestFifo(t *testing.T) {
	var q fifo[int]
	next, want := 0, 0
	for round := range 40 {
		for range round {
			q.push(next)
			next++
		}
		for range round / 2 {
			if got := q.pop(); got != want || q.len() != next-want-1 {
				t.Fatalf("%d, want %d", got, want)
			}
			want++
		}
	}
	if *q.front() != want {
		t.Error("front")
	}
}
