package raftlog

import (
	"fmt"
	"hash/crc32"
)

// point says where the frame of an entry begins. The points of a segment are sparse: one per pointSpacing bytes at most.
type point struct {
	index uint64
	off   int64
}

const pointSpacing = 64 << 10

// appendPoint adds a frame to a segment's points if it is far enough from the last one.
func appendPoint(points []point, index uint64, off int64) []point {
	if n := len(points); n > 0 && off-points[n-1].off < pointSpacing {
		return points
	}
	return append(points, point{index, off})
}

// cursor is a place between two frames: where the next frame goes and what it must link to.
type cursor struct {
	end   int64  // end of the last frame
	index uint64 // of the last frame
	term  uint64
	chain uint64
}

// follow checks that h can be the frame after c and returns the cursor behind it.
func (c cursor) follow(h *frameHeader) (cursor, error) {
	if h.index != c.index+1 {
		return c, fmt.Errorf("frame has index %d, expected %d", h.index, c.index+1)
	}
	if h.term < c.term {
		return c, fmt.Errorf("frame %d has term %d after term %d", h.index, h.term, c.term)
	}
	if want := chainHash(c.chain, h); h.chain != want {
		return c, fmt.Errorf("frame %d has chain %016x, computed %016x", h.index, h.chain, want)
	}
	return cursor{end: c.end + h.size(), index: h.index, term: h.term, chain: h.chain}, nil
}

// scanEnd says why a scan of a segment stopped.
type scanEnd uint8

const (
	scanFull  scanEnd = iota // the segment holds as many frames as fit
	scanClean                // nothing but zeros follows
	scanBad                  // something follows that is not the next frame
)

// scanner verifies the frames of one segment. It allocates one buffer, whatever the frames claim.
type scanner struct {
	seg   *segment
	size  int64 // of the file
	until int64 // scan stops behind it; default the segment's limit
	buf   []byte
	at    int64 // offset of buf[0]
	n     int   // valid bytes in buf
}

const scanBufferBytes = 256 << 10

func newScanner(seg *segment, buf []byte) (*scanner, error) {
	size, err := seg.f.Size()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", seg.path, err)
	}
	return &scanner{seg: seg, size: size, until: seg.limit(), buf: buf, at: seg.base}, nil
}

// fileEnd is the offset at which the file ends, at most the segment's limit.
func (s *scanner) fileEnd() int64 {
	return min(s.seg.base+max(s.size-segmentPageBytes, 0), s.seg.limit())
}

// window returns up to want bytes from off on, fewer only at the end of the file. want is at most len(buf).
func (s *scanner) window(off int64, want int) ([]byte, error) {
	if k := off - s.at; k >= 0 && k+int64(want) <= int64(s.n) {
		return s.buf[k : k+int64(want)], nil
	}
	n := min(int64(len(s.buf)), s.fileEnd()-off)
	if n < 0 {
		n = 0
	}
	k, err := readFull(s.seg.f, s.buf[:n], s.seg.filePos(off))
	if err != nil {
		return nil, fmt.Errorf("read %s at offset %d: %w", s.seg.path, off, err)
	}
	s.at, s.n = off, k
	return s.buf[:min(want, k)], nil
}

// anchor verifies the frame of entry index at off on its own, taking its word for the chain, and returns the cursor behind it.
func (s *scanner) anchor(off int64, index uint64) (cursor, error, error) {
	b, err := s.window(off, frameHeaderBytes)
	if err != nil {
		return cursor{}, nil, err
	}
	h, bad := decodeFrameHeader(b)
	switch {
	case bad != nil:
		return cursor{}, bad, nil
	case h.index != index || h.kind == framePad:
		return cursor{}, fmt.Errorf("frame has index %d, expected %d", h.index, index), nil
	case off+h.size() > s.seg.limit():
		return cursor{}, fmt.Errorf("frame %d of %d bytes passes the end of its segment", h.index, h.size()), nil
	}
	sum, whole, err := s.checksum(off+frameHeaderBytes, int64(h.length))
	if err == nil && (!whole || sum != h.bodyCRC) {
		bad = fmt.Errorf("record %d has CRC %08x, computed %08x", h.index, h.bodyCRC, sum)
	}
	return cursor{end: off + h.size(), index: h.index, term: h.term, chain: h.chain}, bad, err
}

