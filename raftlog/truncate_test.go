package raftlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"rmq/raftlog/crashfs"
)

// openPlain opens a log with a toy state machine and without Raft, so that a test can play Raft's part.
func openPlain(t *testing.T, o Options) *Log {
	t.Helper()
	l, err := Open("/d/log", o)
	if err != nil {
		t.Fatal(err)
	}
	sm, err := openToy(o.FS, "/d/sm")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.attach(sm); err != nil {
		t.Fatal(err)
	}
	return l
}

// entry returns a fresh entry whose contents follow from index and term.
func entry(index, term uint64) *raft.Log {
	rng := rand.New(rand.NewPCG(index, term))
	e := &raft.Log{Index: index, Term: term}
	switch rng.IntN(8) {
	case 0:
		e.Type = raft.LogNoop
	case 1:
		e.Type = raft.LogConfiguration
		e.Data = raft.EncodeConfiguration(raft.Configuration{Servers: soloServers()})
	default:
		for range 1 + rng.IntN(3) {
			e.Data = append(e.Data, toyItem(bytes.Repeat([]byte{byte(index), byte(term)}, rng.IntN(2500)))...)
		}
	}
	return e
}

// TestBytesAreAFunctionOfTheEntries stores, truncates and reopens at random and compares with a log that was given the final
// entries in one go.
func TestBytesAreAFunctionOfTheEntries(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 2))
			o := Options{FS: crashfs.New(), SegmentBytes: 64 << 10, TailCacheBytes: 16 << 10, Flush: FlushMode(seed % 2), FlushInterval: time.Millisecond}
			l := openPlain(t, o)
			var terms []uint64 // of entry i+1
			term := uint64(1)
			for range 60 {
				switch op := rng.IntN(10); {
				case op < 7 || len(terms) == 0:
					var batch []*raft.Log
					for range 1 + rng.IntN(12) {
						terms = append(terms, term)
						batch = append(batch, entry(uint64(len(terms)), term))
					}
					if err := l.storeLogs(batch); err != nil {
						t.Fatal(err)
					}
				case op < 9:
					from := 1 + rng.IntN(len(terms))
					if rng.IntN(4) > 0 { // mostly near the end
						from = max(from, len(terms)-rng.IntN(20))
					}
					if err := l.deleteRange(uint64(from), uint64(len(terms))); err != nil {
						t.Fatal(err)
					}
					terms = terms[:from-1]
					term++
				default:
					if rng.IntN(2) == 0 {
						o.FS = o.FS.(*crashfs.FS).Clone()
					}
					if err := l.Close(); err != nil {
						t.Fatal(err)
					}
					l = openPlain(t, o)
				}
				if _, last := l.index.bounds(); last != uint64(len(terms)) {
					t.Fatalf("last entry is %d, expected %d", last, len(terms))
				}
			}
			checkLog(t, l)
			plain := openPlain(t, Options{FS: crashfs.New(), SegmentBytes: 64 << 10})
			for i, term := range terms {
				if err := plain.storeLogs([]*raft.Log{entry(uint64(i+1), term)}); err != nil {
					t.Fatal(err)
				}
			}
			a, b := make([]byte, l.EndOffset()), make([]byte, plain.EndOffset())
			if len(a) != len(b) {
				t.Fatalf("%d bytes, expected %d", len(a), len(b))
			}
			for _, r := range []struct {
				l *Log
				p []byte
			}{{l, a}, {plain, b}} {
				if _, err := r.l.ReadAt(r.p, 0); err != nil && len(a) > 0 {
					t.Fatal(err)
				}
				if err := r.l.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(a, b) {
				t.Fatal("the bytes differ")
			}
		})
	}
}

