package store

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"

	"rmq/store/message"
)

func TestFetchStatuses(t *testing.T) {
	r := newRig(t)
	q := QueueID{"T", 3}
	if res, err := r.Fetch(FetchRequest{Queue: q, Offset: 7}, nil); err != nil || res.Status != NoQueue || res.NextOffset != 0 {
		t.Fatalf("unknown queue: %+v, %v", res, err)
	}
	for i := range 200 {
		r.put(msg{topic: "T", queue: 3, body: fmt.Sprint(i), time: int64(i)}.encode())
	}
	res, err := r.Fetch(FetchRequest{Queue: q, Offset: 60, MaxMessages: 5}, []byte(nil))
	if err != nil || res.Status != Found || res.Count != 5 || res.NextOffset != 65 || res.MaxOffset != 200 {
		t.Fatalf("%+v, %v", res, err)
	}
	if got, want := bodies(t, res.Messages), []string{"60", "61", "62", "63", "64"}; !reflect.DeepEqual(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	if res.LastStoreTime != 64 {
		t.Fatalf("last store time %d", res.LastStoreTime)
	}
	for _, c := range []struct {
		offset int64
		status FetchStatus
		next   int64
	}{{-1, OffsetTooSmall, 0}, {200, NoNewMessage, 200}, {201, OffsetOverflow, 200}} {
		res, err := r.Fetch(FetchRequest{Queue: q, Offset: c.offset}, nil)
		if err != nil || res.Status != c.status || res.NextOffset != c.next {
			t.Fatalf("offset %d: %+v, %v", c.offset, res, err)
		}
	}
}

func TestReopenReplays(t *testing.T) {
	r := newRig(t)
	for i := range 300 {
		r.put(msg{topic: "T", queue: int32(i % 3), body: fmt.Sprint(i), uniq: fmt.Sprint("u", i), time: int64(i)}.encode())
		if i == 100 || i == 200 {
			r.checkpoint()
		}
	}
	want := r.Digest()
	r.reopen()
	if got := r.Digest(); got != want {
		t.Fatal("digest changed")
	}
	res, err := r.Fetch(FetchRequest{Queue: QueueID{"T", 1}, MaxMessages: 1000}, nil)
	if err != nil || res.Count != 100 {
		t.Fatalf("%+v %v", res.Count, err)
	}
	k, err := r.QueryByKey("T", "u7", true, 0, 1000, 10)
	if err != nil || len(k.Messages) != 1 {
		t.Fatalf("%d %v", len(k.Messages), err)
	}
}

// testFilter lets pass what its parts let pass.
type testFilter struct {
	code    func(int64) bool
	message func(message.View) bool
}

func (f testFilter) Match(c int64) bool               { return f.code == nil || f.code(c) }
func (f testFilter) NeedsMessage() bool               { return f.message != nil }
func (f testFilter) MatchMessage(v message.View) bool { return f.message(v) }

func TestFetchFilters(t *testing.T) {
	r := newRig(t)
	q := QueueID{"T", 0}
	for i := range 300 {
		r.put(msg{topic: "T", body: fmt.Sprint(i), tag: fmt.Sprint("tag", i%10)}.encode())
	}
	want := message.TagsCode([]byte("tag7"))
	byTag := testFilter{code: func(c int64) bool { return c == want }}
	res, err := r.Fetch(FetchRequest{Queue: q, MaxMessages: 4, Filter: byTag}, nil)
	if err != nil || res.Status != Found || res.NextOffset != 38 {
		t.Fatalf("%+v, %v", res, err)
	}
	if got := bodies(t, res.Messages); !reflect.DeepEqual(got, []string{"7", "17", "27", "37"}) {
		t.Fatalf("got %v", got)
	}
	byBody := testFilter{message: func(v message.View) bool { return len(v.Body()) == 3 }}
	res, err = r.Fetch(FetchRequest{Queue: q, MaxMessages: 2, Filter: byBody}, []byte("kept"))
	if err != nil || res.Count != 2 || string(res.Messages[:4]) != "kept" {
		t.Fatalf("%+v, %v", res, err)
	}
	if got := bodies(t, res.Messages[4:]); !reflect.DeepEqual(got, []string{"100", "101"}) {
		t.Fatalf("got %v", got)
	}
	none := testFilter{code: func(int64) bool { return false }}
	res, err = r.Fetch(FetchRequest{Queue: q, Offset: 5, Filter: none}, nil)
	if err != nil || res.Status != NoMatched || res.NextOffset != 300 || res.Count != 0 {
		t.Fatalf("%+v, %v", res, err)
	}
}

// TestFetchWorkIsBounded: a filter that nothing passes moves on by 16,384 messages a call.
func TestFetchWorkIsBounded(t *testing.T) {
	r := newRig(t)
	one := msg{topic: "T"}.encode()
	var items [][]byte
	for range 1000 {
		items = append(items, one)
	}
	for range 20 {
		r.put(items...)
	}
	res, err := r.Fetch(FetchRequest{Queue: QueueID{"T", 0}, Offset: 100, Filter: testFilter{code: func(int64) bool { return false }}}, nil)
	if err != nil || res.Status != NoMatched || res.NextOffset != 100+fetchExaminedMax {
		t.Fatalf("%+v, %v", res, err)
	}
}

func TestFetchBytesLimit(t *testing.T) {
	r := newRig(t)
	one := msg{topic: "T", body: strings.Repeat("x", 1000)}.encode()
	r.put(one, one, one) // neighbours in the log
	r.put(one)           // and one apart
	for limit, want := range map[int]int{1: 1, len(one): 1, 2*len(one) - 1: 1, 2 * len(one): 2, 3 * len(one): 3, 4 * len(one): 4, 0: 4} {
		res, err := r.Fetch(FetchRequest{Queue: QueueID{"T", 0}, MaxBytes: limit}, make([]byte, 10))
		if err != nil || res.Count != want || len(res.Messages) != 10+want*len(one) || res.NextOffset != int64(want) {
			t.Errorf("limit %d: %d messages, %v; want %d", limit, res.Count, err, want)
		}
	}
	if res, err := r.Fetch(FetchRequest{Queue: QueueID{"T", 0}, MaxMessages: 2}, nil); err != nil || res.Count != 2 {
		t.Errorf("%d messages, %v", res.Count, err)
	}
}

func TestFetchAfterTrim(t *testing.T) {
	r := newRig(t)
	q, idle := QueueID{"T", 0}, QueueID{"T", 1}
	r.put(msg{topic: "T", queue: 1}.encode())
	var at []int64
	for i := range 300 {
		at = append(at, r.put(msg{topic: "T", body: fmt.Sprint(i), time: int64(i)}.encode()))
	}
	for _, low := range []int64{0, 1, 63, 64, 65, 200, 256, 270, 299} {
		r.put(Trim(at[low]))
		r.checkpoint()
		r.log.unlink(r.Floor())
		if got := r.MinOffset(q); got != low {
			t.Fatalf("min %d, want %d", got, low)
		}
		if res, err := r.Fetch(FetchRequest{Queue: q, Offset: low - 1}, nil); err != nil || res.Status != OffsetTooSmall || res.NextOffset != low {
			t.Fatalf("below min: %+v, %v", res, err)
		}
		if res, err := r.Fetch(FetchRequest{Queue: q, Offset: low, MaxMessages: 1}, nil); err != nil || bodies(t, res.Messages)[0] != fmt.Sprint(low) {
			t.Fatalf("at min: %+v, %v", res, err)
		}
		if ms, err := r.EarliestStoreTime(q); err != nil || ms != low {
			t.Fatalf("earliest store time %d, %v", ms, err)
		}
		if _, err := r.StoreTimeAt(q, low-1); !errors.Is(err, ErrNotFound) {
			t.Fatalf("store time below min: %v", err)
		}
		if _, err := r.MessageAt(at[max(low-1, 0)]); low > 0 && !errors.Is(err, ErrNotFound) {
			t.Fatalf("trimmed message: %v", err)
		}
	}
	if ms, err := r.EarliestStoreTime(idle); err != nil || ms != -1 || r.MinOffset(idle) != 1 || r.MaxOffset(idle) != 1 {
		t.Fatalf("a queue trimmed empty: %d, %v, %d to %d", ms, err, r.MinOffset(idle), r.MaxOffset(idle))
	}
	if res, err := r.Fetch(FetchRequest{Queue: idle, Offset: 1}, nil); err != nil || res.Status != NoNewMessage {
		t.Fatalf("%+v, %v", res, err)
	}
	if ms, err := r.EarliestStoreTime(QueueID{"none", 0}); err != nil || ms != -1 {
		t.Fatalf("unknown queue: %d, %v", ms, err)
	}
}

func TestOffsetByTimeWithEqualTimes(t *testing.T) {
	r := newRig(t)
	q := QueueID{"T", 0}
	times := []int64{10, 20, 20, 20, 30, 30, 50}
	for _, ms := range times {
		r.put(msg{topic: "T", time: ms}.encode())
	}
	for _, c := range []struct{ ts, lower, upper int64 }{
		{0, 0, 0}, {10, 0, 0}, {11, 1, 0}, {20, 1, 3}, {25, 4, 3}, {30, 4, 5}, {31, 6, 5}, {50, 6, 6}, {51, 7, 6}, {-5, 0, 0},
	} {
		lower, err1 := r.OffsetByTime(q, c.ts, false)
		upper, err2 := r.OffsetByTime(q, c.ts, true)
		if err1 != nil || err2 != nil || lower != c.lower || upper != c.upper {
			t.Errorf("time %d: lower %d %v, upper %d %v; want %d, %d", c.ts, lower, err1, upper, err2, c.lower, c.upper)
		}
	}
	if got, err := r.OffsetByTime(QueueID{"none", 0}, 5, false); err != nil || got != 0 {
		t.Errorf("unknown queue: %d, %v", got, err)
	}
}

// TestFetchRefusesBytesThatAreNotTheMessage: what the index names is compared with what the log gives.
func TestFetchRefusesBytesThatAreNotTheMessage(t *testing.T) {
	r := newRig(t)
	r.put(msg{topic: "T", body: "a"}.encode())
	at := r.put(msg{topic: "T", body: "b"}.encode())
	message.View(r.log.data[at:]).SetQueueOffset(0)
	res, err := r.Fetch(FetchRequest{Queue: QueueID{"T", 0}}, nil)
	if !errors.Is(err, ErrCorrupt) || res.Count != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
}

// TestReadersDuringApply runs every kind of reader beside Apply, trims and checkpoints.
func TestReadersDuringApply(t *testing.T) {
	r := &rig{t: t, log: &memLog{gap: 24}, fs: newMemFS(), o: Options{KeyIndex: true, segmentBlocks: 4, keyRunEntries: 100}}
	r.open()
	defer r.Close()
	r.put(PutTopic(1, TopicConfig{Name: "T"}))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	reader := func(read func() error) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := read(); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	for queue := range int32(2) {
		q, next := QueueID{"T", queue}, int64(0)
		reader(func() error {
			res, err := r.Fetch(FetchRequest{Queue: q, Offset: next}, nil)
			if err != nil {
				return err
			}
			at := next
			for b := res.Messages; len(b) > 0; at++ {
				v, err := message.ParseView(b)
				if err != nil || v.QueueOffset() != at || v.QueueID() != queue {
					return fmt.Errorf("offset %d holds %d: %w", at, v.QueueOffset(), err)
				}
				b = b[v.Size():]
			}
			next = res.NextOffset
			return nil
		})
		reader(func() error {
			low, top := r.MinOffset(q), r.MaxOffset(q)
			if low > top {
				return fmt.Errorf("min %d above max %d", low, top)
			}
			if _, err := r.OffsetByTime(q, top/2, false); err != nil {
				return err
			}
			e, ok := r.Entry(q, low)
			if !ok {
				return nil
			}
			if _, err := r.MessageAt(e.Phys); err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
			return nil
		})
	}
	reader(func() error {
		_, err := r.QueryByKey("T", "k", false, 0, 1<<40, 3)
		r.Topic("T")
		r.AllOffsets()
		r.Locks()
		r.Stats()
		r.StoreTimeBefore(r.AppliedOffset())
		r.DueTimers(1<<40, 5)
		return err
	})
	reader(func() error {
		done := make(chan struct{})
		if _, parked := r.Await(QueueID{"T", 0}, r.MaxOffset(QueueID{"T", 0}), func() { close(done) }); !parked {
			return nil
		}
		select {
		case <-done:
		case <-stop:
		}
		return nil
	})
	var at []int64
	for i := range 3000 {
		at = append(at, r.put(msg{topic: "T", queue: int32(i % 2), time: int64(i), keys: "k"}.encode(),
			CommitOffsets([]OffsetCommit{{Group: "G", Topic: "T", Offset: int64(i)}})))
		if i%500 == 499 {
			r.put(Trim(at[i-300]))
		}
		if i%250 == 249 {
			r.checkpoint()
		}
	}
	close(stop)
	wg.Wait()
}
