package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"rmq/raftlog/crashfs"
)

// ledger is what the producers of a test know: the answered items by serial.
type ledger struct {
	mu    sync.Mutex
	acked map[uint64]ackedItem
}

type ackedItem struct {
	offset int64
	item   []byte
}

func (g *ledger) add(r AppendResult) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.acked[toySerial(r.Record)] = ackedItem{r.Offset, bytes.Clone(r.Record)}
}

func (g *ledger) snapshot() map[uint64]ackedItem {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.acked)
}

// check reads every answered item that the log still has to hold.
func checkItems(t testing.TB, n *node, items map[uint64]ackedItem) {
	t.Helper()
	for serial, it := range items {
		got := make([]byte, len(it.item))
		if _, err := n.log.ReadAt(got, it.offset); errors.Is(err, ErrTrimmed) && it.offset < n.log.MinOffset() {
			continue
		} else if err != nil {
			t.Fatalf("item %d at offset %d: %v", serial, it.offset, err)
		}
		if !bytes.Equal(got, it.item) {
			t.Fatalf("item %d at offset %d changed", serial, it.offset)
		}
	}
}

// checkLog walks all frames of a log and verifies every header, CRC and link, independently of the code that opens it.
func checkLog(t testing.TB, l *Log) {
	t.Helper()
	first, last := l.index.bounds()
	if first == 0 {
		return
	}
	segs := *l.segs.Load()
	c := cursor{end: segs[0].base, index: segs[0].firstIndex - 1, term: segs[0].prevTerm, chain: segs[0].prevChain}
	for i := first; i <= last; i++ {
		s, ok, err := l.index.find(i)
		if !ok || err != nil {
			t.Fatalf("entry %d: found %v, %v", i, ok, err)
		}
		b := make([]byte, s.end-s.off)
		if _, err := l.ReadAt(b, s.off); err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
		h, err := decodeFrameHeader(b)
		if err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
		if want := place(c.end, int64(len(b)), l.o.SegmentBytes); s.off != want {
			t.Fatalf("entry %d lies at %d, expected %d", i, s.off, want)
		}
		c.end = s.off
		if c, err = c.follow(&h); err != nil {
			t.Fatal(err)
		}
	}
	if end := l.EndOffset(); c.end != end {
		if _, now := l.index.bounds(); now == last { // else it has grown meanwhile
			t.Fatalf("frames end at %d, the log at %d", c.end, end)
		}
	}
}

// TestCrashAnywhere runs a group of one on the crashable file system and stops it at a random operation, again and again: by a
// power cut, which loses what was not synced, or by a kill, which does not. What was answered must be there unless the mode allows
// the loss; what is there must be whole, in order and at its place.
func TestCrashAnywhere(t *testing.T) {
	runs, generations := 12, 8
	if testing.Short() {
		runs, generations = 3, 4
	}
	for run := range runs {
		t.Run(fmt.Sprint(run), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(uint64(run), 1))
			flush := FlushMode(run % 2)
			disk := crashfs.New()
			acked := map[uint64]ackedItem{}
			boot := 0
			for gen := range generations {
				power := rng.IntN(3) > 0
				disk, acked = crashOnce(t, rng, disk, acked, flush, fmt.Sprint("boot", boot), power)
				if power {
					boot++
				}
				if t.Failed() {
					t.Fatalf("in generation %d, flush %v, power cut %v", gen, flush, power)
				}
			}
		})
	}
}

// crashOnce opens the log on disk, checks it against what was answered before, works on it and crashes it. It returns the disk as
// the crash left it and what was answered before the crash.
func crashOnce(t *testing.T, rng *rand.Rand, disk *crashfs.FS, acked map[uint64]ackedItem, flush FlushMode, boot string, power bool) (*crashfs.FS, map[uint64]ackedItem) {
	o := Options{
		FS: disk, Flush: flush, SegmentBytes: 64 << 10, TailCacheBytes: 32 << 10, SnapshotEveryBytes: 100 << 10,
		FlushInterval: time.Millisecond, CoalesceBytesMax: 8 << 10,
		BootID: func() string { return boot }, Logger: testLogger(t),
	}
	crashAt := disk.Ops() + 1 + uint64(rng.IntN(400))
	g := &ledger{acked: acked}
	var left *crashfs.FS
	var known map[uint64]ackedItem
	seed := rng.Uint64()
	crashed := make(chan struct{})
	var once sync.Once
	crash := func() {
		once.Do(func() {
			known = g.snapshot() // before the copy: what is answered in between may be missing
			if power {
				left = disk.CrashClone(seed)
			} else {
				left = disk.Clone()
			}
			close(crashed)
		})
	}
	disk.OnOp(func(op crashfs.Op) {
		if op.Seq >= crashAt {
			crash()
		}
	})
	l, err := Open("/d/log", o)
	if err != nil {
		t.Errorf("open: %v", err)
		return disk, acked
	}
	checkLog(t, l)
	if flush == AsyncFlush && l.Recovery().MayHaveLost {
		end := l.EndOffset()
		g.mu.Lock()
		maps.DeleteFunc(acked, func(_ uint64, it ackedItem) bool { return it.offset >= end })
		g.mu.Unlock()
	}
	n, err := lead(t, "/d", l)
	if err != nil {
		t.Errorf("start: %v", err)
		return disk, acked
	}
	checkItems(t, n, g.snapshot())
	for i := 0; ; i++ {
		select {
		case <-crashed:
			n.log.Close() // the process that crashed; its disk is a copy from now on
			return left, known
		default:
		}
		if i == 2000 {
			crash()
			continue
		}
		payload := make([]byte, rng.IntN(3000))
		rng64 := rng.Uint64()
		for k := range payload {
			payload[k] = byte(rng64 >> (k % 8 * 8))
		}
		var wait chan struct{}
		if rng.IntN(4) == 0 {
			wait = make(chan struct{})
		}
		err := n.log.Append(toyItem(payload), AckCommitted, func(r AppendResult) {
			if r.Err == nil {
				g.add(r)
			}
			if wait != nil {
				close(wait)
			}
		})
		if err != nil && !errors.Is(err, ErrBusy) {
			t.Errorf("append: %v", err)
			return disk, acked
		}
		if wait != nil && err == nil {
			<-wait
		}
		if rng.IntN(50) == 0 {
			n.sm.setFloor(n.sm.AppliedOffset() - 100<<10)
		}
	}
}

func testLogger(t *testing.T) *slog.Logger {
	if !testing.Verbose() {
		return nil
	}
	return slog.New(slog.NewTextHandler(testWriter{t}, nil))
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(string(bytes.TrimSpace(p)))
	return len(p), nil
}
