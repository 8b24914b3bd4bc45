package broker

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"rmq/raftlog"
	"rmq/store"
	"rmq/store/message"
)

// succeed makes a broker of its own lead the group, with what the log and its state say; the one before is gone.
func (b *bench) succeed(t *testing.T) {
	t.Helper()
	b.log.lose()
	b.StepDown()
	next, err := New(b.log, b.Store(), b.opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(next.Close)
	b.log.broker, b.Broker = next, next
	b.log.deposed.Store(false)
	b.log.behind = false
	b.log.term.Add(1)
	if err := b.TakeOver(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// retryCopies counts the messages of a key that wait for redelivery, were redelivered, and are dead letters.
func (b *bench) retryCopies(t *testing.T, unique string) (parked, retried, dead int) {
	t.Helper()
	count := func(topic string) (n int) {
		for id := range int32(20) {
			q := store.QueueID{Topic: topic, ID: id}
			for at := int64(0); at < b.Store().MaxOffset(q); at++ {
				f, err := b.Store().Fetch(store.FetchRequest{Queue: q, Offset: at, MaxMessages: 1}, nil)
				if err != nil {
					t.Fatal(err)
				}
				if key, _ := message.View(f.Messages).Properties().Get(message.PropertyUniqKey); key == unique {
					n++
				}
			}
		}
		return n
	}
	return count(ScheduleTopic), count(RetryTopic("g")), count(DLQTopic("g"))
}

// E10, E11: the leader that stored a retry or a dead letter dies before it has answered. The consumer publishes the message
// itself then, or asks again, and the next leader finds that it is stored.
func TestRetryIsStoredOnceAcrossLeaders(t *testing.T) {
	for _, c := range []struct {
		name                  string
		level                 int32
		fire                  bool // the retry has been delivered by the first leader
		parked, retried, dead int
	}{
		{"retry", 1, false, 1, 0, 0},
		{"delivered retry", 1, true, 1, 1, 0},
		{"dead letter", -1, false, 0, 0, 1},
	} {
		for _, committed := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, committed %v", c.name, committed), func(t *testing.T) {
				b := newBenchOver(t, store.Options{KeyIndex: true})
				if err := b.PutGroup(t.Context(), DefaultGroup("g")); err != nil {
					t.Fatal(err)
				}
				src := b.put(t, "T", "UNIQ_KEY", "U")
				back := SendBackRequest{Group: "g", Offset: src.Offset, DelayLevel: c.level, MaxReconsumeTimes: -1}
				answers := make(chan SendResult, 4)
				b.log.behind = true
				if err := b.SendBack(back, func(r SendResult) { answers <- r }); err != nil {
					t.Fatal(err)
				}
				if committed {
					b.log.commit(1)
					if r := <-answers; r.Err != nil {
						t.Fatal(r.Err)
					}
				}
				b.log.behind = false
				if c.fire && committed {
					b.clock.advance(2 * time.Second)
					due := func() []store.Timer { return b.Store().DueTimers(b.clock.Now().UnixMilli(), 10) }
					if more, err := b.refile(t.Context(), due, b.deliver); !more || err != nil {
						t.Fatal(more, err)
					}
				}
				b.succeed(t)
				publish := func() {
					t.Helper()
					r := &SendRequest{Topic: RetryTopic("g"), DefaultTopic: AutoCreateTopic, DefaultTopicQueues: 1, ReconsumeTimes: 1, MaxReconsumeTimes: 16, Body: []byte("x")}
					p := message.AppendProperty(nil, "UNIQ_KEY", "U")
					if c.level > 0 {
						p = message.AppendProperty(p, "DELAY", "1")
					} else {
						r.MaxReconsumeTimes = 0
					}
					r.Properties = string(p)
					b.send(t, r)
				}
				if err := b.SendBack(back, func(r SendResult) { answers <- r }); err != nil {
					t.Fatal(err)
				}
				publish()
				parked, retried, dead := c.parked, c.retried, c.dead
				if c.fire && !committed {
					retried = 0
				}
				check := func(what string) {
					t.Helper()
					if p, r, d := b.retryCopies(t, "U"); p != parked || r != retried || d != dead {
						t.Errorf("%s: %d wait, %d were delivered, %d are dead letters", what, p, r, d)
					}
				}
				check("asked again")
				b.succeed(t)
				publish() // its answer was lost as well
				check("published to the next leader")
				// Later it is a message of its own.
				b.clock.advance(retryWindow)
				publish()
				if c.level > 0 {
					parked++
				} else {
					dead++
				}
				check("much later")
			})
		}
	}
}

