package store

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"rmq/store/message"
)

func TestStampFillsBlanksAndVerifiesTheRest(t *testing.T) {
	r := newRig(t)
	r.put(msg{topic: "T", body: "0"}.encode())
	record := slices.Concat(msg{topic: "T", body: "1"}.encode(), PutConfig("k", "v"), msg{topic: "T", body: "2"}.encode(), msg{topic: "T", queue: 5}.encode())
	at := r.log.next()
	if err := r.Stamp(record, at); err != nil {
		t.Fatal(err)
	}
	var got [][2]int64
	for rest := record; len(rest) > 0; {
		item, tail, magic, err := message.NextItem(rest)
		if err != nil {
			t.Fatal(err)
		}
		if message.IsMessage(magic) {
			v := message.View(item)
			got = append(got, [2]int64{v.QueueOffset(), v.PhysicalOffset() - at})
		}
		rest = tail
	}
	size := int64(len(msg{topic: "T", body: "1"}.encode()))
	second := size + int64(len(PutConfig("k", "v")))
	if want := [][2]int64{{1, 0}, {2, second}, {0, second + size}}; !slices.Equal(got, want) {
		t.Fatalf("stamped %v, want %v", got, want)
	}
	r.Rewind()
	stamped := slices.Clone(record)
	if err := r.Stamp(record, at); err != nil || !slices.Equal(record, stamped) {
		t.Fatalf("a stamped record is stamped again: %v", err)
	}
	r.Rewind()
	if err := r.Stamp(record, at+1); !errors.Is(err, ErrMismatch) {
		t.Fatalf("wrong place in the log: %v", err)
	}
	r.Rewind()
	message.View(record).SetQueueOffset(7)
	if err := r.Stamp(record, at); !errors.Is(err, ErrMismatch) {
		t.Fatalf("wrong queue offset: %v", err)
	}
}

func TestStampFollowsDeletionsBeforeTheyAreApplied(t *testing.T) {
	r := newRig(t)
	r.put(msg{topic: "T"}.encode(), msg{topic: "U"}.encode())
	record := slices.Concat(msg{topic: "T"}.encode(), DeleteTopic(1, "T"), msg{topic: "T"}.encode(), msg{topic: "U"}.encode())
	if err := r.Stamp(record, r.log.next()); err != nil {
		t.Fatal(err)
	}
	first := message.View(record)
	last := message.View(record[len(record)-len(msg{topic: "U"}.encode()):])
	middle := message.View(record[len(record)-2*len(msg{topic: "U"}.encode()):])
	if first.QueueOffset() != 1 || middle.QueueOffset() != 0 || last.QueueOffset() != 1 {
		t.Fatalf("queue offsets %d, %d, %d", first.QueueOffset(), middle.QueueOffset(), last.QueueOffset())
	}
}

func TestRecreatedTopicStartsAtZero(t *testing.T) {
	r := newRig(t)
	q := QueueID{"T", 0}
	for range 130 {
		r.put(msg{topic: "T", body: "old"}.encode())
	}
	r.put(PutTopic(1, TopicConfig{Name: "T"}), CommitOffsets([]OffsetCommit{{Group: "G", Topic: "T", Offset: 100}}),
		ResetOffsets([]OffsetReset{{Group: "H", Topic: "T", Target: 3}}), SetLocks([]LockChange{{Group: "G", Topic: "T", Owner: "c"}}))
	r.checkpoint()
	r.put(DeleteTopic(2, "T"))
	if _, ok := r.Topic("T"); ok || r.MaxOffset(q) != 0 {
		t.Fatal("the topic is still there")
	}
	if _, ok := r.Offset("G", "T", 0); ok || r.LockOwner("G", q) != "" {
		t.Fatal("offset or lock is still there")
	}
	if _, ok := r.PendingReset("H", q); ok {
		t.Fatal("reset mark is still there")
	}
	at := r.put(msg{topic: "T", body: "new"}.encode())
	for range 2 {
		res, err := r.Fetch(FetchRequest{Queue: q}, nil)
		if err != nil || res.Count != 1 || bodies(t, res.Messages)[0] != "new" {
			t.Fatalf("%+v, %v", res, err)
		}
		if e, ok := r.Entry(q, 0); !ok || e.Phys != at {
			t.Fatalf("entry %+v %v, want %d", e, ok, at)
		}
		r.reopen() // the old queue's blocks are still in the files
	}
}

