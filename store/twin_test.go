package store

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"strings"
	"testing"
)

// twin is the store's meaning in plain maps: what Apply has to do, said as simply as possible.
type twin struct {
	topics   map[string]TopicConfig
	groups   map[string]GroupConfig
	versions [2]Version
	offsets  map[[2]string]map[int32]*twinOffset // group, topic
	locks    map[LockChange]string               // without owner
	settings map[string]string
	queues   map[QueueID][]twinMessage
	timers   map[int64]int64 // physical offset -> delivery time
	trim     int64
}

type twinMessage struct {
	phys int64
	msg  msg
}

type twinOffset struct {
	offset, epoch int64
	pending       bool
}

func newTwin() *twin {
	return &twin{topics: map[string]TopicConfig{}, groups: map[string]GroupConfig{}, offsets: map[[2]string]map[int32]*twinOffset{},
		locks: map[LockChange]string{}, settings: map[string]string{}, queues: map[QueueID][]twinMessage{}, timers: map[int64]int64{}}
}

func (w *twin) message(m msg, phys int64, deliverAt int64) {
	q := QueueID{m.topic, m.queue}
	w.queues[q] = append(w.queues[q], twinMessage{phys, m})
	if isParkingTopic([]byte(m.topic)) {
		w.timers[phys] = deliverAt
	}
}

func (w *twin) putTopic(now int64, c TopicConfig) {
	if old, ok := w.topics[c.Name]; !ok || !old.Equal(&c) {
		w.topics[c.Name] = c
		w.versions[0].bump(now)
	}
}

func (w *twin) deleteTopic(now int64, name string) {
	if _, ok := w.topics[name]; ok {
		w.versions[0].bump(now)
	}
	delete(w.topics, name)
	maps.DeleteFunc(w.queues, func(q QueueID, _ []twinMessage) bool { return q.Topic == name })
	maps.DeleteFunc(w.offsets, func(k [2]string, _ map[int32]*twinOffset) bool { return k[1] == name })
	maps.DeleteFunc(w.locks, func(k LockChange, _ string) bool { return k.Topic == name })
}

func (w *twin) putGroup(now int64, g GroupConfig) {
	if old, ok := w.groups[g.Name]; !ok || !old.Equal(&g) {
		w.groups[g.Name] = g
		w.versions[1].bump(now)
	}
}

func (w *twin) deleteGroup(now int64, name string, clean bool) {
	if _, ok := w.groups[name]; ok {
		w.versions[1].bump(now)
	}
	delete(w.groups, name)
	maps.DeleteFunc(w.locks, func(k LockChange, _ string) bool { return k.Group == name })
	if clean {
		maps.DeleteFunc(w.offsets, func(k [2]string, _ map[int32]*twinOffset) bool { return k[0] == name })
	}
}

func (w *twin) offset(group, topic string, queue int32) *twinOffset {
	k := [2]string{group, topic}
	if w.offsets[k] == nil {
		w.offsets[k] = map[int32]*twinOffset{}
	}
	if w.offsets[k][queue] == nil {
		w.offsets[k][queue] = &twinOffset{epoch: 1}
	}
	return w.offsets[k][queue]
}

func (w *twin) commit(c OffsetCommit) {
	now := twinOffset{epoch: 1}
	if o := w.offsets[[2]string{c.Group, c.Topic}][c.Queue]; o != nil {
		now = *o
	}
	if !now.pending && (c.Epoch == 0 || c.Epoch == now.epoch) {
		w.offset(c.Group, c.Topic, c.Queue).offset = c.Offset
	}
}

func (w *twin) reset(c OffsetReset) {
	o := w.offset(c.Group, c.Topic, c.Queue)
	o.offset, o.pending, o.epoch = c.Target, true, o.epoch+1
}

func (w *twin) clear(c ResetClear) {
	if o := w.offsets[[2]string{c.Group, c.Topic}][c.Queue]; o != nil && o.epoch == c.Epoch {
		o.pending = false
	}
}

func (w *twin) doTrim(offset, entry int64) {
	offset = min(offset, entry)
	for phys := range w.timers {
		offset = min(offset, phys)
	}
	w.trim = max(w.trim, offset)
}

