package raftlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"rmq/raftlog/crashfs"
)

// wantFault checks that err carries a Fault with the given code.
func wantFault(t *testing.T, err error, code int) {
	t.Helper()
	var f *Fault
	if !errors.As(err, &f) || f.Code != code {
		t.Fatalf("got %v, expected a fault with exit code %d", err, code)
	}
}

// TestH1RaftTornVote661 stops between the two halves in which Raft writes a vote. The node must not take the new term's vote for
// cast: Raft would then grant it to a candidate whose log is stale.
func TestH1RaftTornVote661(t *testing.T) {
	disk := crashfs.New()
	open := func() *stableStore {
		var w watchdog
		a, err := openSlotFile(disk, "/", votePrimary, &w)
		if err != nil {
			t.Fatal(err)
		}
		b, err := openSlotFile(disk, "/", voteFile, &w)
		if err != nil {
			t.Fatal(err)
		}
		s, err := openStable(a, b, [16]byte{1}, func(err error) error { return err })
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	addr, trans := raft.NewInmemTransport("voter")
	_, peer := raft.NewInmemTransport("x")
	peer.Connect(addr, trans)
	cand := trans.EncodePeer("x", "x")

	s := open()
	for _, err := range []error{
		s.SetUint64(keyTerm, 4), s.SetUint64(keyVoteTerm, 4), s.Set(keyCandidate, cand),
		s.SetUint64(keyTerm, 5), s.SetUint64(keyVoteTerm, 5), // the crash comes before the candidate
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	disk = disk.Clone()
	s = open()
	if v, err := s.GetUint64(keyVoteTerm); err != nil || v != 4 {
		t.Fatalf("vote term is %d, %v after the torn vote", v, err)
	}
	logs := raft.NewInmemStore()
	for i := uint64(1); i <= 10; i++ {
		if err := logs.StoreLog(&raft.Log{Index: i, Term: 4, Type: raft.LogNoop}); err != nil {
			t.Fatal(err)
		}
	}
	conf := raft.DefaultConfig()
	conf.LocalID, conf.Logger = "voter", &raftLogger{out: discardLogger()}
	r, err := raft.NewRaft(conf, &raft.MockFSM{}, logs, s, raft.NewInmemSnapshotStore(), trans)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { r.Shutdown().Error() }()
	var resp raft.RequestVoteResponse
	req := &raft.RequestVoteRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte("x"), Addr: cand},
		Term: 5, LastLogIndex: 1, LastLogTerm: 1}
	if err := peer.RequestVote("voter", addr, req, &resp); err != nil {
		t.Fatal(err)
	}
	if resp.Granted {
		t.Fatal("a stale candidate got the vote")
	}
}

// TestH2HungDisk lets a write, then an fsync, hang: the watchdog must end the process, and producers must be told.
func TestH2HungDisk(t *testing.T) {
	for _, op := range []string{"write", "sync"} {
		t.Run(op, func(t *testing.T) {
			disk := crashfs.New()
			fatal := make(chan *Fault, 1)
			n := startSolo(t, "/d", Options{FS: disk, Flush: SyncFlush, StallTimeout: 300 * time.Millisecond,
				Fatal: func(code int, id string, err error) { fatal <- &Fault{code, id, err} }})
			n.mustPut([]byte("before"))
			release := disk.Inject("hang " + op + " path=/log/0000")
			r := n.put([]byte("into the void"), AckCommitted)
			if !errors.Is(r.Err, ErrUncertain) {
				t.Fatalf("answer is %v", r.Err)
			}
			wantFault(t, <-fatal, ExitStalled)
			if err := n.log.Append(toyItem(nil), AckCommitted, func(AppendResult) {}); err == nil {
				t.Fatal("a stalled log takes appends")
			}
			release()
			if err := n.log.Close(); !errors.Is(err, ErrPoisoned) {
				t.Fatalf("close: %v", err)
			}
		})
	}
}