// TestMessagesOfDeletedTopicsAreFoundByOffset: an id given out stays good as long as the bytes are kept.
func TestMessagesOfDeletedTopicsAreFoundByOffset(t *testing.T) {
	r := newRig(t)
	fake := msg{topic: "T", body: "inner"}.encode()
	at := r.put(msg{topic: "T", body: string(fake)}.encode())
	inner := at + int64(strings.Index(string(r.log.data[at:]), string(fake[:8])))
	message.View(r.log.data[inner:]).SetPhysicalOffset(inner) // a body that claims to be a message at its place
	prepared := r.put(msg{topic: "T", flags: message.SysFlagPrepared, body: "half"}.encode())
	check := func() {
		t.Helper()
		for _, phys := range []int64{at, prepared} {
			if b, err := r.MessageAt(phys); err != nil || message.View(b).PhysicalOffset() != phys {
				t.Fatalf("message at %d: %v", phys, err)
			}
		}
		for _, phys := range []int64{inner, at + 1, -1, r.log.next()} {
			if _, err := r.MessageAt(phys); !errors.Is(err, ErrNotFound) {
				t.Fatalf("message at %d: %v", phys, err)
			}
		}
	}
	check()
	r.put(DeleteTopic(1, "T"))
	check()
	r.put(msg{topic: "T", body: "new"}.encode())
	check()
}

func TestTransactionPartsTakeNoPlaceInQueues(t *testing.T) {
	r := newRig(t)
	for _, flags := range []int32{message.SysFlagPrepared, message.SysFlagRollback} {
		at := r.put(msg{topic: "T", flags: flags, uniq: "u"}.encode())
		v, err := message.ParseView(r.log.data[at:])
		if err != nil || v.QueueOffset() != 0 || r.MaxOffset(QueueID{"T", 0}) != 0 {
			t.Fatalf("flags %#x: queue offset %d, max %d, %v", flags, v.QueueOffset(), r.MaxOffset(QueueID{"T", 0}), err)
		}
	}
	r.put(msg{topic: "T", flags: message.SysFlagCommit}.encode())
	if got := r.MaxOffset(QueueID{"T", 0}); got != 1 {
		t.Fatalf("max %d after the committed message", got)
	}
	if res := queryByKey(t, r.Store, "T", "u", true); len(res.Messages) != 1 {
		t.Fatalf("%d hits, want the prepared message alone: rollback marks are not indexed", len(res.Messages))
	}
}

func TestReplayBelowAppliedIsSkipped(t *testing.T) {
	r := newRig(t)
	r.put(msg{topic: "T"}.encode(), CommitOffsets([]OffsetCommit{{Group: "G", Topic: "T", Offset: 1}}))
	r.put(CommitOffsets([]OffsetCommit{{Group: "G", Topic: "T", Offset: 2}}))
	want := r.Digest()
	for _, rec := range r.log.records {
		r.Apply(r.log.record(rec), rec.offset)
		r.Applied(rec.offset + int64(rec.size))
	}
	if got := r.Digest(); got != want || r.Err() != nil {
		t.Fatalf("digest changed, err %v", r.Err())
	}
	if end := r.AppliedOffset(); end != int64(len(r.log.data)) {
		t.Fatalf("applied %d of %d", end, len(r.log.data))
	}
}

