package raftlog

import (
	"bytes"
	"encoding/json"
	"errors"

	"io"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"rmq/raftlog/crashfs"
)

func fillOptions(fs FS) Options {
	return Options{FS: fs, SegmentBytes: 64 << 10, TailCacheBytes: 32 << 10, CoalesceBytesMax: 4 << 10,
		FlushInterval: time.Millisecond, SnapshotEveryBytes: 1 << 20}
}

// source is a group of one whose log was trimmed, and what a replica is filled with from it.
type source struct {
	*node
	point FillPoint
	state []byte // the state machine's checkpoint
}

// trimmedSource appends what fills several segments, frees the first of them, and appends some more behind the snapshot.
func trimmedSource(t testing.TB) *source {
	disk := crashfs.New()
	n := startSolo(t, "/d", fillOptions(disk))
	t.Cleanup(n.close)
	for i := range 60 {
		n.mustPut(bytes.Repeat([]byte{byte(i)}, 5000+i*31))
	}
	n.sm.setFloor(n.sm.AppliedOffset() - 150<<10)
	if err := n.log.Snapshot(); err != nil {
		t.Fatal(err)
	}
	if n.log.MinOffset() == 0 {
		t.Fatal("nothing was freed")
	}
	s := &source{node: n}
	s.pin(t, disk)
	for i := range 20 {
		n.mustPut(bytes.Repeat([]byte{byte(i)}, 3000))
	}
	s.pin(t, disk)
	return s
}

// pin takes the newest checkpoint and a fill point for it.
func (s *source) pin(t testing.TB, disk *crashfs.FS) {
	t.Helper()
	var err error
	if s.state, err = readFile(disk, "/d/sm/state", 4096); err != nil {
		t.Fatal(err)
	}
	var st toyState
	if err := json.Unmarshal(s.state, &st); err != nil {
		t.Fatal(err)
	}
	p, err := s.log.FillPoint(st.End)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(p)
	if err == nil {
		err = json.Unmarshal(b, &s.point)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// fill brings disk's directory to the point, in pieces of chunk bytes, and returns what a fill before it had brought.
func (s *source) fill(disk *crashfs.FS, o Options, chunk int) (resumed int64, err error) {
	o.FS = disk
	seed, err := OpenSeeder("/d/log", o, s.point)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, seed.Close()) }()
	resumed = seed.Have() - s.point.Min
	buf := make([]byte, chunk)
	for seed.Have() < s.point.End {
		n, err := s.log.ReadAt(buf[:min(int64(chunk), s.point.End-seed.Have())], seed.Have())
		if err != nil && err != io.EOF {
			return resumed, err
		}
		if err := seed.Write(buf[:n]); err != nil {
			return resumed, err
		}
	}
	if err := makeDir(disk, "/d/sm"); err != nil {
		return resumed, err
	}
	if err := replaceFile(disk, "/d/sm", "/d/sm/state", s.state); err != nil {
		return resumed, err
	}
	return resumed, seed.Commit()
}

// same checks that l holds the source's bytes up to the point.
func (s *source) same(t testing.TB, l *Log) {
	t.Helper()
	if l.MinOffset() != s.point.Min || l.EndOffset() != s.point.End {
		t.Fatalf("the log goes from %d to %d, the source from %d to %d", l.MinOffset(), l.EndOffset(), s.point.Min, s.point.End)
	}
	a, b := make([]byte, s.point.End-s.point.Min), make([]byte, s.point.End-s.point.Min)
	if _, err := s.log.ReadAt(a, s.point.Min); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	if _, err := l.ReadAt(b, s.point.Min); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Fatal("the bytes differ")
	}
	checkLog(t, l)
}