// scan walks the frames from c on, up to until or further. It returns the cursor behind the last good frame, why it stopped, and for scanBad what is wrong
// there. err is a failure to read.
func (s *scanner) scan(c cursor, visit func(h *frameHeader, off int64)) (cursor, scanEnd, error, error) {
	limit := s.seg.limit()
	for {
		off := c.end
		if limit-off < frameHeaderBytes || off >= s.until {
			return c, scanFull, nil, nil
		}
		b, err := s.window(off, frameHeaderBytes)
		if err != nil {
			return c, scanBad, nil, err
		}
		if allZero(b) {
			first, err := s.nonZero(off + int64(len(b)))
			if err != nil {
				return c, scanBad, nil, err
			}
			if first < 0 {
				return c, scanClean, nil, nil
			}
			return c, scanBad, fmt.Errorf("zeros where a frame must be, data at offset %d", first), nil
		}
		h, bad := decodeFrameHeader(b)
		if bad != nil {
			return c, scanBad, bad, nil
		}
		if off+h.size() > limit {
			return c, scanBad, fmt.Errorf("frame %d of %d bytes passes the end of its segment", h.index, h.size()), nil
		}
		if h.kind == framePad {
			if off+h.size() != limit || h.index != c.index || h.chain != c.chain {
				return c, scanBad, fmt.Errorf("pad after frame %d does not fit its place", c.index), nil
			}
			return c, scanFull, nil, nil
		}
		next, bad := c.follow(&h)
		if bad != nil {
			return c, scanBad, bad, nil
		}
		sum, whole, err := s.checksum(off+frameHeaderBytes, int64(h.length))
		if err != nil {
			return c, scanBad, nil, err
		}
		if !whole {
			return c, scanBad, fmt.Errorf("frame %d of %d bytes is cut off by the end of the file", h.index, h.size()), nil
		}
		if sum != h.bodyCRC {
			return c, scanBad, fmt.Errorf("record %d has CRC %08x, computed %08x", h.index, h.bodyCRC, sum), nil
		}
		if visit != nil {
			visit(&h, off)
		}
		c = next
	}
}

// checksum returns the CRC of n bytes from off on; whole is false if the file ends before.
func (s *scanner) checksum(off, n int64) (sum uint32, whole bool, err error) {
	for n > 0 {
		b, err := s.window(off, int(min(n, int64(len(s.buf)))))
		if err != nil {
			return 0, false, err
		}
		if len(b) == 0 {
			return 0, false, nil
		}
		sum = crc32.Update(sum, castagnoli, b)
		off += int64(len(b))
		n -= int64(len(b))
	}
	return sum, true, nil
}

// nonZero returns the offset of the first byte from off on that is not zero, or -1.
func (s *scanner) nonZero(off int64) (int64, error) {
	for off < s.fileEnd() {
		b, err := s.window(off, int(min(s.fileEnd()-off, int64(len(s.buf)))))
		if err != nil {
			return 0, err
		}
		if len(b) == 0 {
			break
		}
		if !allZero(b) {
			for i, v := range b {
				if v != 0 {
					return off + int64(i), nil
				}
			}
		}
		off += int64(len(b))
	}
	return -1, nil
}

// findFrame looks from off on for a whole frame that was written after c, at any position, and returns its offset or -1. The
// record must be intact too, so that a few lucky bytes do not pass for one.
func (s *scanner) findFrame(off int64, c cursor) (int64, error) {
	for off+frameHeaderBytes <= s.fileEnd() {
		b, err := s.window(off, int(min(s.fileEnd()-off, int64(len(s.buf)))))
		if err != nil {
			return 0, err
		}
		if len(b) < frameHeaderBytes {
			break
		}
		for i := 0; i+frameHeaderBytes <= len(b); i++ {
			h, bad := plausibleHeader(b[i:], c)
			if bad {
				continue
			}
			at := off + int64(i)
			if at+h.size() > s.seg.limit() {
				continue
			}
			if h.kind == framePad {
				return at, nil
			}
			sum, whole, err := s.checksum(at+frameHeaderBytes, int64(h.length))
			if err != nil {
				return 0, err
			}
			if whole && sum == h.bodyCRC {
				return at, nil
			}
			// The window has moved; continue behind this header.
			if b, err = s.window(off, int(min(s.fileEnd()-off, int64(len(s.buf))))); err != nil {
				return 0, err
			}
		}
		off += int64(len(b)) - frameHeaderBytes + 1
	}
	return -1, nil
}

// plausibleHeader tests the cheap fields first: this runs at every byte position of a damaged tail.
func plausibleHeader(b []byte, c cursor) (frameHeader, bool) {
	if b[25]|b[26]|b[27] != 0 || (b[24] > 5 && b[24] != framePad) {
		return frameHeader{}, true
	}
	if b[8]|b[9] != 0 { // no log reaches 2^48 entries
		return frameHeader{}, true
	}
	h, err := decodeFrameHeader(b)
	if err != nil || h.index < c.index || h.term < c.term && h.kind != framePad {
		return frameHeader{}, true
	}
	return h, false
}

func allZero(b []byte) bool {
	for len(b) >= 8 {
		if b[0]|b[1]|b[2]|b[3]|b[4]|b[5]|b[6]|b[7] != 0 {
			return false
		}
		b = b[8:]
	}
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}