// TestBadRecordsStopTheStore: Fatal is told once, nothing changes any more, readers go on.
func TestBadRecordsStopTheStore(t *testing.T) {
	good := msg{topic: "T"}.encode()
	wrongOffset := slices.Clone(good)
	message.View(wrongOffset).SetQueueOffset(9)
	wrongPlace := slices.Clone(good)
	message.View(wrongPlace).SetQueueOffset(1)
	message.View(wrongPlace).SetPhysicalOffset(1)
	newer := finishCommand(newCommand(kindMax + 1))
	short := PutConfig("k", "v")[:20]
	binary.BigEndian.PutUint32(short, 20)
	for name, c := range map[string]struct {
		record []byte
		want   error
	}{
		"empty item":      {[]byte{0, 0, 0, 0, 0, 0, 0, 0}, message.ErrMalformed},
		"torn message":    {good[:50], message.ErrMalformed},
		"blank offsets":   {good, ErrMismatch},
		"queue offset":    {wrongOffset, ErrMismatch},
		"physical offset": {wrongPlace, ErrMismatch},
		"unknown magic":   {[]byte{0, 0, 0, 8, 1, 2, 3, 4}, ErrBadCommand},
		"unknown command": {newer, ErrBadCommand},
		"damaged command": {short, ErrBadCommand},
		"unknown timer":   {FireTimers([]int64{12345}), ErrBadCommand},
		"empty payload":   {finishCommand(newCommand(kindSetLocks)), ErrBadCommand},
	} {
		t.Run(name, func(t *testing.T) {
			var told atomic.Int32
			r := newRig(t)
			r.o.Fatal = func(error) { told.Add(1) }
			r.reopen()
			r.put(msg{topic: "T", body: "kept"}.encode())
			applied := r.AppliedOffset()
			for range 2 {
				r.Apply(c.record, r.log.next())
			}
			r.Applied(r.log.next() + 1000)
			if !errors.Is(r.Err(), c.want) || told.Load() != 1 {
				t.Fatalf("err %v, want %v; told %d times", r.Err(), c.want, told.Load())
			}
			if r.AppliedOffset() != applied {
				t.Fatal("the applied offset moved")
			}
			if _, err := r.Snapshot(); !errors.Is(err, c.want) {
				t.Fatalf("snapshot of a stopped store: %v", err)
			}
			if res, err := r.Fetch(FetchRequest{Queue: QueueID{"T", 0}}, nil); err != nil || res.Count != 1 {
				t.Fatalf("fetch: %+v, %v", res, err)
			}
		})
	}
}

// TestFailedWritesStopTheStore fails each kind of write in turn.
func TestFailedWritesStopTheStore(t *testing.T) {
	boom := errors.New("boom")
	for _, c := range []struct{ op, name string }{
		{"create", "queue-"}, {"write", "queue-"}, {"sync", "queue-"},
		{"create", "keys-"}, {"write", "keys-"}, {"sync", "keys-"},
		{"create", "checkpoint-"}, {"write", "checkpoint-"}, {"sync", "checkpoint-"}, {"rename", "checkpoint-"}, {"syncdir", "store"},
	} {
		t.Run(c.op+" "+c.name, func(t *testing.T) {
			r := newRig(t)
			for range 100 {
				r.put(msg{topic: "T", uniq: "u"}.encode())
			}
			want := r.Digest()
			r.fs.failWith(func(op, name string) error {
				if op == c.op && strings.Contains(name, c.name) {
					return &fs.PathError{Op: op, Path: name, Err: boom}
				}
				return nil
			})
			snap, err := r.Snapshot()
			if err == nil {
				err = snap.Persist()
			}
			if !errors.Is(err, boom) || !errors.Is(r.Err(), boom) {
				t.Fatalf("snapshot %v, store %v", err, r.Err())
			}
			r.fs = r.fs.clone()
			r.reopen()
			if got := r.Digest(); got != want {
				t.Fatal("state changed over the failure")
			}
		})
	}
}