// TestTruncateIsDurable crashes at every operation of a truncation and of the stores after it. What is found must be a prefix of
// the old log or of the new one.
func TestTruncateIsDurable(t *testing.T) {
	work := func(disk *crashfs.FS, hook func(crashfs.Op)) (oldBytes, newBytes []byte) {
		l := openPlain(t, Options{FS: disk, SegmentBytes: 64 << 10, TailCacheBytes: 16 << 10, Flush: SyncFlush, BootID: func() string { return "a" }})
		var batch []*raft.Log
		for i := range uint64(60) {
			batch = append(batch, entry(i+1, 1))
		}
		if err := l.storeLogs(batch); err != nil {
			t.Fatal(err)
		}
		read := func() []byte {
			b := make([]byte, l.EndOffset())
			if _, err := l.ReadAt(b, 0); err != nil {
				t.Fatal(err)
			}
			return b
		}
		oldBytes = read()
		disk.OnOp(hook)
		if err := l.deleteRange(11, 60); err != nil {
			t.Fatal(err)
		}
		for i := uint64(11); i < 15; i++ {
			if err := l.storeLogs([]*raft.Log{entry(i, 2)}); err != nil {
				t.Fatal(err)
			}
		}
		disk.OnOp(nil)
		newBytes = read()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return oldBytes, newBytes
	}
	disk := crashfs.New()
	var crashes [][]*crashfs.FS
	oldBytes, newBytes := work(disk, func(crashfs.Op) {
		var left []*crashfs.FS
		for seed := range uint64(4) {
			left = append(left, disk.CrashClone(seed))
		}
		crashes = append(crashes, left)
	})
	if len(crashes) < 10 {
		t.Fatalf("only %d operations", len(crashes))
	}
	for at := range crashes {
		for seed, left := range crashes[at] {
			l, err := Open("/d/log", Options{FS: left, SegmentBytes: 64 << 10, BootID: func() string { return "b" }})
			if err != nil {
				t.Fatalf("crash at operation %d, seed %d: %v", at, seed, err)
			}
			got := make([]byte, l.EndOffset())
			if len(got) > 0 {
				if _, err := l.ReadAt(got, 0); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.HasPrefix(oldBytes, got) && !bytes.HasPrefix(newBytes, got) {
				t.Fatalf("crash at operation %d, seed %d: %d bytes of neither log", at, seed, len(got))
			}
			if _, last := l.index.bounds(); last < 10 {
				t.Fatalf("crash at operation %d, seed %d: only %d entries left", at, seed, last)
			}
			checkLog(t, l)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestTruncateBelowAppliedIsRefused asks for what would take back an applied entry.
func TestTruncateBelowAppliedIsRefused(t *testing.T) {
	fatal := 0
	n := startSolo(t, "/d", Options{FS: crashfs.New(), Fatal: func(code int, _ string, _ error) { fatal = code }})
	n.mustPut([]byte("applied"))
	_, last := n.log.index.bounds()
	if err := n.log.deleteRange(last, last); !errors.Is(err, ErrPoisoned) {
		t.Fatalf("got %v", err)
	}
	if fatal != ExitCorrupt {
		t.Fatalf("fatal with %d", fatal)
	}
	if err := n.log.Close(); !errors.Is(err, ErrPoisoned) {
		t.Fatal(err)
	}
}

// TestIsolatedLeaderIsCutBack lets a leader without followers append what the next leader does not have. AckAppended was promised
// no more than that; the bytes go to quarantine, and the replicas agree in the end.
func TestIsolatedLeaderIsCutBack(t *testing.T) {
	c := startCluster(t, 3, Options{SegmentBytes: 64 << 10, Flush: SyncFlush})
	old := c.leader(-1)
	c.nodes[old].mustPut([]byte("common"))
	c.cut(old)
	answered := make(chan AppendResult, 100)
	committed := make(chan AppendResult, 100)
	for range 5 {
		if err := c.nodes[old].log.Append(toyItem([]byte("mine")), AckAppended, func(r AppendResult) { answered <- r }); err != nil {
			t.Fatal(err)
		}
		if err := c.nodes[old].log.Append(toyItem([]byte("mine")), AckCommitted, func(r AppendResult) { committed <- r }); err != nil {
			t.Fatal(err)
		}
	}
	if r := <-answered; r.Err != nil {
		t.Fatalf("append without followers: %v", r.Err)
	}
	for range 5 {
		if r := <-committed; !errors.Is(r.Err, ErrUncertain) && !errors.Is(r.Err, ErrNotLeader) {
			t.Fatalf("answer is %v", r.Err)
		}
	}
	next := c.leader(old)
	c.nodes[next].mustPut([]byte("theirs"))
	c.heal(old)
	c.settle()
	c.compare()
	quarantined := 0
	for name := range c.disks[old].Dump() {
		if strings.HasPrefix(name, "/d/log/"+quarantineDir+"/") {
			quarantined++
		}
	}
	if quarantined == 0 {
		t.Fatal("the cut bytes are not in quarantine")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.nodes[c.leader(-1)].log.Barrier(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestReadDuringTruncation reads the end of the log as the replication of a leader that was just deposed does, while another
// leader's entries replace it. A reader may miss an entry; it must not take the change for corruption.
func TestReadDuringTruncation(t *testing.T) {
	l := openPlain(t, Options{FS: crashfs.New(), SegmentBytes: 64 << 10, TailCacheBytes: 16 << 10})
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			var e raft.Log
			for i := uint64(1); ; i = i%120 + 1 {
				select {
				case <-stop:
					return
				default:
				}
				if err := l.getLog(i, &e); err == nil && e.Index != i {
					t.Errorf("asked for entry %d, got %d", i, e.Index)
				} else if err != nil && !errors.Is(err, raft.ErrLogNotFound) {
					t.Error(err)
					return
				}
			}
		})
	}
	last := uint64(0)
	for term := uint64(1); term <= 30; term++ {
		for range 40 {
			last++
			if err := l.storeLogs([]*raft.Log{entry(last, term)}); err != nil {
				t.Fatal(err)
			}
		}
		from := max(last-35, 1)
		if err := l.deleteRange(from, last); err != nil {
			t.Fatal(err)
		}
		last = from - 1
	}
	close(stop)
	readers.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestQuarantineIsBounded truncates again and again: the newest copies are kept, in number and in bytes, and one that cannot be made
// stops nothing.
func TestQuarantineIsBounded(t *testing.T) {
	disk := crashfs.New()
	l := openPlain(t, Options{FS: disk, SegmentBytes: 64 << 10, QuarantineBytesMax: 30_000})
	if err := l.storeLogs([]*raft.Log{entry(1, 1)}); err != nil {
		t.Fatal(err)
	}
	copies := func() (names []string, bytes int) {
		for name, contents := range disk.Dump() {
			if strings.Contains(name, "/"+quarantineDir+"/") {
				names, bytes = append(names, filepath.Base(name)), bytes+len(contents)
			}
		}
		slices.Sort(names)
		return names, bytes
	}
	cut := func(term uint64, size int) {
		t.Helper()
		if err := l.storeLogs([]*raft.Log{{Index: 2, Term: term, Data: toyItem(make([]byte, size))}}); err != nil {
			t.Fatal(err)
		}
		if err := l.deleteRange(2, 2); err != nil {
			t.Fatal(err)
		}
	}
	for term := range uint64(20) {
		cut(term+1, 100)
	}
	if names, _ := copies(); len(names) != quarantineFiles || !strings.HasSuffix(names[0], "-5") || !strings.HasPrefix(names[15], "000020-") {
		t.Fatal(names)
	}
	for term := range uint64(5) {
		cut(term+30, 9000)
	}
	if names, n := copies(); len(names) != 3 || n > 30_000 || !strings.HasSuffix(names[2], "-34") {
		t.Fatal(names, n)
	}
	cut(40, 50_000) // the beginning of it
	if names, n := copies(); len(names) != 1 || n != 30_000 {
		t.Fatal(names, n)
	}
	if got := l.Stats().QuarantinedBytes; got != 20*160+5*9060+30_000 {
		t.Errorf("%d bytes are counted", got)
	}
	release := disk.Inject("fail any path=" + quarantineDir)
	cut(50, 100)
	release()
	if err := l.poisoned(); err != nil {
		t.Fatal(err)
	}
}
