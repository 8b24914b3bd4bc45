package raftlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rmq/raftlog/crashfs"
)

// TestAnswersComeInOrder appends from one goroutine without waiting.
func TestAnswersComeInOrder(t *testing.T) {
	var prepared, batches atomic.Int64
	n := startSolo(t, "/d", Options{FS: crashfs.New(), SegmentBytes: 1 << 20, CoalesceBytesMax: 8 << 10,
		Prepare:        func(record []byte) { prepared.Add(1) },
		CompletedBatch: func() { batches.Add(1) }})
	const count = 5000
	var next uint64
	var end int64
	done := make(chan struct{})
	for i := range count {
		ack := Ack(i % 2)
		err := n.log.Append(toyItem([]byte(fmt.Sprint(i))), ack, func(r AppendResult) {
			if r.Err != nil || toySerial(r.Record) != next || string(r.Record[toyHeader:]) != fmt.Sprint(next) || r.Offset < end {
				t.Errorf("answer %d: %+v", next, r)
			}
			end = r.Offset + int64(len(r.Record))
			if next++; next == count {
				close(done)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	<-done
	s := n.log.Stats()
	if s.EntriesAppended > count/2 {
		t.Errorf("%d entries for %d records: nothing was coalesced", s.EntriesAppended, count)
	}
	if prepared.Load() != count || batches.Load() == 0 || s.RecordsAppended != count {
		t.Errorf("%d prepared, %d batches, %+v", prepared.Load(), batches.Load(), s)
	}
	n.close()
	if s := n.log.Stats(); s.QueuedBytes != 0 || s.QueuedRecords != 0 {
		t.Errorf("after close: %+v", s)
	}
}

// TestPrepareChangesTheRecord checks that what Prepare writes is what is stored, and that the caller's buffer is its own.
func TestPrepareChangesTheRecord(t *testing.T) {
	n := startSolo(t, "/d", Options{FS: crashfs.New(), Prepare: func(record []byte) { record[toyHeader] = '!' }})
	defer n.close()
	item := toyItem([]byte("?"))
	c := make(chan string, 1)
	if err := n.log.Append(item, AckCommitted, func(r AppendResult) { c <- string(r.Record[toyHeader:]) }); err != nil {
		t.Fatal(err)
	}
	item[toyHeader] = 'x'
	if got := <-c; got != "!" {
		t.Fatalf("stored %q", got)
	}
}

func TestQueueIsBounded(t *testing.T) {
	disk := crashfs.New()
	n := startSolo(t, "/d", Options{FS: disk, QueueRecordsMax: 10, QueueBytesMax: 3000})
	defer n.close()
	var answered sync.WaitGroup
	done := func(AppendResult) { answered.Done() }
	release := disk.Inject("hang write path=/log/0000")
	count := 0
	for ; ; count++ {
		answered.Add(1)
		if err := n.log.Append(toyItem(nil), AckCommitted, done); err != nil {
			answered.Done()
			if !errors.Is(err, ErrBusy) {
				t.Fatal(err)
			}
			break
		}
	}
	if count != 10 {
		t.Errorf("%d records taken", count)
	}
	release()
	answered.Wait()
	release = disk.Inject("hang write path=/log/0000")
	for count = 0; ; count++ {
		answered.Add(1)
		if err := n.log.Append(toyItem(make([]byte, 1000-toyHeader)), AckCommitted, done); err != nil {
			answered.Done()
			break
		}
	}
	if count != 3 {
		t.Errorf("%d records of 1000 bytes taken", count)
	}
	release()
	answered.Wait()
	if s := n.log.Stats(); s.AppendsRefusedBusy != 2 || s.QueuedRecords != 0 || s.QueuedBytes != 0 {
		t.Errorf("%+v", s)
	}
}

func TestRefusedAppends(t *testing.T) {
	l, err := Open("/d/log", Options{FS: crashfs.New(), RecordBytesMax: 100})
	if err != nil {
		t.Fatal(err)
	}
	never := func(AppendResult) { t.Error("answered an append that was refused") }
	if err := l.Append([]byte("x"), AckCommitted, never); !errors.Is(err, ErrNotLeader) {
		t.Errorf("before Start: %v", err)
	}
	if err := l.Append(make([]byte, 101), AckCommitted, never); !errors.Is(err, ErrTooLarge) {
		t.Errorf("large: %v", err)
	}
	if err := l.Append(nil, AckCommitted, never); err == nil {
		t.Error("an empty record was taken")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Append([]byte("x"), AckCommitted, never); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := l.Barrier(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("barrier after Close: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// TestCloseAnswersEverybody closes while appends are queued and in flight, over and over.
func TestCloseAnswersEverybody(t *testing.T) {
	disk := crashfs.New()
	for range 20 {
		n := startSolo(t, "/d", Options{FS: disk, CoalesceBytesMax: 2000, SegmentBytes: 1 << 20})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				var mine sync.WaitGroup
				for {
					mine.Add(1)
					err := n.log.Append(toyItem(make([]byte, 500)), AckCommitted, func(r AppendResult) {
						if r.Err != nil && !errors.Is(r.Err, ErrUncertain) && !errors.Is(r.Err, ErrClosed) && !errors.Is(r.Err, ErrNotLeader) {
							t.Error(r.Err)
						}
						mine.Done()
					})
					if err != nil {
						mine.Done()
						if !errors.Is(err, ErrBusy) {
							break
						}
					}
				}
				mine.Wait() // hangs if an answer is missing
			})
		}
		awaitCond(t, "some records", func() bool { return n.log.Stats().RecordsAppended > 50 })
		n.close()
		wg.Wait()
	}
}

// TestLargeRecords passes records beyond the coalescing limit and the tail cache.
func TestLargeRecords(t *testing.T) {
	n := startSolo(t, t.TempDir(), Options{SegmentBytes: 16 << 20, TailCacheBytes: 1 << 20})
	defer n.close()
	for _, size := range []int{1, 300 << 10, 3 << 20, 9 << 20, 5, 15 << 20, 100} {
		payload := bytes.Repeat([]byte{byte(size), 7}, size/2)
		r := n.mustPut(payload)
		got := make([]byte, len(r.Record))
		if _, err := n.log.ReadAt(got, r.Offset); err != nil || !bytes.Equal(got[toyHeader:], payload) {
			t.Fatalf("record of %d bytes at %d: %v", size, r.Offset, err)
		}
	}
	checkLog(t, n.log)
}

// TestReadersAndWriter reads what is published while it is written, in and behind a small cache. The race detector watches.
func TestReadersAndWriter(t *testing.T) {
	n := startSolo(t, t.TempDir(), Options{SegmentBytes: 1 << 20, TailCacheBytes: 64 << 10})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	g := &ledger{acked: map[uint64]ackedItem{}}
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for serial, it := range g.snapshot() { // in random order
					b := make([]byte, len(it.item))
					if _, err := n.log.ReadAt(b, it.offset); err != nil || !bytes.Equal(b, it.item) {
						t.Errorf("item %d: %v", serial, err)
						return
					}
					if serial%64 == 0 {
						break
					}
				}
			}
		})
	}
	var left atomic.Int64
	const count = 3000
	left.Store(count)
	done := make(chan struct{})
	for i := range count {
		err := n.log.Append(toyItem(bytes.Repeat([]byte{byte(i)}, 100+i%2000)), AckCommitted, func(r AppendResult) {
			if r.Err != nil {
				t.Error(r.Err)
			}
			if i%16 == 0 {
				g.add(r)
			}
			if left.Add(-1) == 0 {
				close(done)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	<-done
	close(stop)
	wg.Wait()
	checkItems(t, n, g.snapshot())
	n.close()
}

// TestRestartReplaysOnlyWhatFollowsTheSnapshot counts the Apply calls after a kill.
func TestRestartReplaysOnlyWhatFollowsTheSnapshot(t *testing.T) {
	o := Options{FS: crashfs.New(), SegmentBytes: 64 << 10, SnapshotEveryBytes: 1 << 30}
	n := startSolo(t, "/d", o)
	for range 200 {
		n.mustPut(make([]byte, 1000))
	}
	if err := n.log.Snapshot(); err != nil {
		t.Fatal(err)
	}
	for range 7 {
		n.mustPut(make([]byte, 1000))
	}
	o.FS = o.FS.(*crashfs.FS).Clone()
	n.close()
	n = startSolo(t, "/d", o)
	defer n.close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := n.log.Barrier(ctx); err != nil {
		t.Fatal(err)
	}
	if serial, applies := n.sm.counts(); serial != 207 || applies != 7 {
		t.Fatalf("serial %d after %d applies", serial, applies)
	}
	if s := n.log.Status(); s.State != "Leader" || s.AppliedIndex != s.LastIndex || n.log.CommittedOffset() != n.log.EndOffset() {
		t.Fatalf("%+v, committed %d of %d", s, n.log.CommittedOffset(), n.log.EndOffset())
	}
}

// TestSnapshotsFollowAppliedBytes and trimmed segments go.
func TestSnapshotsFollowAppliedBytes(t *testing.T) {
	n := startSolo(t, "/d", Options{FS: crashfs.New(), SegmentBytes: 64 << 10, SnapshotEveryBytes: 50 << 10, Flush: SyncFlush})
	defer n.close()
	awaitCond(t, "unlinked segments", func() bool {
		n.mustPut(make([]byte, 1000))
		n.sm.setFloor(n.sm.AppliedOffset() - 150<<10)
		return n.log.MinOffset() > 128<<10
	})
	if _, err := n.log.ReadAt(make([]byte, 10), 0); !errors.Is(err, ErrTrimmed) {
		t.Fatalf("read of trimmed bytes: %v", err)
	}
	if n.log.SizeBytes() != n.log.EndOffset()-n.log.MinOffset() || n.log.Stats().Snapshots == 0 {
		t.Fatalf("size %d, %+v", n.log.SizeBytes(), n.log.Stats())
	}
	first, _ := n.log.index.bounds()
	if first <= 1 {
		t.Fatalf("first index is %d", first)
	}
	checkLog(t, n.log)
}

// TestNothingIsLeftRunning looks for goroutines after Close in several states.
func TestNothingIsLeftRunning(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	l, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	n := startSolo(t, t.TempDir(), Options{})
	n.mustPut([]byte("x"))
	n.close()
	goleak.VerifyNone(t, ignore)
}

// TestFlushModes counts fsyncs.
func TestFlushModes(t *testing.T) {
	n := startSolo(t, "/d", Options{FS: crashfs.New(), FlushInterval: time.Hour})
	defer n.close()
	syncsOf := func() uint64 {
		before := n.log.Stats().Syncs
		n.mustPut([]byte("x"))
		return n.log.Stats().Syncs - before
	}
	if s := syncsOf(); s != 0 {
		t.Errorf("%d fsyncs under AsyncFlush", s)
	}
	n.log.SetFlush(SyncFlush)
	if s := syncsOf(); s != 1 {
		t.Errorf("%d fsyncs under SyncFlush", s)
	}
	n.log.SetFlush(AsyncFlush)
	if s := syncsOf(); s != 0 {
		t.Errorf("%d fsyncs back under AsyncFlush", s)
	}
}

// TestTwoProcesses opens one directory twice.
func TestTwoProcesses(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); err == nil {
		t.Fatal("opened twice")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = Open(dir, Options{}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