// A send-back of another message of the same key and body is no repeat.
func TestRetryOfATwinAcrossLeaders(t *testing.T) {
	b := newBenchOver(t, store.Options{KeyIndex: true})
	first, twin := b.put(t, "T", "UNIQ_KEY", "U"), b.put(t, "T", "UNIQ_KEY", "U")
	answered := func(r SendResult) {
		if r.Err != nil {
			t.Error(r.Err)
		}
	}
	if err := b.SendBack(SendBackRequest{Group: "g", Offset: first.Offset, DelayLevel: 1, MaxReconsumeTimes: -1}, answered); err != nil {
		t.Fatal(err)
	}
	b.succeed(t)
	if err := b.SendBack(SendBackRequest{Group: "g", Offset: twin.Offset, DelayLevel: 1, MaxReconsumeTimes: -1}, answered); err != nil {
		t.Fatal(err)
	}
	if parked, _, _ := b.retryCopies(t, "U"); parked != 2 {
		t.Errorf("%d retries of two messages", parked)
	}
}

// E2: a new leader gives every owner a whole lease, so that nobody gets a queue whose owner still believes in it.
func TestLocksAcrossLeaders(t *testing.T) {
	r := newReplicas(3)
	b := newBench(t, func(o *Options) { o.Replicas = r })
	b.put(t, "T", "WAIT", "false")
	q := []store.QueueID{queueT}
	lock := func(client string, want int) {
		t.Helper()
		owned, err := b.Lock(t.Context(), "g", client, q)
		if err != nil || len(owned) != want {
			t.Errorf("%s owns %v, want %d: %v", client, owned, want, err)
		}
	}
	lock("c1", 1)
	for range 3 {
		b.clock.advance(59 * time.Second)
		b.succeed(t)
		b.clock.advance(59 * time.Second)
		lock("c2", 0)
	}
	b.clock.advance(2 * time.Second)
	lock("c2", 1)
	lock("c1", 0)
}

// A leader that has slept, and may be none any more, renews no lock before it has proved that it leads.
func TestLockIsNotRenewedByALeaderThatSlept(t *testing.T) {
	r := newReplicas(3)
	b := newBench(t, func(o *Options) { o.Replicas = r })
	b.put(t, "T", "WAIT", "false")
	q := []store.QueueID{queueT}
	if _, err := b.Lock(t.Context(), "g", "c1", q); err != nil {
		t.Fatal(err)
	}
	renew := func(want int) {
		t.Helper()
		before := b.log.index
		if owned, err := b.Lock(t.Context(), "g", "c1", q); err != nil || len(owned) != 1 {
			t.Errorf("owns %v: %v", owned, err)
		}
		if n := int(b.log.index - before); n != want {
			t.Errorf("%d entries, want %d", n, want)
		}
	}
	renew(0)
	b.clock.advance(15 * time.Second)
	renew(0)
	b.clock.advance(1)
	renew(1)
	renew(0)
	b.clock.advance(time.Hour)
	b.log.outcome = func([]byte) (error, bool) { return nil, true }
	if owned, err := b.Lock(t.Context(), "g", "c1", q); len(owned) != 0 || reason(err) != fmt.Sprint(NotAvailable) {
		t.Errorf("owns %v: %v", owned, err)
	}
	b.log.outcome = nil
	b.log.deposed.Store(true)
	if owned, err := b.Lock(t.Context(), "g", "c1", q); len(owned) != 0 || reason(err) != fmt.Sprint(NotLeader) {
		t.Errorf("a replica that does not lead: owns %v: %v", owned, err)
	}
}

// While a queue is on its way to somebody else, its owner cannot renew any more.
func TestLockIsNotRenewedWhileItIsGivenAway(t *testing.T) {
	b := newBench(t)
	b.put(t, "T")
	q := []store.QueueID{queueT}
	if _, err := b.Lock(t.Context(), "g", "c1", q); err != nil {
		t.Fatal(err)
	}
	b.clock.advance(time.Minute + 1)
	asked := false
	b.log.outcome = func([]byte) (error, bool) {
		if asked = true; asked {
			if owned, _ := b.renew("g", "c1", q, false); len(owned) != 0 {
				t.Error("the old owner has renewed")
			}
		}
		return nil, false
	}
	if owned, err := b.Lock(t.Context(), "g", "c2", q); len(owned) != 1 || err != nil || !asked {
		t.Errorf("c2 owns %v: %v", owned, err)
	}
	b.log.outcome = nil
	if owned, err := b.Lock(t.Context(), "g", "c1", q); len(owned) != 0 || err != nil {
		t.Errorf("c1 owns %v: %v", owned, err)
	}
	// An outcome that is not known leaves the queue with nobody, until it is asked for again.
	b.clock.advance(time.Minute + 1)
	b.log.outcome = func([]byte) (error, bool) { return nil, true }
	if _, err := b.Lock(t.Context(), "g", "c1", q); err == nil {
		t.Error("locked")
	}
	b.log.outcome = nil
	if owned, err := b.Lock(t.Context(), "g", "c2", q); len(owned) != 1 || err != nil {
		t.Errorf("c2 owns %v: %v", owned, err)
	}
}

