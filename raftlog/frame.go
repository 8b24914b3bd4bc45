package raftlog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"
)

// A frame is one Raft entry as it lies in the log: a header of frameHeaderBytes and the record. FORMAT.md is the specification;
// every field is big-endian.
const (
	frameHeaderBytes = 40

	framePad = 0xFE // kind of the frame that fills the rest of a segment; its record is zeros
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frameHeader is the decoded form of a frame's first bytes.
type frameHeader struct {
	length  uint32 // bytes of the record
	kind    uint8  // raft.LogType, or framePad
	bodyCRC uint32 // CRC32C of the record; 0 for a pad
	index   uint64
	term    uint64
	chain   uint64 // hash over this header and all frames before it
}

// size returns the bytes the frame occupies.
func (h *frameHeader) size() int64 { return frameHeaderBytes + int64(h.length) }

// encode writes the header into b, which holds frameHeaderBytes.
func (h *frameHeader) encode(b []byte) {
	_ = b[frameHeaderBytes-1]
	binary.BigEndian.PutUint32(b[0:], h.length)
	binary.BigEndian.PutUint64(b[8:], h.index)
	binary.BigEndian.PutUint64(b[16:], h.term)
	b[24], b[25], b[26], b[27] = h.kind, 0, 0, 0
	binary.BigEndian.PutUint32(b[28:], h.bodyCRC)
	binary.BigEndian.PutUint64(b[32:], h.chain)
	binary.BigEndian.PutUint32(b[4:], headerCRC(b))
}

// headerCRC covers the header except the place where it is kept.
func headerCRC(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[0:4], castagnoli), castagnoli, b[8:frameHeaderBytes])
}

// decodeFrameHeader parses a header and checks its own CRC and the fields that have few legal values. It does not know the frame's
// neighbours.
func decodeFrameHeader(b []byte) (frameHeader, error) {
	if len(b) < frameHeaderBytes {
		return frameHeader{}, fmt.Errorf("frame header has %d of %d bytes", len(b), frameHeaderBytes)
	}
	if got, want := binary.BigEndian.Uint32(b[4:]), headerCRC(b); got != want {
		return frameHeader{}, fmt.Errorf("frame header CRC is %08x, computed %08x", got, want)
	}
	h := frameHeader{
		length:  binary.BigEndian.Uint32(b[0:]),
		index:   binary.BigEndian.Uint64(b[8:]),
		term:    binary.BigEndian.Uint64(b[16:]),
		kind:    b[24],
		bodyCRC: binary.BigEndian.Uint32(b[28:]),
		chain:   binary.BigEndian.Uint64(b[32:]),
	}
	if b[25]|b[26]|b[27] != 0 || (h.kind > uint8(raft.LogConfiguration) && h.kind != framePad) {
		return frameHeader{}, fmt.Errorf("frame kind %x is unknown", b[24:28])
	}
	return h, nil
}

// chainHash extends prev, the chain value of the frame before, by the fields of h that define its entry (FNV-1a, 64 bit).
func chainHash(prev uint64, h *frameHeader) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	x := uint64(offset)
	for _, v := range [5]uint64{prev, uint64(h.length)<<8 | uint64(h.kind), uint64(h.bodyCRC), h.index, h.term} {
		for range 8 {
			x = (x ^ v&0xFF) * prime
			v >>= 8
		}
	}
	return x
}

// place returns where a frame of size bytes goes when the frame before it ends at end: there, or at the start of the next segment
// if it does not fit into the current one. It depends on offsets alone.
func place(end, size, segmentBytes int64) int64 {
	room := segmentBytes - end%segmentBytes
	if end%segmentBytes == 0 || size <= room {
		return end
	}
	return end + room
}