func TestCommandsKeepTheirFields(t *testing.T) {
	r := newRig(t)
	topic := TopicConfig{Name: "T", ReadQueues: 4, WriteQueues: 8, Perm: 6, FilterType: "MULTI_TAG", SysFlag: 1, Order: true,
		Attributes: map[string]string{"a": "b", "c": "d"}}
	group := GroupConfig{Name: "G", ConsumeEnable: true, ConsumeFromMinEnable: true, ConsumeBroadcastEnable: true, ConsumeMessageOrderly: true,
		RetryQueueNums: 1, RetryMaxTimes: 16, RetryPolicy: RetryPolicy{Type: "EXPONENTIAL", Exponential: &ExponentialRetry{1, 2, 3}, Customized: []int64{9}},
		BrokerID: 2, WhichBrokerWhenConsumeSlowly: 1, NotifyConsumerIDsChangedEnable: true, GroupSysFlag: 3, ConsumeTimeoutMinute: 15,
		Subscriptions: []Subscription{{"T", "a||b", "TAG", 5}}, Attributes: map[string]string{"x": "y"}}
	r.put(PutTopic(77, topic), PutGroup(78, group), PutTopic(99, topic), PutGroup(99, group))
	for range 2 {
		if got, ok := r.Topic("T"); !ok || !got.Equal(&topic) {
			t.Fatalf("topic %+v", got)
		}
		if got, ok := r.Group("G"); !ok || !got.Equal(&group) {
			t.Fatalf("group %+v", got)
		}
		if v := r.TopicsVersion(); v != (Version{Timestamp: 77, Counter: 1}) {
			t.Fatalf("topics version %+v: an equal configuration is no change", v)
		}
		if v := r.GroupsVersion(); v != (Version{Timestamp: 78, Counter: 1}) {
			t.Fatalf("groups version %+v", v)
		}
		r.checkpoint()
		r.reopen()
	}
	// What is made in passing leaves alone what is there.
	r.put(CreateTopic(80, TopicConfig{Name: "T"}), CreateGroup(80, GroupConfig{Name: "G"}), CreateTopic(81, TopicConfig{Name: "U", Perm: 6}))
	if got, _ := r.Topic("T"); !got.Equal(&topic) {
		t.Fatalf("topic %+v", got)
	}
	if got, _ := r.Group("G"); !got.Equal(&group) {
		t.Fatalf("group %+v", got)
	}
	if got, ok := r.Topic("U"); !ok || got.Perm != 6 || r.TopicCount() != 2 || r.GroupCount() != 1 {
		t.Fatalf("topic %+v, %d topics, %d groups", got, r.TopicCount(), r.GroupCount())
	}
	r.put(DeleteGroup(5, "G", true), DeleteGroup(6, "G", true))
	if v := r.GroupsVersion(); v != (Version{Timestamp: 5, Counter: 2}) {
		t.Fatalf("groups version %+v", v)
	}
}

func TestOffsetsAndResets(t *testing.T) {
	r := newRig(t)
	q := QueueID{"T", 2}
	commit := func(offset, epoch int64) {
		r.put(CommitOffsets([]OffsetCommit{{Group: "G", Topic: "T", Queue: 2, Offset: offset, Epoch: epoch}}))
	}
	want := func(offset int64, pending bool) {
		t.Helper()
		got, ok := r.Offset("G", "T", 2)
		target, p := r.PendingReset("G", q)
		if !ok || got != offset || p != pending || p && target != offset {
			t.Fatalf("offset %d %v, pending %d %v; want %d %v", got, ok, target, p, offset, pending)
		}
	}
	if r.OffsetEpoch("G", "T", 2) != 1 {
		t.Fatal("a queue never reset has epoch 1")
	}
	commit(5, 9)
	if _, ok := r.Offset("G", "T", 2); ok {
		t.Fatal("a commit of another epoch was stored")
	}
	commit(50, 1)
	commit(40, 0)
	want(40, false)
	before := r.OffsetEpoch("G", "T", 2)
	r.put(ResetOffsets([]OffsetReset{{Group: "G", Topic: "T", Queue: 2, Target: 7}}))
	want(7, true)
	commit(60, 0)
	commit(61, r.OffsetEpoch("G", "T", 2))
	want(7, true)
	r.put(ClearResets([]ResetClear{{Group: "G", Topic: "T", Queue: 2, Epoch: before}}))
	want(7, true)
	r.put(ClearResets([]ResetClear{{Group: "G", Topic: "T", Queue: 2, Epoch: before + 1}, {Group: "none", Topic: "T", Epoch: 1}}))
	want(7, false)
	commit(62, before)
	want(7, false)
	commit(8, before+1)
	want(8, false)

	r.put(CommitOffsets([]OffsetCommit{{Group: "A", Topic: "T", Queue: 1, Offset: 1}, {Group: "G", Topic: "S", Queue: 0, Offset: 2}}))
	if got := r.GroupOffsets("G"); !slices.Equal(got, []OffsetCommit{{"G", "S", 0, 2, 1}, {"G", "T", 2, 8, 2}}) {
		t.Fatalf("group's offsets %v", got)
	}
	if got := r.TopicOffsets("T"); !slices.Equal(got, []OffsetCommit{{"A", "T", 1, 1, 1}, {"G", "T", 2, 8, 2}}) {
		t.Fatalf("topic's offsets %v", got)
	}
	if got := r.AllOffsets(); len(got) != 3 {
		t.Fatalf("all offsets %v", got)
	}
}

