package raftlog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"rmq/raftlog/crashfs"
)

// filled is a disk with a closed log of several segments and what it holds.
type filled struct {
	disk  *crashfs.FS
	o     Options
	items map[uint64]ackedItem
	end   int64
	segs  []string // names of the segments
}

const filledSegment = 64 << 10

// fill writes items of about 1 KiB up to size bytes and stops in order, or like a killed process.
func fill(t *testing.T, size int64, clean bool) *filled {
	t.Helper()
	o := Options{FS: crashfs.New(), SegmentBytes: filledSegment, CoalesceBytesMax: 4 << 10, TailCacheBytes: 16 << 10, Flush: SyncFlush,
		BootID: func() string { return "boot" }}
	n := startSolo(t, "/d", o)
	f := &filled{o: o, items: map[uint64]ackedItem{}}
	for i := 0; n.log.EndOffset() < size; i++ {
		r := n.mustPut(bytes.Repeat([]byte{byte('a' + i%26)}, 1000))
		f.items[toySerial(r.Record)] = ackedItem{r.Offset, r.Record}
	}
	f.end = n.log.EndOffset()
	if !clean {
		f.disk = o.FS.(*crashfs.FS).Clone()
	}
	n.close()
	if clean {
		f.disk = o.FS.(*crashfs.FS)
	}
	f.o.FS = f.disk
	for name := range f.disk.Dump() {
		if base, ok := strings.CutPrefix(name, "/d/log/"); ok {
			if _, ok := parseSegmentName(base); ok {
				f.segs = append(f.segs, base)
			}
		}
	}
	return f
}

// mutate edits bytes of the log at an offset, in the file that holds them.
func (f *filled) mutate(t *testing.T, off int64, edit func(b []byte)) {
	t.Helper()
	base := off - off%filledSegment
	err := f.disk.Mutate("/d/log/"+segmentName(base), func(data []byte) []byte {
		edit(data[segmentPageBytes+off-base:])
		return data
	})
	if err != nil {
		t.Fatal(err)
	}
}

// refused checks that the log does not open, with the given code, and that the attempt changed nothing.
func (f *filled) refused(t *testing.T, code int) {
	t.Helper()
	before := f.disk.Dump()
	_, err := Open("/d/log", f.o)
	wantFault(t, err, code)
	if after := f.disk.Dump(); !maps.Equal(before, after) {
		t.Fatal("the refused directory was changed")
	}
}

// TestCorruptionIsRefused damages a log in the middle. It was durable and good bytes follow: nothing of it may be cut.
func TestCorruptionIsRefused(t *testing.T) {
	for _, tc := range []struct {
		name string
		off  func(f *filled) int64
		edit func(b []byte)
	}{
		{"bit in a record", func(f *filled) int64 { return f.items[3].offset + 500 }, func(b []byte) { b[0] ^= 4 }},
		{"bit in a frame header", func(f *filled) int64 { return f.items[3].offset - 30 }, func(b []byte) { b[0] ^= 4 }},
		{"bit in a length", func(f *filled) int64 { return f.items[3].offset - 40 }, func(b []byte) { b[1] ^= 1 }},
		{"bit in the last record", func(f *filled) int64 { return f.end - 1 }, func(b []byte) { b[0] ^= 1 }},
		{"zeroed block", func(f *filled) int64 { return 8192 }, func(b []byte) { clear(b[:4096]) }},
		{"swapped blocks", func(f *filled) int64 { return 8192 }, func(b []byte) {
			var x [4096]byte
			copy(x[:], b)
			copy(b, b[4096:8192])
			copy(b[4096:], x[:])
		}},
		{"bit in the second segment", func(f *filled) int64 { return filledSegment + 5000 }, func(b []byte) { b[0] ^= 128 }},
		{"zeroed end", func(f *filled) int64 { return f.end - 2000 }, func(b []byte) { clear(b) }},
	} {
		for _, clean := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, clean stop %v", tc.name, clean), func(t *testing.T) {
				f := fill(t, 2*filledSegment+filledSegment/2, clean)
				f.mutate(t, tc.off(f), tc.edit)
				f.refused(t, ExitCorrupt)
			})
		}
	}
}