// Duties that fail and start again within a term keep what consumers have reported; another term begins without it.
func TestProgressWhenDutiesFail(t *testing.T) {
	b := newBench(t)
	for range 5 {
		b.put(t, "T")
	}
	if err := b.CommitOffset("g", queueT, 3); err != nil {
		t.Fatal(err)
	}
	b.StepDown() // Lead has failed, the term goes on
	if err := b.TakeOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.FlushOffsets(t.Context()); err != nil {
		t.Fatal(err)
	}
	if o, _ := b.Store().Offset("g", "T", 0); o != 3 {
		t.Errorf("progress %d", o)
	}
	if err := b.CommitOffset("g", queueT, 4); err != nil {
		t.Fatal(err)
	}
	b.log.term.Add(1) // somebody else may have led
	if err := b.FlushOffsets(t.Context()); err != nil {
		t.Fatal(err)
	}
	if o, _ := b.Offset("g", queueT); o != 3 {
		t.Errorf("progress of another term: %d", o)
	}
}

// B9: what a consumer was told of its progress is in the log.
func TestProgressThatWasToldIsCommitted(t *testing.T) {
	b := newBench(t)
	for range 5 {
		b.put(t, "T")
	}
	if err := b.CommitOffset("g", queueT, 4); err != nil {
		t.Fatal(err)
	}
	if o, known, err := b.InitialOffset(t.Context(), "g", queueT, true); o != 4 || !known || err != nil {
		t.Errorf("progress %d %v: %v", o, known, err)
	}
	b.succeed(t)
	if o, known, err := b.InitialOffset(t.Context(), "g", queueT, true); o != 4 || !known || err != nil {
		t.Errorf("progress at the next leader %d %v: %v", o, known, err)
	}
	if err := b.CommitOffset("g", queueT, 5); err != nil {
		t.Fatal(err)
	}
	b.log.outcome = func([]byte) (error, bool) { return raftlog.ErrNotLeader, false }
	if o, _, err := b.InitialOffset(t.Context(), "g", queueT, true); err == nil {
		t.Errorf("told %d, which is nowhere", o)
	}
}

