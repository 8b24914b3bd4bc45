package raftlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"sync"
	"testing"

	"github.com/hashicorp/raft"

	"rmq/raftlog/crashfs"
)

// fuzzDisk is the disk of a killed log with one segment, and what the segment holds. It is built once and cloned for each input.
var fuzzDisk = sync.OnceValues(func() (*crashfs.FS, []spot) {
	disk := crashfs.New()
	l, err := Open("/d/log", fuzzOptions(disk))
	if err != nil {
		panic(err)
	}
	var batch []*raft.Log
	for i := range uint64(12) {
		e := entry(i+1, 1+i/5)
		e.Data = e.Data[:min(len(e.Data), 300)]
		batch = append(batch, e)
	}
	if err := l.Bootstrap(soloServers()); err != nil {
		panic(err)
	}
	if err := l.storeLogs(batch[1:]); err != nil {
		panic(err)
	}
	var spots []spot
	for i := range uint64(12) {
		s, _, err := l.index.find(i + 1)
		if err != nil {
			panic(err)
		}
		spots = append(spots, s)
	}
	left := disk.Clone()
	if err := l.Close(); err != nil {
		panic(err)
	}
	return left, spots
})

func fuzzOptions(disk *crashfs.FS) Options {
	return Options{FS: disk, SegmentBytes: 64 << 10, TailCacheBytes: 16 << 10, BootID: func() string { return "boot" }}
}

const fuzzSegment = "/d/log/00000000000000000000"

// FuzzSegmentOpen opens a log whose segment is any bytes: an error, or a log that is whole. With seal the CRCs of page and frame
// headers are made to fit, so that the fields behind them are reached.
func FuzzSegmentOpen(f *testing.F) {
	disk, spots := fuzzDisk()
	valid := []byte(disk.Dump()[fuzzSegment])
	f.Add(valid, true, false)
	f.Add(valid[:segmentPageBytes], false, true)
	f.Add(valid[:segmentPageBytes+int(spots[5].off)+13], true, false)
	f.Add(valid[:100], true, false)
	f.Add([]byte{}, false, true)
	f.Add(append(bytes.Clone(valid), make([]byte, 1000)...), true, false)
	f.Add(append(bytes.Clone(valid), valid[segmentPageBytes:]...), false, true)
	huge := bytes.Clone(valid)
	binary.BigEndian.PutUint32(huge[segmentPageBytes:], 1<<32-1)
	f.Add(huge, true, true)
	f.Fuzz(func(t *testing.T, data []byte, sameBoot, seal bool) {
		base, spots := fuzzDisk()
		disk := base.Clone()
		if data = bytes.Clone(data); seal && len(data) >= segmentPageBytes {
			binary.BigEndian.PutUint32(data[64:], crc32.Checksum(data[:64], castagnoli))
			for _, s := range spots {
				if at := segmentPageBytes + int(s.off); at+frameHeaderBytes <= len(data) {
					binary.BigEndian.PutUint32(data[at+4:], headerCRC(data[at:]))
				}
			}
		}
		if err := disk.Mutate(fuzzSegment, func([]byte) []byte { return data }); err != nil {
			t.Fatal(err)
		}
		o := fuzzOptions(disk)
		if !sameBoot {
			o.BootID = func() string { return "other" }
		}
		l, err := Open("/d/log", o)
		if err != nil {
			return
		}
		checkLog(t, l)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzSegmentMutate edits a good segment: what is served is never wrong, and no entry before the first edit is dropped without an
// error.
func FuzzSegmentMutate(f *testing.F) {
	f.Add([]byte{0x10, 0x00, 0xFF}, true)
	f.Add([]byte{0x12, 0x34, 1, 0x11, 0x11, 2}, false)
	f.Add([]byte{0x00, 0x09, 0x80}, true)
	f.Add([]byte{0x10, 0x00, 0xFF, 0x10, 0x00, 0xFF}, true)
	f.Fuzz(func(t *testing.T, edits []byte, sameBoot bool) {
		base, spots := fuzzDisk()
		disk := base.Clone()
		good := []byte(disk.Dump()[fuzzSegment])
		bad := bytes.Clone(good)
		for ; len(edits) >= 3 && len(edits) <= 300; edits = edits[3:] { // position, position, bits to flip
			bad[int(binary.BigEndian.Uint16(edits))%len(bad)] ^= edits[2]
		}
		first := len(bad)
		for i := range bad {
			if bad[i] != good[i] {
				first = i
				break
			}
		}
		if err := disk.Mutate(fuzzSegment, func([]byte) []byte { return bad }); err != nil {
			t.Fatal(err)
		}
		o := fuzzOptions(disk)
		if !sameBoot {
			o.BootID = func() string { return "other" }
		}
		l, err := Open("/d/log", o)
		if err != nil {
			return
		}
		defer l.Close()
		_, last := l.index.bounds()
		for i, s := range spots {
			if uint64(i+1) > last {
				if int64(first) >= segmentPageBytes+s.end {
					t.Fatalf("entry %d ends before the first edit at %d and is gone without an error", i+1, first)
				}
				continue
			}
			got := make([]byte, s.end-s.off)
			if _, err := l.ReadAt(got, s.off); err != nil {
				if errors.Is(err, ErrCorrupt) {
					return
				}
				t.Fatalf("entry %d: %v", i+1, err)
			}
			if !bytes.Equal(got, good[segmentPageBytes+s.off:segmentPageBytes+s.end]) {
				t.Fatalf("entry %d is served with wrong bytes", i+1)
			}
		}
	})
}

// FuzzStableRecord decodes any bytes as a vote record, and edits of a good one: never a term or a vote that was not written.
func FuzzStableRecord(f *testing.F) {
	good := voteRecord{seq: 7, node: [16]byte{1, 2}, term: 9, voteTerm: 8, candidate: []byte("node2")}
	f.Add(good.encode())
	f.Add(make([]byte, voteRecordBytes))
	f.Add([]byte("vote"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if v, err := decodeVoteRecord(data); err == nil && !bytes.Equal(v.encode(), data) {
			t.Fatalf("%x is taken for %+v", data, v)
		}
		edited := good.encode()
		for i := range min(len(data), len(edited)) {
			edited[i] ^= data[i]
		}
		v, err := decodeVoteRecord(edited)
		if err != nil {
			return
		}
		changed := bytes.ContainsFunc(data, func(r rune) bool { return r != 0 })
		if changed && (v.term != good.term || v.voteTerm != good.voteTerm || !bytes.Equal(v.candidate, good.candidate)) &&
			binary.BigEndian.Uint32(edited[voteRecordBytes-4:]) == binary.BigEndian.Uint32(good.encode()[voteRecordBytes-4:]) {
			t.Fatalf("an edited record is taken for %+v", v)
		}
	})
}