func (w *twin) min(q QueueID) int64 {
	ms := w.queues[q]
	return int64(sort.Search(len(ms), func(i int) bool { return ms[i].phys >= w.trim }))
}

// check compares everything that a store shows with the twin.
func (w *twin) check(t testing.TB, s *Store) {
	t.Helper()
	if got, want := fmt.Sprint(s.Topics()), fmt.Sprint(sorted(w.topics)); got != want {
		t.Fatalf("topics\n%s, want\n%s", got, want)
	}
	if got, want := fmt.Sprint(s.Groups()), fmt.Sprint(sorted(w.groups)); got != want {
		t.Fatalf("groups\n%s, want\n%s", got, want)
	}
	if got := [2]Version{s.TopicsVersion(), s.GroupsVersion()}; got != w.versions {
		t.Fatalf("versions %v, want %v", got, w.versions)
	}
	if got := s.Configs(); !maps.Equal(got, w.settings) {
		t.Fatalf("settings %v, want %v", got, w.settings)
	}
	for _, k := range []string{"k0", "k1", "none"} {
		want, has := w.settings[k]
		if got, ok := s.Config(k); got != want || ok != has {
			t.Fatalf("setting %s is %q %v, want %q %v", k, got, ok, want, has)
		}
	}
	if got := s.TrimOffset(); got != w.trim {
		t.Fatalf("trim offset %d, want %d", got, w.trim)
	}
	w.checkOffsets(t, s)
	w.checkTimers(t, s)
	if got := len(s.Locks()); got != len(w.locks) {
		t.Fatalf("%d locks, want %d", got, len(w.locks))
	}
	for k, owner := range w.locks {
		if got := s.LockOwner(k.Group, QueueID{k.Topic, k.Queue}); got != owner {
			t.Fatalf("lock %v of %q, want %q", k, got, owner)
		}
	}
	if got := s.Stats().Queues; got != len(w.queues) {
		t.Fatalf("%d queues, want %d", got, len(w.queues))
	}
	for q := range w.queues {
		w.checkQueue(t, s, q)
	}
}

func sorted[V any](m map[string]V) []V {
	out := make([]V, 0, len(m))
	for _, k := range sortedKeys(m) {
		out = append(out, m[k])
	}
	return out
}

func (w *twin) checkOffsets(t testing.TB, s *Store) {
	t.Helper()
	n := 0
	for k, queues := range w.offsets {
		n += len(queues)
		for queue, want := range queues {
			got, ok := s.Offset(k[0], k[1], queue)
			target, pending := s.PendingReset(k[0], QueueID{k[1], queue})
			epoch := s.OffsetEpoch(k[0], k[1], queue)
			if !ok || got != want.offset || pending != want.pending || pending && target != want.offset || epoch != want.epoch {
				t.Fatalf("offset %v-%d is %d %v %v epoch %d, want %+v", k, queue, got, ok, pending, epoch, *want)
			}
		}
	}
	if got := len(s.AllOffsets()); got != n {
		t.Fatalf("%d offsets, want %d", got, n)
	}
}

func (w *twin) checkTimers(t testing.TB, s *Store) {
	t.Helper()
	var want []Timer
	for phys, at := range w.timers {
		want = append(want, Timer{at, phys})
	}
	slices.SortFunc(want, func(a, b Timer) int { return pair{a.DeliverAt, a.Offset}.compare(pair{b.DeliverAt, b.Offset}) })
	if got := s.DueTimers(math.MaxInt64, len(want)+1); !slices.Equal(got, want) {
		t.Fatalf("timers %v, want %v", got, want)
	}
	next, ok := s.NextTimer()
	if ok != (len(want) > 0) || ok && next != want[0].DeliverAt {
		t.Fatalf("next timer %d %v of %v", next, ok, want)
	}
	slices.SortFunc(want, func(a, b Timer) int { return int(a.Offset - b.Offset) })
	if got := s.TimersBelow(math.MaxInt64, len(want)+1); !slices.Equal(got, want) {
		t.Fatalf("timers by offset %v, want %v", got, want)
	}
}