// TestH2RaftDiskHang503 lets the leader's disk hang in a group of three. Raft alone would keep that leader for ever, for its
// heartbeats do not touch the disk; the watchdog ends its process, here by cutting its connections.
func TestH2RaftDiskHang503(t *testing.T) {
	var c *cluster
	var hung atomic.Int32
	hung.Store(-1)
	c = startCluster(t, 3, Options{Flush: SyncFlush, StallTimeout: 200 * time.Millisecond,
		Fatal: func(code int, _ string, _ error) {
			if i := hung.Load(); i >= 0 && code == ExitStalled {
				c.cut(int(i))
			}
		}})
	old := c.leader(-1)
	c.nodes[old].mustPut([]byte("before"))
	hung.Store(int32(old))
	release := c.disks[old].Inject("hang sync path=/log/0000")
	defer release()
	err := c.nodes[old].log.Append(toyItem([]byte("x")), AckCommitted, func(AppendResult) {})
	if err != nil {
		t.Fatal(err)
	}
	c.nodes[c.leader(old)].mustPut([]byte("after"))
}

// TestH3WipedNode removes or swaps parts of a directory. Nothing of it may start as the replica it was.
func TestH3WipedNode(t *testing.T) {
	build := func(t *testing.T) *crashfs.FS {
		disk := crashfs.New()
		n := startSolo(t, "/d", Options{FS: disk})
		n.mustPut([]byte("x"))
		n.close()
		return disk
	}
	remove := func(disk *crashfs.FS, name string) {
		if err := disk.Remove("/d/log/" + name); err != nil {
			t.Fatal(err)
		}
	}
	replace := func(disk, from *crashfs.FS, name string) {
		other := from.Dump()["/d/log/"+name]
		if err := disk.Mutate("/d/log/"+name, func([]byte) []byte { return []byte(other) }); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name string
		edit func(t *testing.T, disk *crashfs.FS)
		code int
	}{
		{"identity gone", func(t *testing.T, d *crashfs.FS) { remove(d, nodeFile) }, ExitAmnesia},
		{"identity of another node", func(t *testing.T, d *crashfs.FS) { replace(d, build(t), nodeFile) }, ExitAmnesia},
		{"identity damaged", func(t *testing.T, d *crashfs.FS) {
			d.Mutate("/d/log/"+nodeFile, func(b []byte) []byte { return b[:len(b)/2] })
		}, ExitAmnesia},
		{"log gone", func(t *testing.T, d *crashfs.FS) { remove(d, segmentName(0)) }, ExitAmnesia},
		{"log of another node", func(t *testing.T, d *crashfs.FS) { replace(d, build(t), segmentName(0)) }, ExitAmnesia},
		{"votes gone", func(t *testing.T, d *crashfs.FS) { remove(d, votePrimary); remove(d, voteFile) }, ExitStableCorrupt},
		{"one vote gone", func(t *testing.T, d *crashfs.FS) { remove(d, voteFile) }, ExitStableCorrupt},
		{"votes of another node", func(t *testing.T, d *crashfs.FS) {
			other := build(t)
			replace(d, other, votePrimary)
			replace(d, other, voteFile)
		}, ExitAmnesia},
		{"votes of the past", func(t *testing.T, d *crashfs.FS) {
			past := d.Clone()
			n := startSolo(t, "/d", Options{FS: d})
			n.close()
			replace(d, past, votePrimary)
		}, ExitStableCorrupt},
	} {
		t.Run(tc.name, func(t *testing.T) {
			disk := build(t)
			tc.edit(t, disk)
			_, err := Open("/d/log", Options{FS: disk})
			wantFault(t, err, tc.code)
		})
	}
	t.Run("everything gone", func(t *testing.T) {
		a, err := Open("/d/log", Options{FS: build(t)})
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		b, err := Open("/d/log", Options{FS: crashfs.New()})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		if a.Identity() == b.Identity() || !b.Recovery().Fresh {
			t.Fatal("an empty directory has the identity of another")
		}
	})
	t.Run("another cluster", func(t *testing.T) {
		_, err := Open("/d/log", Options{FS: build(t), ClusterID: "other"})
		wantFault(t, err, ExitConfigMismatch)
	})
}

