package store

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"testing"

	"rmq/store/message"
)

// dirFS is the machine's own file system, for benchmarks.
type dirFS struct{}

type dirFile struct{ *os.File }

func (f dirFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (dirFS) Create(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	return dirFile{f}, err
}

func (dirFS) Open(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	return dirFile{f}, err
}

func (dirFS) Rename(oldName, newName string) error { return os.Rename(oldName, newName) }
func (dirFS) Remove(name string) error             { return os.Remove(name) }
func (dirFS) MkdirAll(dir string) error            { return os.MkdirAll(dir, 0o755) }

func (dirFS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func (dirFS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	sort.Strings(names)
	return names, err
}

func benchMessage(topic string, queue int32, size int) []byte {
	return msg{topic: topic, queue: queue, body: strings.Repeat("x", size), uniq: "7F0000011F9018B4AAC20000000A0000", tag: "TagA", time: 1,
		props: []string{"CLUSTER", "DefaultCluster", "MSG_REGION", "DefaultRegion", "TRACE_ON", "true", "WAIT", "true"}}.encode()
}

func benchStore(b *testing.B, keyIndex bool) *Store {
	b.Helper()
	s, err := Open(b.TempDir(), &memLog{}, Options{FS: dirFS{}, KeyIndex: keyIndex})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	return s
}

// BenchmarkStampApply is one message of 1 KiB through Stamp and Apply, a checkpoint every 64 MiB of log included.
func BenchmarkStampApply(b *testing.B) {
	for _, keyIndex := range []bool{true, false} {
		b.Run(fmt.Sprintf("keyIndex=%v", keyIndex), func(b *testing.B) {
			s := benchStore(b, keyIndex)
			const perRecord = 16
			var record []byte
			for i := range perRecord {
				record = append(record, benchMessage("BenchTopic", int32(i%8), 1024)...)
			}
			blank := append([]byte(nil), record...)
			offset, sinceCheckpoint := int64(0), 0
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i%perRecord != 0 {
					continue
				}
				copy(record, blank)
				if err := s.Stamp(record, offset); err != nil {
					b.Fatal(err)
				}
				s.Apply(record, offset)
				offset += int64(len(record))
				s.Applied(offset)
				if sinceCheckpoint += len(record); sinceCheckpoint > 64<<20 {
					sinceCheckpoint = 0
					benchCheckpoint(b, s)
				}
			}
			if err := s.Err(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func benchCheckpoint(b *testing.B, s *Store) {
	b.Helper()
	snap, err := s.Snapshot()
	if err != nil {
		b.Fatal(err)
	}
	if err := snap.Persist(); err != nil {
		b.Fatal(err)
	}
	snap.Release()
}

// fillLog returns a store with n messages of one queue, in records of one.
func fillLog(b *testing.B, n, size int) (*Store, *memLog) {
	b.Helper()
	log := &memLog{gap: 40}
	s, err := Open(b.TempDir(), log, Options{FS: dirFS{}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	for range n {
		record := benchMessage("T", 0, size)
		at := log.next()
		if err := s.Stamp(record, at); err != nil {
			b.Fatal(err)
		}
		log.append(record)
		s.Apply(record, at)
	}
	return s, log
}

// BenchmarkFetch is a pull of 32 messages of 1 KiB that lie apart in the log.
func BenchmarkFetch(b *testing.B) {
	s, _ := fillLog(b, 20000, 1024)
	for name, offset := range map[string]int64{"tail": 20000 - 32, "block": 5000} {
		b.Run(name, func(b *testing.B) {
			dst := make([]byte, 0, 64<<10)
			b.ReportAllocs()
			for b.Loop() {
				res, err := s.Fetch(FetchRequest{Queue: QueueID{"T", 0}, Offset: offset, MaxMessages: 32}, dst[:0])
				if err != nil || res.Count != 32 {
					b.Fatal(res.Count, err)
				}
			}
		})
	}
}

type noneFilter struct{}

func (noneFilter) Match(int64) bool               { return false }
func (noneFilter) NeedsMessage() bool             { return false }
func (noneFilter) MatchMessage(message.View) bool { return false }

// BenchmarkFetchFiltered examines the 16,384 entries that one fetch may examine.
func BenchmarkFetchFiltered(b *testing.B) {
	s, _ := fillLog(b, 20000, 16)
	b.ReportAllocs()
	for b.Loop() {
		res, err := s.Fetch(FetchRequest{Queue: QueueID{"T", 0}, Filter: noneFilter{}}, nil)
		if err != nil || res.NextOffset != fetchExaminedMax {
			b.Fatal(res.NextOffset, err)
		}
	}
}

// BenchmarkAwait parks a pull and wakes it, among 50,000 others.
func BenchmarkAwait(b *testing.B) {
	s := benchStore(b, false)
	nothing := func() {}
	for i := range 50_000 {
		s.Await(QueueID{"Parked", int32(i)}, 0, nothing)
	}
	record := benchMessage("T", 0, 16)
	blank := append([]byte(nil), record...)
	offset, woken := int64(0), 0
	wake := func() { woken++ }
	b.ReportAllocs()
	for n := int64(0); b.Loop(); n++ {
		if _, parked := s.Await(QueueID{"T", 0}, n, wake); !parked {
			b.Fatal("not parked")
		}
		copy(record, blank)
		if err := s.Stamp(record, offset); err != nil {
			b.Fatal(err)
		}
		s.Apply(record, offset)
		offset += int64(len(record))
		s.Applied(offset)
		if woken != int(n)+1 {
			b.Fatal("not woken")
		}
	}
}

// heapBytes is what lives on the heap after a collection.
func heapBytes() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// BenchmarkManyQueues says what a queue costs with one message in it, and with 32; and how long a snapshot of 80,000 holds
// up Apply.
func BenchmarkManyQueues(b *testing.B) {
	const queues, perTopic = 80_000, 8
	for _, messages := range []int{1, 32, 63} {
		b.Run(fmt.Sprintf("messages=%d", messages), func(b *testing.B) {
			var s *Store
			for b.Loop() {
				b.StopTimer()
				before := heapBytes()
				s = benchStore(b, false)
				offset := int64(0)
				for range messages {
					for i := range queues {
						record := benchMessage("Topic"+strconv.Itoa(i/perTopic), int32(i%perTopic), 1)
						if err := s.Stamp(record, offset); err != nil {
							b.Fatal(err)
						}
						s.Apply(record, offset)
						offset += int64(len(record))
					}
				}
				s.Applied(offset)
				b.ReportMetric((heapBytes()-before)/queues, "B/queue")
				b.StartTimer()
				snap, err := s.Snapshot()
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := snap.Persist(); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(fileBytes(b, s.dir, "checkpoint-"))/queues, "checkpointB/queue")
				runtime.KeepAlive(s)
				b.StartTimer()
			}
		})
	}
}

func fileBytes(b *testing.B, dir, prefix string) (sum int64) {
	b.Helper()
	names, err := filepath.Glob(filepath.Join(dir, prefix+"*"))
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range names {
		st, err := os.Stat(name)
		if err != nil {
			b.Fatal(err)
		}
		sum += st.Size()
	}
	return sum
}

// BenchmarkTimers adds and fires parked messages among a million others, spread over the delay levels.
func BenchmarkTimers(b *testing.B) {
	const n = 1_000_000
	before := heapBytes()
	set := timerSet{parked: make(map[parkingQueue]int64)}
	delays := []int64{1e3, 5e3, 1e4, 3e4, 6e4, 12e4, 18e4, 24e4, 3e5, 36e4, 42e4, 48e4, 54e4, 6e5, 12e5, 18e5, 36e5, 72e5}
	add := func(i int) { set.add(int64(i)+delays[i%18], int64(i)*300, parkingQueue(i%18)) }
	for i := range n {
		add(i)
	}
	perTimer := (heapBytes() - before) / n
	b.ReportAllocs()
	for i := n; b.Loop(); i++ {
		add(i)
		first, _ := set.byDue.atLeast(pair{})
		if err := set.remove([]int64{first.b}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(perTimer, "B/timer")
}

// BenchmarkOpen reopens a store of 4 million queued messages, 80,000 queues and a million parked messages.
func BenchmarkOpen(b *testing.B) {
	dir, log := b.TempDir(), &memLog{}
	o := Options{FS: dirFS{}}
	s, err := Open(dir, log, o)
	if err != nil {
		b.Fatal(err)
	}
	offset := int64(0)
	put := func(record []byte) {
		if err := s.Stamp(record, offset); err != nil {
			b.Fatal(err)
		}
		s.Apply(record, offset)
		offset += int64(len(record))
	}
	for i := range 4_000_000 {
		put(msg{topic: "T", queue: int32(i % 8)}.encode())
	}
	for i := range 80_000 {
		put(msg{topic: "Topic" + strconv.Itoa(i/8), queue: int32(i % 8)}.encode())
	}
	for i := range 1_000_000 {
		put(msg{topic: message.TopicSchedule, queue: int32(i % 18), props: []string{message.PropertyTimerOutMS, strconv.Itoa(i * 7 % 1_000_003)}}.encode())
	}
	benchCheckpoint(b, s)
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s, err := Open(dir, log, o)
		if err != nil || s.AppliedOffset() != offset {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