// The first leader's file decides, then the group's state.
func TestSettingsOfTheGroup(t *testing.T) {
	var told []GroupSettings
	b := newBench(t, func(o *Options) {
		o.Settings = GroupSettings{Role: RoleAsync, SlaveTimeout: time.Second, LagMessages: 7}
		o.SettingsChanged = func(s GroupSettings) { told = append(told, s) }
	})
	b.opts.Settings = GroupSettings{Role: RoleSync, SyncFlush: true}
	b.opts.Settings.setDefaults()
	b.succeed(t)
	if s := b.GroupSettings(); s.Role != RoleAsync || s.SyncFlush || s.SlaveTimeout != time.Second || s.LagMessages != 7 || s.LagBytes != 4<<20 {
		t.Errorf("in force: %+v", s)
	}
	for _, bad := range []map[string]string{
		{"brokerRole": "SLAVE"}, {"brokerRole": "x"}, {"flushDiskType": ""}, {"slaveTimeout": "0"}, {"slaveTimeout": "60001"}, {"inSyncReplicas": "-1"},
		{"asyncLagBytes": "9999999999"}, {"allAckInSyncStateSet": "yes"}, {"listenPort": "1"}, {"asyncLagMessages": "5", "asyncLagMillis": "x"},
	} {
		if err := b.SetGroupConfig(t.Context(), bad); reason(err) != fmt.Sprint(InvalidParameter) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	told = nil
	change := map[string]string{"flushDiskType": "SYNC_FLUSH", "inSyncReplicas": "2", "asyncLagMillis": "50", "brokerRole": "SYNC_MASTER"}
	if err := b.SetGroupConfig(t.Context(), change); err != nil {
		t.Fatal(err)
	}
	items := b.GroupConfig()
	for key, value := range change {
		if items[key] != value || !IsGroupSetting(key) {
			t.Errorf("%s=%s", key, items[key])
		}
	}
	if len(told) != 1 || !told[0].SyncFlush || told[0].LagAge != 50*time.Millisecond || told[0].LagMessages != 7 {
		t.Errorf("told %+v", told)
	}
	if items["asyncLagMessages"] != "7" || IsGroupSetting("listenPort") || len(items) != len(groupSettings) {
		t.Errorf("items %v", items)
	}
	unset := newBench(t)
	if role := unset.GroupConfig()["brokerRole"]; role != "SYNC_MASTER" || unset.GroupSettings().Role != RoleUnset {
		t.Errorf("a role that nobody has set: %s", role)
	}
}

// Pulls far behind go to another replica, and come back near the end.
func TestSlowReadsAreSentAway(t *testing.T) {
	r, enabled := newReplicas(2), true
	b := newBench(t, func(o *Options) {
		o.Replicas, o.SlowReadBytes, o.SlaveRead = r, 2000, func() bool { return enabled }
	})
	for range 30 {
		b.put(t, "T", "WAIT", "false")
	}
	suggested := func(offset int64, want int64) {
		t.Helper()
		res := <-b.park(PullRequest{Queue: queueT, Offset: offset, MessagesMax: 1}).done
		if res.Err != nil || res.Suggest != want {
			t.Errorf("pull at %d is sent to %d, want %d: %v", offset, res.Suggest, want, res.Err)
		}
	}
	far := func() int64 { // the newest offset that is too far behind for the leader
		for at := int64(29); at >= 0; at-- {
			if res := <-b.park(PullRequest{Queue: queueT, Offset: at, MessagesMax: 1}).done; res.Suggest != 0 {
				return at
			}
		}
		return -1
	}
	suggested(0, 1)
	suggested(29, 0)
	suggested(30, 0)
	onLeader := far()
	b.log.deposed.Store(true) // a copy keeps its readers a little longer
	suggested(0, 1)
	suggested(29, 0)
	if onCopy := far(); onCopy <= onLeader || onLeader < 1 {
		t.Errorf("the leader sends away at %d, the copy keeps at %d", onLeader, onCopy)
	}
	b.log.deposed.Store(false)
	r.set(func() { r.connected = 1 })
	suggested(0, 0) // nobody is there to read from
	r.set(func() { r.connected = 2 })
	enabled = false
	suggested(0, 0)
}

// A copy serves pulls and lets them wait for what is applied there, also when it has led before.
func TestPullsOfACopy(t *testing.T) {
	b := newBench(t)
	b.put(t, "T")
	asLeader := b.park(PullRequest{Queue: queueT, Offset: 1, Suspend: time.Minute})
	b.log.deposed.Store(true)
	b.StepDown()
	if res := <-asLeader.done; res.Err != nil || res.Status != PullNoNew || res.Suggest != 0 {
		t.Errorf("parked on the leader: %+v", res)
	}
	onCopy := b.park(PullRequest{Queue: queueT, Offset: 1, Suspend: time.Minute})
	settle(t, "the pull is parked", func() bool { return b.Parked() == 1 })
	b.log.deposed.Store(false)
	b.put(t, "T")
	if res := <-onCopy.done; res.Status != PullFound || res.Count != 1 {
		t.Errorf("parked on a copy: %+v", res)
	}

	// A reset is the leader's to hand out once: a copy says it, and clears no mark.
	if err := b.ResetOffsets(t.Context(), "g", "T", map[int32]int64{0: 1}); err != nil {
		t.Fatal(err)
	}
	b.log.deposed.Store(true)
	for range 2 {
		if res := <-b.park(PullRequest{Queue: queueT, Offset: 2}).done; res.Status != PullOffsetMoved || res.NextOffset != 1 {
			t.Errorf("a pull while a reset waits: %+v", res)
		}
	}
}

// Clients expire and counters are sampled on every replica.
func TestClientsExpireOnACopy(t *testing.T) {
	b := newBench(t)
	if err := b.PutGroup(t.Context(), DefaultGroup("g")); err != nil {
		t.Fatal(err)
	}
	b.log.deposed.Store(true)
	b.beat(t, 1, Heartbeat{Consumers: []ConsumerInfo{consumer("g", "T")}})
	if ids := b.Clients().ConsumerIDs("g"); !slices.Equal(ids, []string{"c1"}) {
		t.Fatalf("members %v", ids)
	}
	for range 13 {
		b.alarm(t, clientScan)
		b.clock.advance(clientScan)
	}
	settle(t, "the silent client is gone", func() bool { return len(b.Clients().ConsumerIDs("g")) == 0 })
	settle(t, "traffic is sampled", func() bool {
		b.stats.mu.Lock()
		defer b.stats.mu.Unlock()
		return len(b.stats.seconds) > 1
	})
}

// Trimming leaves what other replicas still need.
func TestTrimLimit(t *testing.T) {
	limit := int64(0)
	b := newBench(t, func(o *Options) {
		o.SegmentBytes, o.RetentionAge = 1000, time.Hour
		o.RetentionHours = []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23}
		o.TrimLimit = func() int64 { return limit }
	})
	for range 30 {
		b.put(t, "T")
	}
	b.clock.advance(2 * time.Hour)
	for _, c := range []struct{ limit, want int64 }{{0, 0}, {999, 0}, {2999, 2000}, {3000, 3000}} {
		limit = c.limit
		b.retain(t.Context())
		if got := b.Store().TrimOffset(); got != c.want {
			t.Errorf("limit %d: cut at %d, want %d", c.limit, got, c.want)
		}
	}
}