func (w *twin) checkQueue(t testing.TB, s *Store, q QueueID) {
	t.Helper()
	ms, low := w.queues[q], w.min(q)
	if got, top := s.MinOffset(q), s.MaxOffset(q); got != low || top != int64(len(ms)) {
		t.Fatalf("%v spans %d to %d, want %d to %d", q, got, top, low, len(ms))
	}
	var want, got []string
	for _, m := range ms[low:] {
		want = append(want, m.msg.body)
	}
	for at := low; ; {
		res, err := s.Fetch(FetchRequest{Queue: q, Offset: at, MaxMessages: 50}, nil)
		if err != nil {
			t.Fatalf("fetch %v at %d: %v", q, at, err)
		}
		if res.Status == NoNewMessage {
			break
		}
		if res.Status != Found || res.NextOffset != at+int64(res.Count) || res.MinOffset != low {
			t.Fatalf("fetch %v at %d: %+v", q, at, res)
		}
		got = append(got, bodies(t, res.Messages)...)
		at = res.NextOffset
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%v holds %v, want %v", q, got, want)
	}
	if _, ok := s.Entry(q, low-1); ok {
		t.Fatalf("%v has an entry below its min", q)
	}
	for i := low; i < int64(len(ms)); i += 1 + int64(len(ms))/8 {
		w.checkMessage(t, s, q, i)
	}
}

// checkMessage looks one message up in every way there is.
func (w *twin) checkMessage(t testing.TB, s *Store, q QueueID, i int64) {
	t.Helper()
	ms := w.queues[q]
	m := ms[i]
	if e, ok := s.Entry(q, i); !ok || e.Phys != m.phys {
		t.Fatalf("%v entry %d is %+v %v, want %d", q, i, e, ok, m.phys)
	}
	b, err := s.MessageAt(m.phys)
	if err != nil || bodies(t, b)[0] != m.msg.body {
		t.Fatalf("%v message %d at %d: %v", q, i, m.phys, err)
	}
	if _, err := s.MessageAt(m.phys + 1); err != ErrNotFound {
		t.Fatalf("a message inside a message at %d: %v", m.phys, err)
	}
	for _, upper := range []bool{false, true} {
		for _, ts := range []int64{m.msg.time - 1, m.msg.time, m.msg.time + 1} {
			got, err := s.OffsetByTime(q, ts, upper)
			if want := w.byTime(q, ts, upper); err != nil || got != want {
				t.Fatalf("%v by time %d upper %v: %d %v, want %d", q, ts, upper, got, err, want)
			}
		}
	}
	if m.msg.uniq != "" {
		w.checkKey(t, s, m.msg.topic, m.msg.uniq, true)
	}
	if m.msg.keys != "" && q.ID == 0 {
		w.checkKey(t, s, m.msg.topic, strings.Fields(m.msg.keys)[0], false)
	}
}

func (w *twin) byTime(q QueueID, ts int64, upper bool) int64 {
	ms, low := w.queues[q], w.min(q)
	for i := low; i < int64(len(ms)); i++ {
		if t := ms[i].msg.time; !upper && t >= ts || upper && t > ts {
			if upper {
				return max(i-1, low)
			}
			return i
		}
	}
	if upper {
		return max(int64(len(ms))-1, low)
	}
	return int64(len(ms))
}

// checkKey compares a query's answer with a search of all messages. Messages of deleted topics may still be found: the index
// points into the log.
func (w *twin) checkKey(t testing.TB, s *Store, topic, key string, unique bool) {
	t.Helper()
	want := map[string]bool{}
	for q, ms := range w.queues {
		for _, m := range ms {
			if q.Topic == topic && m.phys >= w.trim && (m.msg.uniq == key || !unique && slices.Contains(strings.Fields(m.msg.keys), key)) {
				want[m.msg.body] = true
			}
		}
	}
	res := queryByKey(t, s, topic, key, unique)
	for _, b := range res.Messages {
		delete(want, bodies(t, b)[0])
	}
	if len(want) > 0 {
		t.Fatalf("query %s %s found %d, lacks %v", topic, key, len(res.Messages), want)
	}
}