// TestH4RaftSnapshotWipesLog asks for what Raft asks for after a snapshot and after an installed one: the bytes must stay.
func TestH4RaftSnapshotWipesLog(t *testing.T) {
	n := startSolo(t, "/d", Options{FS: crashfs.New()})
	defer n.close()
	first := n.mustPut([]byte("first"))
	n.mustPut([]byte("second"))
	if err := n.log.Snapshot(); err != nil {
		t.Fatal(err)
	}
	ls := logStore{n.log}
	last, _ := ls.LastIndex()
	if err := ls.DeleteRange(1, last-1); err != nil {
		t.Fatal(err)
	}
	if got, _ := ls.FirstIndex(); got != 1 {
		t.Fatalf("first index is %d", got)
	}
	b := make([]byte, len(first.Record))
	if _, err := n.log.ReadAt(b, first.Offset); err != nil || !bytes.Equal(b, first.Record) {
		t.Fatalf("read %q, %v", b, err)
	}
	if _, ok := any(ls).(raft.MonotonicLogStore); ok {
		t.Fatal("Raft would delete the log on install")
	}
	sink, err := n.log.snapshots.Create(1, last+5000, 9, raft.Configuration{}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(sink, bytes.NewReader([]byte("state of a leader"))); !errors.Is(err, errInstallRefused) {
		t.Fatalf("an install was taken: %v", err)
	}
	if err := sink.Close(); !errors.Is(err, errInstallRefused) {
		t.Fatalf("an empty install was taken: %v", err)
	}
}

// TestH5FlippedVote flips bits of the vote files on a real file system. A changed term or vote must never be believed.
func TestH5FlippedVote(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	cand := []byte("node7")
	for term := uint64(1); term <= 6; term++ {
		for _, err := range []error{l.stable.SetUint64(keyTerm, term), l.stable.SetUint64(keyVoteTerm, term), l.stable.Set(keyCandidate, cand)} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.Bootstrap(soloServers()); err == nil {
		t.Fatal("bootstrapped a directory that has voted")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(5, 5))
	refused := 0
	for _, name := range []string{voteBolt, voteFile} {
		path := filepath.Join(dir, name)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			b := bytes.Clone(whole)
			b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			l, err := Open(dir, Options{})
			if err != nil {
				var f *Fault
				if !errors.As(err, &f) || f.Code != ExitStableCorrupt {
					t.Fatalf("%s: %v", name, err)
				}
				refused++
				continue
			}
			term, err1 := l.stable.GetUint64(keyTerm)
			vote, err2 := l.stable.GetUint64(keyVoteTerm)
			who, err3 := l.stable.Get(keyCandidate)
			if err := errors.Join(err1, err2, err3); err != nil || term != 6 || vote != 6 || !bytes.Equal(who, cand) {
				t.Fatalf("%s: term %d, vote %d for %q, %v", name, term, vote, who, err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if refused == 0 {
		t.Fatal("no flip was noticed")
	}
}

// TestH6FirstErrorCloses fails one operation once. Later ones would succeed, and an fsync that follows a failed one lies: the log
// must be closed for good.
func TestH6FirstErrorCloses(t *testing.T) {
	for _, spec := range []string{"fail write path=/log/0000 once", "fail sync path=/log/0000 once"} {
		t.Run(spec, func(t *testing.T) {
			disk := crashfs.New()
			var faults []*Fault
			fatal := make(chan struct{})
			n := startSolo(t, "/d", Options{FS: disk, Flush: SyncFlush, Fatal: func(code int, id string, err error) {
				faults = append(faults, &Fault{code, id, err})
				close(fatal) // a second call would panic
			}})
			before := n.mustPut([]byte("before"))
			disk.Inject(spec)
			r := n.put([]byte("lost"), AckCommitted)
			if !errors.Is(r.Err, ErrUncertain) {
				t.Fatalf("answer is %v", r.Err)
			}
			<-fatal
			wantFault(t, faults[0], ExitStoreFailed)
			if err := n.log.storeLogs([]*raft.Log{{Index: 99}}); !errors.Is(err, ErrPoisoned) {
				t.Fatalf("a store after the failure: %v", err)
			}
			if err := n.log.Append(toyItem(nil), AckCommitted, func(AppendResult) {}); err == nil {
				t.Fatal("a failed log takes appends")
			}
			if err := n.log.Close(); !errors.Is(err, ErrPoisoned) {
				t.Fatalf("close: %v", err)
			}
			n = startSolo(t, "/d", Options{FS: disk.Clone()})
			defer n.close()
			b := make([]byte, len(before.Record))
			if _, err := n.log.ReadAt(b, before.Offset); err != nil || !bytes.Equal(b, before.Record) {
				t.Fatalf("read %q, %v", b, err)
			}
		})
	}
}

// TestFailedFsyncIsLikeAPowerCut drops what a failed fsync may have dropped, on a machine that goes on running. The next start must
// not take the holes for corruption.
func TestFailedFsyncIsLikeAPowerCut(t *testing.T) {
	for seed := range uint64(20) {
		disk := crashfs.New()
		o := Options{FS: disk, Flush: SyncFlush, SegmentBytes: 64 << 10, BootID: func() string { return "boot" }}
		n := startSolo(t, "/d", o)
		acked := map[uint64]ackedItem{}
		for range 5 {
			r := n.mustPut(make([]byte, 2000))
			acked[toySerial(r.Record)] = ackedItem{r.Offset, r.Record}
		}
		disk.Inject("fail sync path=/log/0000")
		if err := n.log.storeLogs([]*raft.Log{
			{Index: n.log.Status().LastIndex + 1, Term: 9, Data: toyItem(make([]byte, 3000))},
			{Index: n.log.Status().LastIndex + 2, Term: 9, Data: toyItem(make([]byte, 3000))},
		}); !errors.Is(err, ErrPoisoned) {
			t.Fatal(err)
		}
		o.FS = disk.CrashClone(seed)
		if err := n.log.Close(); !errors.Is(err, ErrPoisoned) {
			t.Fatal(err)
		}
		n = startSolo(t, "/d", o)
		checkItems(t, n, acked)
		n.close()
	}
}

// TestBackgroundFsyncFails does the same to the flusher of AsyncFlush.
func TestBackgroundFsyncFails(t *testing.T) {
	disk := crashfs.New()
	fatal := make(chan *Fault, 1)
	n := startSolo(t, "/d", Options{FS: disk, FlushInterval: time.Millisecond,
		Fatal: func(code int, id string, err error) { fatal <- &Fault{code, id, err} }})
	defer disk.Inject("fail sync path=/log/0000")()
	n.put([]byte("answered before its fsync, or too late"), AckCommitted)
	wantFault(t, <-fatal, ExitStoreFailed)
	if err := n.log.Close(); !errors.Is(err, ErrPoisoned) {
		t.Fatalf("close: %v", err)
	}
}

// TestElectionOfOneIsQuick measures on the real file system.
func TestElectionOfOneIsQuick(t *testing.T) {
	best := time.Hour
	for i := range 5 { // the machine may be busy: the best of a few
		dir := filepath.Join(t.TempDir(), fmt.Sprint(i))
		l, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Bootstrap(soloServers()); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := l.Start(&null{}, Member{ServerID: "0", Address: "solo"}); err != nil {
			t.Fatal(err)
		}
		if !<-l.Leadership() {
			t.Fatal("not leading")
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		if err := l.Barrier(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		best = min(best, time.Since(start))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if best > 50*time.Millisecond {
		t.Fatalf("the best of five elections took %s", best)
	}
	t.Logf("election and barrier: %s", best)
}