func TestTimersHoldBackTrim(t *testing.T) {
	r := newRig(t)
	r.put(msg{topic: "T"}.encode())
	parked := r.put(msg{topic: message.TopicSchedule, queue: 3, props: []string{message.PropertyTimerOutMS, "500"}}.encode())
	later := r.put(msg{topic: message.TopicSchedule, queue: 3, props: []string{message.PropertyTimerOutMS, "400"}}.encode())
	r.put(msg{topic: "T"}.encode())
	if got := r.PendingTimers(QueueID{message.TopicSchedule, 3}); got != 2 {
		t.Fatalf("%d parked", got)
	}
	if got := r.DueTimers(499, 10); !slices.Equal(got, []Timer{{400, later}}) {
		t.Fatalf("due %v", got)
	}
	if got := r.DueTimers(500, 1); !slices.Equal(got, []Timer{{400, later}}) {
		t.Fatalf("due %v", got)
	}
	r.put(Trim(1 << 40))
	if got := r.TrimOffset(); got != parked {
		t.Fatalf("trimmed to %d, the parked message lies at %d", got, parked)
	}
	if got := r.TimersBelow(later, 10); !slices.Equal(got, []Timer{{500, parked}}) {
		t.Fatalf("below: %v", got)
	}
	r.put(FireTimers([]int64{parked, later}), msg{topic: "T"}.encode())
	at := r.put(Trim(1 << 40))
	if got := r.TrimOffset(); got != at || r.TimerCount() != 0 || r.PendingTimers(QueueID{message.TopicSchedule, 3}) != 0 {
		t.Fatalf("trimmed to %d, want the command's own place %d", got, at)
	}
	if _, ok := r.NextTimer(); ok {
		t.Fatal("a timer is left")
	}
	r.put(Trim(0))
	if got := r.TrimOffset(); got != at {
		t.Fatal("the trim offset went back")
	}
}

func TestTimeline(t *testing.T) {
	r := newRig(t)
	if _, ok := r.StoreTimeBefore(1 << 30); ok || r.EarliestStoreTimeOfLog() != -1 || r.LastStoreTime() != 0 {
		t.Fatal("an empty log has store times")
	}
	body := strings.Repeat("x", 400<<10)
	var at []int64
	for i := range int64(20) {
		at = append(at, r.put(msg{topic: "T", body: body, time: 100 + i}.encode()))
	}
	check := func(from int64) {
		t.Helper()
		for end := (from/timelineStep + 1) * timelineStep; end < int64(len(r.log.data)); end += timelineStep {
			want := int64(0)
			for i, o := range at {
				if o < end {
					want = 100 + int64(i)
				}
			}
			if got, ok := r.StoreTimeBefore(end); !ok || got != want {
				t.Fatalf("before %d: %d %v, want %d", end, got, ok, want)
			}
		}
	}
	check(0)
	r.put(Trim(at[10]))
	check(at[10])
	if _, ok := r.StoreTimeBefore(timelineStep); ok {
		t.Fatal("a store time below the trim offset")
	}
	if got := r.EarliestStoreTimeOfLog(); got != 110 {
		t.Fatalf("earliest %d", got)
	}
	r.checkpoint()
	r.reopen()
	check(at[10])
	if got, ok := r.StoreTimeBefore(1 << 40); !ok || got != 119 || r.LastStoreTime() != 119 {
		t.Fatalf("newest %d %v", got, ok)
	}
}
