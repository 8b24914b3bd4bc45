package raftlog

import (
	"bytes"
	"context"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"rmq/raftlog/crashfs"
)

// TestLargeLogOpensFromSidecars reopens a log of many segments. Open must look at its end only, and then find every entry, in any
// order, with the sidecars there, damaged, or gone.
func TestLargeLogOpensFromSidecars(t *testing.T) {
	o := Options{FS: crashfs.New(), SegmentBytes: 256 << 10, TailCacheBytes: 64 << 10, VerifyBytes: 100 << 10, Flush: SyncFlush}
	l := openPlain(t, o)
	entries := 0
	for i := uint64(1); l.EndOffset() < 12*256<<10+200<<10; i++ { // most of the last segment is full
		entries++
		if err := l.storeLogs([]*raft.Log{entry(i, 1)}); err != nil {
			t.Fatal(err)
		}
	}
	var want []spot
	for i := uint64(1); i <= uint64(entries); i++ {
		s, ok, err := l.index.find(i)
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		want = append(want, s)
	}
	whole := make([]byte, l.EndOffset())
	if _, err := l.ReadAt(whole, 0); err != nil {
		t.Fatal(err)
	}
	l.saveSidecar()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if n := len(whole) / (256 << 10); n < loadedSegments+2 {
		t.Fatalf("only %d segments", n)
	}
	for _, tc := range []struct {
		name string
		edit func(disk *crashfs.FS, sidecar string) error
		mid  bool // the scan of the last segment starts in its middle
	}{
		{"there", func(*crashfs.FS, string) error { return nil }, true},
		{"damaged", func(d *crashfs.FS, name string) error {
			return d.Mutate(name, func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
		}, false},
		{"cut off", func(d *crashfs.FS, name string) error {
			return d.Mutate(name, func(b []byte) []byte { return b[:10] })
		}, false},
		{"gone", func(d *crashfs.FS, name string) error { return d.Remove(name) }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := o
			disk := o.FS.(*crashfs.FS).Clone()
			o.FS = disk
			sidecars := 0
			for name := range disk.Dump() {
				if strings.HasSuffix(name, indexSuffix) {
					sidecars++
					if err := tc.edit(disk, name); err != nil {
						t.Fatal(err)
					}
				}
			}
			if sidecars < loadedSegments {
				t.Fatalf("only %d sidecars", sidecars)
			}
			l, err := Open("/d/log", o)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			segs := *l.segs.Load()
			last := segs[len(segs)-1]
			if mid := last.trusted > last.base; mid != tc.mid {
				t.Errorf("the last segment begins at %d and was scanned from %d", last.base, last.trusted)
			}
			if segs[0].trusted != segs[0].limit() {
				t.Error("the first segment was scanned")
			}
			rng := rand.New(rand.NewPCG(1, 1))
			for range 600 {
				i := rng.IntN(entries)
				if got, ok, err := l.index.find(uint64(i + 1)); !ok || err != nil || got != want[i] {
					t.Fatalf("entry %d: %v, %v, %v; expected %v", i+1, got, ok, err, want[i])
				}
			}
			for i, s := range want { // in order, as replication and replay go
				if got, ok, err := l.index.find(uint64(i + 1)); !ok || err != nil || got != s {
					t.Fatalf("entry %d: %v, %v, %v; expected %v", i+1, got, ok, err, s)
				}
			}
			for range 150 { // each read verifies what it touches first
				from := rng.IntN(len(whole))
				got := make([]byte, min(rng.IntN(5000), len(whole)-from))
				if _, err := l.ReadAt(got, int64(from)); err != nil || !bytes.Equal(got, whole[from:from+len(got)]) {
					t.Fatalf("read of %d bytes at %d: %v", len(got), from, err)
				}
			}
			if err := l.Verify(context.Background()); err != nil {
				t.Fatal(err)
			}
			checkLog(t, l)
		})
	}
}