// TestFilledFilesAreTheSame compares the files of a filled directory with those they came from, for pieces of any size: only the
// marks are a replica's own.
func TestFilledFilesAreTheSame(t *testing.T) {
	s := trimmedSource(t)
	for _, chunk := range []int{1, 39, 4096, 100_003, 1 << 20} {
		disk := crashfs.New()
		if _, err := s.fill(disk, fillOptions(disk), chunk); err != nil {
			t.Fatal(err)
		}
		l, err := Open("/d/log", fillOptions(disk))
		if err != nil {
			t.Fatal(err)
		}
		if r := l.Recovery(); r.Filling || r.MayHaveLost || r.TornBytes > 0 {
			t.Fatalf("%+v", r)
		}
		if st := l.Status(); st.FirstIndex != s.point.First || st.LastIndex != s.point.EndIndex || st.LastTerm != s.point.EndTerm || st.DurableIndex != st.LastIndex {
			t.Fatalf("%+v for %+v", st, s.point)
		}
		s.same(t, l)
		for _, seg := range *l.segs.Load() {
			a, b := make([]byte, segmentHeadBytes), make([]byte, segmentHeadBytes)
			seg.f.ReadAt(a, 0) //nolint:errcheck // compared below
			seg.segmentHead.encode(b)
			if !bytes.Equal(a, b) {
				t.Fatal("a head differs from the one of its fields")
			}
			for _, other := range *s.log.segs.Load() {
				if other.base == seg.base && other.segmentHead != seg.segmentHead {
					t.Fatalf("heads differ: %+v and %+v", other.segmentHead, seg.segmentHead)
				}
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFillIsNeverHalfVisible stops a fill at every operation, by a kill or by a power cut in turn. What is found then is either what was
// there before, or no log, or the whole new one; and the fill can be completed.
func TestFillIsNeverHalfVisible(t *testing.T) {
	s := trimmedSource(t)
	for _, refill := range []bool{false, true} {
		t.Run(map[bool]string{false: "new", true: "refilled"}[refill], func(t *testing.T) {
			start := crashfs.New()
			var before Identity
			var oldEnd int64
			if refill {
				before, oldEnd = laggingReplica(t, start)
			}
			whole := start.Clone()
			from := whole.Ops()
			if _, err := s.fill(whole, fillOptions(whole), 9000); err != nil {
				t.Fatal(err)
			}
			total := int(whole.Ops() - from)
			resumes := 0
			step := 1
			if testing.Short() {
				step = 7
			}
			for at := 1; at <= total+1; at += step {
				if s.interrupt(t, start, at, at%2 == 0, before, oldEnd) {
					resumes++
				}
				if t.Failed() {
					t.Fatalf("at operation %d of %d", at, total)
				}
			}
			if resumes == 0 {
				t.Error("no fill was resumed")
			}
		})
	}
}

// interrupt begins a fill on a copy of start, which crashes at operation at, looks at what is left, completes it, and reports whether
// the second fill found bytes of the first.
func (s *source) interrupt(t *testing.T, start *crashfs.FS, at int, power bool, before Identity, oldEnd int64) (resumed bool) {
	t.Helper()
	disk := start.Clone()
	boot := "a"
	o := fillOptions(disk)
	o.BootID = func() string { return boot }
	var left *crashfs.FS
	var once sync.Once
	base := disk.Ops()
	disk.OnOp(func(op crashfs.Op) {
		if op.Seq < base+uint64(at) {
			return
		}
		once.Do(func() {
			if power {
				left = disk.CrashClone(uint64(at))
			} else {
				left = disk.Clone()
			}
		})
	})
	if _, err := s.fill(disk, o, 9000); err != nil {
		t.Fatal(err)
	}
	disk.OnOp(nil)
	once.Do(func() { left = disk.Clone() }) // the flusher did less this time
	if power {
		boot = "b"
	}
	o.FS = left
	l, err := Open("/d/log", o)
	if err != nil {
		t.Errorf("power cut %v: open: %v", power, err)
		return false
	}
	has, err := l.HasState()
	if err != nil {
		t.Error(err)
	}
	if r := l.Recovery(); r.Filling {
		if has || l.EndOffset() != 0 || !errors.Is(l.Start(nil, Member{}), ErrFilling) || !errors.Is(l.Bootstrap(soloServers()), ErrFilling) {
			t.Error("a directory that is being filled has state, or can be started")
		}
	} else if has && l.EndOffset() != s.point.End && l.EndOffset() != oldEnd {
		t.Errorf("power cut %v: half a fill is visible: %d", power, l.EndOffset())
	} else if !has && before.Incarnation != "" {
		t.Error("the old log is gone without a trace")
	}
	if id := l.Identity(); before.Incarnation != "" && id != before {
		t.Errorf("identity %v, before %v", id, before)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := s.fill(left, o, 20000)
	if err != nil {
		t.Errorf("power cut %v: fill again: %v", power, err)
		return false
	}
	if l, err = Open("/d/log", o); err != nil {
		t.Errorf("power cut %v: open after the fill: %v", power, err)
		return false
	}
	s.same(t, l)
	if before.Incarnation != "" {
		cand, err := l.stable.Get(keyCandidate)
		if term, _ := l.stable.GetUint64(keyVoteTerm); err != nil || term != 7 || string(cand) != "9-other" {
			t.Errorf("the vote is gone: %q of term %d, %v", cand, term, err)
		}
	}
	if term, err := l.stable.GetUint64(keyTerm); err != nil || term < s.point.EndTerm {
		t.Errorf("term %d, %v", term, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return got > 0
}

// laggingReplica makes a directory whose log ended long ago, and which has voted in term 7.
func laggingReplica(t *testing.T, disk *crashfs.FS) (Identity, int64) {
	l, err := Open("/d/log", fillOptions(disk))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	if err := l.Bootstrap(soloServers()); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(30) {
		if err := l.storeLogs([]*raft.Log{{Index: 2 + i, Term: 1, Data: bytes.Repeat([]byte{'o'}, 3000)}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{l.stable.SetUint64(keyTerm, 7), l.stable.SetUint64(keyVoteTerm, 7), l.stable.Set(keyCandidate, []byte("9-other"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return l.Identity(), l.EndOffset()
}

// TestFillRefusesWhatIsBehind: a replica that has confirmed more entries than the point covers keeps them.
func TestFillRefusesWhatIsBehind(t *testing.T) {
	s := trimmedSource(t)
	disk := crashfs.New()
	_, end := laggingReplica(t, disk)
	p := s.point
	// As of a leader that had committed no more than this.
	p.EndIndex, p.End, p.First, p.Min, p.Index, p.Offset, p.PrevEnd, p.EndConfigurationIndex, p.ConfigurationIndex = 20, 60000, 1, 0, 0, 0, 0, 1, 0
	if _, err := OpenSeeder("/d/log", fillOptions(disk), p); !errors.Is(err, ErrFillBehind) {
		t.Fatal(err)
	}
	l, err := Open("/d/log", fillOptions(disk))
	if err != nil {
		t.Fatal(err)
	}
	if l.EndOffset() != end || l.Recovery().Filling {
		t.Fatal("the log was touched")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	// The same holds when a fill has already taken the log away.
	seed, err := OpenSeeder("/d/log", fillOptions(disk), s.point)
	if err != nil {
		t.Fatal(err)
	}
	if err := seed.Commit(); !errors.Is(err, errFillIncomplete) {
		t.Fatal(err)
	}
	if err := seed.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSeeder("/d/log", fillOptions(disk), p); !errors.Is(err, ErrFillBehind) {
		t.Fatal(err)
	}
}

// TestFillRefusesBadBytes: a piece with an error is refused, what was good before it stays, and the fill goes on from there.
func TestFillRefusesBadBytes(t *testing.T) {
	s := trimmedSource(t)
	disk := crashfs.New()
	seed, err := OpenSeeder("/d/log", fillOptions(disk), s.point)
	if err != nil {
		t.Fatal(err)
	}
	all := make([]byte, s.point.End-s.point.Min)
	if _, err := s.log.ReadAt(all, s.point.Min); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	for _, at := range []int{3, 20_000, 64<<10 - 20, 100_000} { // a header, a record, a pad, another
		bad := bytes.Clone(all)
		bad[at] ^= 0x10
		from := seed.Have() - s.point.Min
		if err := seed.Write(bad[from:min(int64(at)+9000, int64(len(all)))]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("a flipped bit at %d: %v", at, err)
		}
		if have := seed.Have() - s.point.Min; have < from || have > int64(at) {
			t.Fatalf("after a flipped bit at %d the fill has %d", at, have)
		}
	}
	if err := seed.Write(append(bytes.Clone(all[seed.Have()-s.point.Min:]), 0)); err == nil {
		t.Fatal("bytes behind the point are taken")
	}
	if err := seed.Write(all[seed.Have()-s.point.Min:]); err != nil {
		t.Fatal(err)
	}
	if err := seed.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := seed.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestFillGoesOnWithALaterPoint: between two attempts the group has trimmed and grown; what is there is used.
func TestFillGoesOnWithALaterPoint(t *testing.T) {
	srcDisk := crashfs.New()
	n := startSolo(t, "/d", fillOptions(srcDisk))
	defer n.close()
	s := &source{node: n}
	grow := func(floor int64) {
		for i := range 40 {
			n.mustPut(bytes.Repeat([]byte{byte(i)}, 5000))
		}
		n.sm.setFloor(floor)
		if err := n.log.Snapshot(); err != nil {
			t.Fatal(err)
		}
		s.pin(t, srcDisk)
	}
	grow(0)
	disk := crashfs.New()
	seed, err := OpenSeeder("/d/log", fillOptions(disk), s.point)
	if err != nil {
		t.Fatal(err)
	}
	part := make([]byte, 150_000)
	if _, err := n.log.ReadAt(part, 0); err != nil {
		t.Fatal(err)
	}
	if err := seed.Write(part); err != nil {
		t.Fatal(err)
	}
	have := seed.at.end
	if err := seed.Close(); err != nil {
		t.Fatal(err)
	}
	grow(70_000)
	if n.log.MinOffset() != 64<<10 {
		t.Fatalf("the log begins at %d", n.log.MinOffset())
	}
	resumed, err := s.fill(disk, fillOptions(disk), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if want := have - 64<<10; resumed < want-5100 || resumed > want {
		t.Errorf("resumed with %d bytes, there were %d", resumed, want)
	}
	l, err := Open("/d/log", fillOptions(disk))
	if err != nil {
		t.Fatal(err)
	}
	s.same(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestLeaseHoldsBack: nothing is unlinked under a lease, and everything that is due with its release.
func TestLeaseHoldsBack(t *testing.T) {
	disk := crashfs.New()
	n := startSolo(t, "/d", fillOptions(disk))
	defer n.close()
	release := n.log.Lease()
	for i := range 60 {
		n.mustPut(bytes.Repeat([]byte{byte(i)}, 5000))
	}
	n.sm.setFloor(n.sm.AppliedOffset())
	if err := n.log.Snapshot(); err != nil {
		t.Fatal(err)
	}
	if n.log.MinOffset() != 0 {
		t.Fatal("leased bytes are gone")
	}
	release()
	release()
	awaitCond(t, "the bytes are freed", func() bool { return n.log.MinOffset() > 0 })
}

// TestFillPointNeedsItsOwnTerm and a snapshot that the checkpoint covers.
func TestFillPointCoversTheCheckpoint(t *testing.T) {
	s := trimmedSource(t)
	if err := s.log.Snapshot(); err != nil { // a newer one than the checkpoint that was copied
		t.Fatal(err)
	}
	m, _ := s.log.snapshots.newest()
	p, err := s.log.FillPoint(s.point.Offset)
	if err != nil || p.Index != s.point.Index || p.Index >= m.Index {
		t.Fatalf("snapshot %d, %v; newest %d, checkpoint at %d", p.Index, err, m.Index, s.point.Index)
	}
	if p, err = s.log.FillPoint(math.MaxInt64); err != nil || p.Index != m.Index {
		t.Fatalf("snapshot %d, %v; newest %d", p.Index, err, m.Index)
	}
	if end, ok := s.log.EntryEnd(p.EndIndex); !ok || end != p.End {
		t.Fatalf("entry %d ends at %d, %v; the point at %d", p.EndIndex, end, ok, p.End)
	}
}
