package store

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"rmq/store/message"
)

// memLog is a log in memory: records at byte offsets, with gap bytes of frame before each.
type memLog struct {
	mu      sync.RWMutex
	data    []byte
	records []memRecord
	min     int64
	gap     int
}

type memRecord struct {
	offset int64
	size   int
}

func (l *memLog) ReadAt(p []byte, off int64) (int, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if off < l.min {
		return 0, fmt.Errorf("read at %d below %d", off, l.min)
	}
	if off >= int64(len(l.data)) {
		return 0, io.EOF
	}
	n := copy(p, l.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (l *memLog) MinOffset() int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.min
}

// unlink moves the log's start up to floor.
func (l *memLog) unlink(floor int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.min = max(l.min, floor)
}

// next is the offset that the next record will have.
func (l *memLog) next() int64 { return int64(len(l.data) + l.gap) }

func (l *memLog) append(record []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for range l.gap {
		l.data = append(l.data, 0xEE)
	}
	at := int64(len(l.data))
	l.data = append(l.data, record...)
	l.records = append(l.records, memRecord{at, len(record)})
}

// from returns the records at or above an offset.
func (l *memLog) from(offset int64) []memRecord {
	i, _ := slices.BinarySearchFunc(l.records, offset, func(r memRecord, o int64) int { return int(r.offset - o) })
	return l.records[i:]
}

func (l *memLog) record(r memRecord) []byte { return l.data[r.offset : r.offset+int64(r.size)] }

func (l *memLog) Scan(from int64, fn func(record []byte, offset int64) error) error {
	l.mu.RLock()
	records, data := l.records, l.data
	l.mu.RUnlock()
	for _, r := range records {
		if r.offset+int64(r.size) <= from {
			continue
		}
		if err := fn(data[r.offset:r.offset+int64(r.size)], r.offset); err != nil {
			return err
		}
	}
	return nil
}

// rig is a store over a log and file system in memory.
type rig struct {
	t   testing.TB
	log *memLog
	fs  *memFS
	o   Options
	*Store
	filled int // messages sent by fill
}

const rigDir = "store"

func newRig(t testing.TB) *rig {
	r := &rig{t: t, log: &memLog{gap: 24}, fs: newMemFS(), o: Options{KeyIndex: true}}
	r.open()
	t.Cleanup(func() { _ = r.Store.Close() })
	return r
}

// open opens the store and replays the log, as raftlog does.
func (r *rig) open() {
	r.t.Helper()
	r.o.FS = r.fs
	s, err := Open(rigDir, r.log, r.o)
	if err != nil {
		r.t.Fatalf("open: %v", err)
	}
	r.Store = s
	r.restamp()
	r.replay()
}

func (r *rig) restamp() {
	r.t.Helper()
	for _, rec := range r.log.from(r.Rewind()) {
		if err := r.Stamp(r.log.record(rec), rec.offset); err != nil {
			r.t.Fatalf("stamp again: %v", err)
		}
	}
}

func (r *rig) replay() {
	r.t.Helper()
	for _, rec := range r.log.from(r.AppliedOffset()) {
		r.Apply(r.log.record(rec), rec.offset)
		r.Applied(rec.offset + int64(rec.size))
	}
	if err := r.Err(); err != nil {
		r.t.Fatalf("replay: %v", err)
	}
}

// reopen closes the store and opens it again over the files it left.
func (r *rig) reopen() {
	r.t.Helper()
	if err := r.Close(); err != nil {
		r.t.Fatalf("close: %v", err)
	}
	r.open()
}

// stamped stamps and appends a record, for Apply.
func (r *rig) stamped(record []byte) ([]byte, int64) {
	r.t.Helper()
	at := r.log.next()
	if err := r.Stamp(record, at); err != nil {
		r.t.Fatalf("stamp: %v", err)
	}
	r.log.append(record)
	return record, at
}

// put stamps, appends and applies one record made of items and returns its offset.
func (r *rig) put(items ...[]byte) int64 {
	r.t.Helper()
	record, at := r.stamped(slices.Concat(items...))
	r.Apply(record, at)
	r.Applied(at + int64(len(record)))
	if err := r.Err(); err != nil {
		r.t.Fatalf("apply: %v", err)
	}
	return at
}

func (r *rig) checkpoint() {
	r.t.Helper()
	snap, err := r.Snapshot()
	if err != nil {
		r.t.Fatalf("snapshot: %v", err)
	}
	defer snap.Release()
	if err := snap.Persist(); err != nil {
		r.t.Fatalf("persist: %v", err)
	}
}

// queryByKey asks until no run of the key index is being rebuilt: the query that meets a damaged one fails.
func queryByKey(t testing.TB, s *Store, topic, key string, unique bool) KeyQueryResult {
	t.Helper()
	for {
		res, err := s.QueryByKey(topic, key, unique, 0, math.MaxInt64, 1<<20)
		if err == nil {
			return res
		}
		if !errors.Is(err, errRunDamaged) {
			t.Fatalf("query %s %s: %v", topic, key, err)
		}
		waitKeyIndex(s)
	}
}

// waitKeyIndex waits until the key index has nothing left to write or rebuild.
func waitKeyIndex(s *Store) {
	x := s.keys
	x.mu.Lock()
	defer x.mu.Unlock()
	for len(x.frozen) > 0 || slices.ContainsFunc(x.runs, func(r *keyRun) bool { return r.damaged.Load() }) {
		x.changed.Wait()
	}
}

// msg describes a message of a test.
type msg struct {
	topic string
	queue int32
	body  string
	tag   string
	keys  string
	uniq  string
	time  int64
	props []string // name, value, ...
	flags int32
}

func (m msg) encode() []byte {
	var p []byte
	for _, kv := range [][2]string{{"TAGS", m.tag}, {"KEYS", m.keys}, {"UNIQ_KEY", m.uniq}} {
		if kv[1] != "" {
			p = message.AppendProperty(p, kv[0], kv[1])
		}
	}
	for i := 0; i+1 < len(m.props); i += 2 {
		p = message.AppendProperty(p, m.props[i], m.props[i+1])
	}
	full := message.Message{Topic: m.topic, QueueID: m.queue, SysFlag: m.flags, BornTimestamp: 1, StoreTimestamp: m.time,
		BornHost: netip.MustParseAddrPort("1.2.3.4:5"), StoreHost: netip.MustParseAddrPort("127.0.0.1:10911"),
		Body: []byte(m.body), Properties: p}
	b, err := full.AppendTo(nil)
	if err != nil {
		panic(err)
	}
	return b
}

// bodies splits a fetch's bytes into bodies.
func bodies(t testing.TB, b []byte) []string {
	t.Helper()
	var out []string
	for len(b) > 0 {
		v, err := message.ParseView(b)
		if err != nil {
			t.Fatalf("fetched bytes: %v", err)
		}
		out = append(out, string(v.Body()))
		b = b[v.Size():]
	}
	return out
}