// TestDamagedFiles damages, removes and adds whole files.
func TestDamagedFiles(t *testing.T) {
	last := func(f *filled) string { return "/d/log/" + segmentName(f.end-f.end%filledSegment) }
	for _, tc := range []struct {
		name string
		edit func(t *testing.T, f *filled) error
		code int // 0: opens with everything
	}{
		{"missing last segment of a killed process", func(t *testing.T, f *filled) error {
			*f = *fill(t, 3*filledSegment+5000, false)
			return f.disk.Remove(last(f))
		}, ExitCorrupt},
		{"segment head", func(t *testing.T, f *filled) error {
			return f.disk.Mutate(last(f), func(b []byte) []byte { b[20] ^= 1; return b })
		}, ExitCorrupt},
		{"both marks", func(t *testing.T, f *filled) error {
			return f.disk.Mutate(last(f), func(b []byte) []byte { b[markSlotA] ^= 1; b[markSlotB] ^= 1; return b })
		}, ExitCorrupt},
		{"format of the future", func(t *testing.T, f *filled) error {
			return f.disk.Mutate(last(f), func(b []byte) []byte {
				b[11] = 9
				binary.BigEndian.PutUint32(b[64:], crc32.Checksum(b[:64], castagnoli))
				return b
			})
		}, ExitConfigMismatch},
		{"truncated segment", func(t *testing.T, f *filled) error {
			return f.disk.Mutate(last(f), func(b []byte) []byte { return b[:segmentPageBytes+f.end%filledSegment-100] })
		}, ExitCorrupt},
		{"truncated to nothing", func(t *testing.T, f *filled) error {
			return f.disk.Mutate(last(f), func(b []byte) []byte { return nil })
		}, ExitCorrupt},
		{"missing segment", func(t *testing.T, f *filled) error { return f.disk.Remove("/d/log/" + segmentName(filledSegment)) }, ExitCorrupt},
		{"missing last segment", func(t *testing.T, f *filled) error { return f.disk.Remove(last(f)) }, ExitCorrupt},
		{"segment of the same log under another name", func(t *testing.T, f *filled) error {
			b := f.disk.Dump()[last(f)]
			h, err := f.disk.Create("/d/log/" + segmentName(f.end-f.end%filledSegment+filledSegment))
			if err == nil {
				_, err = h.WriteAt([]byte(b), 0)
			}
			return err
		}, ExitCorrupt},
		{"sidecars", func(t *testing.T, f *filled) error {
			for name := range f.disk.Dump() {
				if strings.HasSuffix(name, indexSuffix) {
					if err := f.disk.Mutate(name, func(b []byte) []byte { b[len(b)/2] ^= 1; return b }); err != nil {
						return err
					}
				}
			}
			return nil
		}, 0},
		{"record of the last run", func(t *testing.T, f *filled) error {
			return f.disk.Mutate("/d/log/"+runFile, func(b []byte) []byte { return []byte("{") })
		}, 0},
		{"leftover of a replaced file", func(t *testing.T, f *filled) error {
			_, err := f.disk.Create("/d/log/" + segmentName(9*filledSegment) + tmpSuffix)
			return err
		}, 0},
		{"a stranger's file", func(t *testing.T, f *filled) error {
			_, err := f.disk.Create("/d/log/README")
			return err
		}, 0},
		{"segment size of another configuration", func(t *testing.T, f *filled) error { f.o.SegmentBytes = 128 << 10; return nil }, ExitConfigMismatch},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := fill(t, 3*filledSegment+5000, true)
			if err := tc.edit(t, f); err != nil {
				t.Fatal(err)
			}
			if tc.code != 0 {
				f.refused(t, tc.code)
				return
			}
			n := startSolo(t, "/d", f.o)
			defer n.close()
			checkItems(t, n, f.items)
			checkLog(t, n.log)
		})
	}
}

// TestTornTailIsCut leaves behind the end what an interrupted write can leave there.
func TestTornTailIsCut(t *testing.T) {
	whole := frameOf(t, 1000)
	for _, tc := range []struct {
		name string
		tail []byte
	}{
		{"one byte", whole[:1]},
		{"part of a header", whole[:frameHeaderBytes-1]},
		{"a header alone", whole[:frameHeaderBytes]},
		{"part of a record", whole[:700]},
		{"part of a record and zeros", append(bytes.Clone(whole[:700]), make([]byte, 5000)...)},
		{"garbage", bytes.Repeat([]byte{0xA5, 3, 77}, 900)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := fill(t, filledSegment+filledSegment/2, false)
			err := f.disk.Mutate("/d/log/"+segmentName(filledSegment), func(b []byte) []byte {
				return append(b[:segmentPageBytes+f.end-filledSegment], tc.tail...)
			})
			if err != nil {
				t.Fatal(err)
			}
			l, err := Open("/d/log", f.o)
			if err != nil {
				t.Fatal(err)
			}
			torn := int64(len(tc.tail))
			if allZero(tc.tail) {
				torn = 0 // like space that was never written
			}
			if got := l.Recovery().TornBytes; got != torn || l.EndOffset() != f.end {
				t.Fatalf("%d of %d torn bytes cut, end %d, expected %d", got, len(tc.tail), l.EndOffset(), f.end)
			}
			n, err := lead(t, "/d", l)
			if err != nil {
				t.Fatal(err)
			}
			defer n.close()
			checkItems(t, n, f.items)
			r := n.mustPut([]byte("goes on"))
			if toySerial(r.Record) != uint64(len(f.items)) {
				t.Fatalf("serial %d after %d items", toySerial(r.Record), len(f.items))
			}
			checkLog(t, n.log)
		})
	}
}

// frameOf returns a whole frame that could be anybody's.
func frameOf(t *testing.T, size int) []byte {
	b := make([]byte, frameHeaderBytes+size)
	h := frameHeader{length: uint32(size), index: 1 << 20, term: 1}
	h.encode(b)
	return b
}

// TestGoodFrameBehindABadOne is the case that must not pass for a torn tail although nothing of it was synced.
func TestGoodFrameBehindABadOne(t *testing.T) {
	o := Options{FS: crashfs.New(), SegmentBytes: filledSegment, BootID: func() string { return "boot" }}
	n := startSolo(t, "/d", o) // AsyncFlush, and the flusher does not come to it
	var at int64
	for i := range 10 {
		r := n.mustPut(bytes.Repeat([]byte("x"), 1000))
		if i == 5 {
			at = r.Offset
		}
	}
	disk := o.FS.(*crashfs.FS).Clone() // killed
	n.close()
	f := &filled{disk: disk, o: o}
	f.o.FS = disk
	f.mutate(t, at+500, func(b []byte) { b[0] ^= 1 })
	f.refused(t, ExitCorrupt)
	// After a power cut the same picture is what a disk may leave of unsynced bytes.
	f.o.BootID = func() string { return "next boot" }
	l, err := Open("/d/log", f.o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if r := l.Recovery(); !r.MayHaveLost || l.EndOffset() >= at {
		t.Fatalf("%+v, end %d", r, l.EndOffset())
	}
}

// TestOldBytesAreVerifiedWhenRead damages what Open does not look at.
func TestOldBytesAreVerifiedWhenRead(t *testing.T) {
	f := fill(t, 6*filledSegment, true)
	f.o.VerifyBytes = filledSegment
	fatal := 0
	f.o.Fatal = func(code int, _ string, _ error) { fatal = code }
	var bad, good ackedItem
	for _, it := range f.items {
		switch {
		case it.offset/filledSegment == 1:
			bad = it
		case it.offset/filledSegment == 2:
			good = it
		}
	}
	f.mutate(t, bad.offset+100, func(b []byte) { b[0] ^= 1 })
	l, err := Open("/d/log", f.o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b := make([]byte, len(good.item))
	for range 2 {
		if _, err := l.ReadAt(b, good.offset); err != nil || !bytes.Equal(b, good.item) {
			t.Fatalf("read %q, %v", b, err)
		}
	}
	if err := l.Verify(context.Background()); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("verify: %v", err)
	}
	if fatal != 0 {
		t.Fatal("Verify ended the process")
	}
	if _, err := l.ReadAt(b, bad.offset); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("read of damaged bytes: %v", err)
	}
	if fatal != ExitCorrupt {
		t.Fatalf("fatal with %d", fatal)
	}
}

// TestVerifyWholeLog passes over a good log.
func TestVerifyWholeLog(t *testing.T) {
	f := fill(t, 4*filledSegment, true)
	f.o.VerifyBytes = filledSegment
	l, err := Open("/d/log", f.o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Verify(context.Background()); err != nil {
		t.Fatal(err)
	}
	all := make([]byte, l.EndOffset())
	if _, err := l.ReadAt(all, 0); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedSnapshots damages manifests: an older one serves as long as the log covers what follows it.
func TestDamagedSnapshots(t *testing.T) {
	build := func(t *testing.T, trim bool) (*filled, []string) {
		o := Options{FS: crashfs.New(), SegmentBytes: filledSegment, SnapshotEveryBytes: 1 << 30, Flush: SyncFlush}
		n := startSolo(t, "/d", o)
		f := &filled{disk: o.FS.(*crashfs.FS), o: o, items: map[uint64]ackedItem{}}
		for range 2 {
			for range 2 * filledSegment / 1000 {
				r := n.mustPut(bytes.Repeat([]byte("x"), 1000))
				f.items[toySerial(r.Record)] = ackedItem{r.Offset, r.Record}
			}
			if trim {
				n.sm.setFloor(n.log.EndOffset())
			}
			if err := n.log.Snapshot(); err != nil {
				t.Fatal(err)
			}
		}
		n.close()
		var names []string
		for name := range f.disk.Dump() {
			if strings.HasSuffix(name, manifestSuffix) {
				names = append(names, name)
			}
		}
		if len(names) != 2 {
			t.Fatalf("manifests: %v", names)
		}
		if names[0] > names[1] {
			names[0], names[1] = names[1], names[0]
		}
		return f, names
	}
	flip := func(t *testing.T, f *filled, name string) {
		if err := f.disk.Mutate(name, func(b []byte) []byte { b[30] ^= 1; return b }); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("newest, log complete", func(t *testing.T) {
		f, names := build(t, false)
		flip(t, f, names[1])
		n := startSolo(t, "/d", f.o)
		defer n.close()
		checkItems(t, n, f.items)
		n.mustPut(nil)
	})
	t.Run("all, log complete", func(t *testing.T) {
		f, names := build(t, false)
		flip(t, f, names[0])
		flip(t, f, names[1])
		n := startSolo(t, "/d", f.o)
		defer n.close()
		checkItems(t, n, f.items)
		n.mustPut(nil)
	})
	t.Run("newest, log trimmed", func(t *testing.T) {
		f, names := build(t, true)
		flip(t, f, names[1])
		_, err := trySolo(t, "/d", f.o)
		wantFault(t, err, ExitCorrupt)
	})
}

// TestPadLostInAPowerCut takes what lies behind the header of a pad, or puts something else there, while the next segment stays: the
// bytes of the log are the same as before, also where nobody looks but who copies them.
func TestPadLostInAPowerCut(t *testing.T) {
	for name, damage := range map[string]func(page []byte, pad int) []byte{
		"short":   func(b []byte, pad int) []byte { return b[:pad+frameHeaderBytes+100] },
		"garbage": func(b []byte, pad int) []byte { b[pad+frameHeaderBytes+600] ^= 0x55; return b },
	} {
		t.Run(name, func(t *testing.T) {
			disk := crashfs.New()
			boot := "a"
			o := Options{FS: disk, SegmentBytes: 64 << 10, FlushInterval: time.Hour, BootID: func() string { return boot }}
			l := openPlain(t, o)
			if err := l.Bootstrap(soloServers()); err != nil { // it syncs; what follows is not
				t.Fatal(err)
			}
			for i := range uint64(12) {
				if err := l.storeLogs([]*raft.Log{{Index: 2 + i, Term: 1, Data: toyItem(make([]byte, 9000))}}); err != nil {
					t.Fatal(err)
				}
			}
			want := make([]byte, l.EndOffset())
			if _, err := l.ReadAt(want, 0); err != nil {
				t.Fatal(err)
			}
			pad := int((*l.segs.Load())[1].prevEnd) + segmentPageBytes
			o.FS = disk.Clone()
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if err := o.FS.(*crashfs.FS).Mutate(fuzzSegment, func(b []byte) []byte { return damage(b, pad) }); err != nil {
				t.Fatal(err)
			}
			boot = "b"
			l, err := Open("/d/log", o)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(want))
			if _, err := l.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("the bytes changed: %v", err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
