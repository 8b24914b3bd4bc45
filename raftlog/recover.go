package raftlog

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
)

// recovered is what the segment files hold, found without changing them.
type recovered struct {
	verify int64      // how much of the end is verified
	all    []*segment // opened
	segs   []*segment // those of them that stay
	at     cursor
	points []point // of the last segment
	cut    *cut    // nil if the log ends cleanly
}

// cut is a torn tail: everything from offset at on goes.
type cut struct {
	at     int64
	seg    *segment   // the segment at lies in
	behind []*segment // the ones after it
	reason error      // what is wrong at at; nil if only empty segments go
	frames bool       // good frames lie behind: bytes that were never synced, lost out of order
}

// recoverSegments opens the segments and finds the end of the log. run is what the last run left, sameBoot whether the machine has
// kept running since, so that every byte written is still there.
func recoverSegments(fsys FS, dir string, bases []int64, o *Options, node [16]byte, run runState, sameBoot bool) (r *recovered, err error) {
	r = &recovered{verify: o.VerifyBytes}
	defer func() {
		if err != nil {
			for _, s := range r.all {
				err = joinClose(err, closerFunc(s.close))
			}
		}
	}()
	for i, base := range bases {
		s, err := openSegment(fsys, filepath.Join(dir, segmentName(base)))
		if err != nil {
			if v := errVersion(0); errors.As(err, &v) {
				return r, &Fault{ExitConfigMismatch, "CONFIG_MISMATCH", err}
			}
			return r, err
		}
		r.all = append(r.all, s)
		switch {
		case s.mark.node != node:
			return r, &Fault{ExitAmnesia, "NODE_AMNESIA", fmt.Errorf("segment %s belongs to node %s", s.path, formatUUID(s.mark.node))}
		case s.segmentBytes != o.SegmentBytes:
			return r, &Fault{ExitConfigMismatch, "CONFIG_MISMATCH", fmt.Errorf("segment %s spans %d bytes, configured are %d", s.path, s.segmentBytes, o.SegmentBytes)}
		case s.base != base:
			return r, damaged(fmt.Errorf("segment %s says that it begins at %d", s.path, s.base))
		case i > 0 && base != bases[i-1]+o.SegmentBytes:
			return r, damaged(fmt.Errorf("segment %s is missing", segmentName(bases[i-1]+o.SegmentBytes)))
		}
		s.checked = make([]atomic.Uint64, s.segmentBytes/regionBytes/64+1)
	}
	if len(r.all) == 0 {
		return r, nil
	}
	if last := r.all[len(r.all)-1]; last.mark.sealed { // the next segment had a name before this one was sealed
		return r, damaged(fmt.Errorf("segment %s is missing", segmentName(last.limit())))
	}
	r.segs = r.all
	for {
		if err := r.scan(fsys, run, sameBoot); err != nil {
			return r, err
		}
		if !r.dropEmpty() {
			return r, nil
		}
	}
}

// dropEmpty turns a last segment without a frame into a cut and reports whether there was one: the next frame must go where the
// frames before it put it, which may be the end of the segment before.
func (r *recovered) dropEmpty() bool {
	n := len(r.segs) - 1
	if n == 0 || r.at.end > r.segs[n].base {
		return false
	}
	empty := r.segs[n]
	r.segs = r.segs[:n]
	r.cutAt(empty.prevEnd, r.segs[n-1], []*segment{empty})
	return true
}

// cutAt notes that everything from offset at on goes, and the segments behind; earlier notes were of what lies further behind.
func (r *recovered) cutAt(at int64, seg *segment, behind []*segment) {
	if r.cut == nil {
		r.cut = &cut{}
	}
	r.cut.at, r.cut.seg = at, seg
	r.cut.behind = append(slices.Clone(behind), r.cut.behind...)
}

// scan verifies the end of the log and sets at, points and cut.
func (r *recovered) scan(fsys FS, run runState, sameBoot bool) error {
	last := len(r.segs) - 1
	from := r.segs[last].mark.synced - r.verify
	k := 0
	for k < last && r.segs[k].mark.sealed && r.segs[k+1].base <= from {
		k++
	}
	buf := make([]byte, scanBufferBytes)
	for ; k <= last; k++ {
		seg := r.segs[k]
		if d, ok := seg.f.(cacheDropper); ok && !run.Clean {
			if err := d.dropCache(); err != nil {
				return fmt.Errorf("%s: drop the cache: %w", seg.path, err)
			}
		}
		s, err := newScanner(seg, buf)
		if err != nil {
			return err
		}
		r.points = nil
		c, err := r.startOf(fsys, s, from)
		if err != nil {
			return err
		}
		c, end, bad, err := s.scan(c, func(h *frameHeader, off int64) { r.points = appendPoint(r.points, h.index, off) })
		if err != nil {
			return err
		}
		r.at = c
		switch {
		case end == scanFull && k < last:
			if err := linked(c, &r.segs[k+1].segmentHead); err != nil {
				return damaged(err)
			}
			continue
		case end == scanClean && k < last:
			bad = fmt.Errorf("segment %s ends at %d, before its time", seg.path, c.end)
		case end == scanFull: // a pad at the end of the log gives way to the next frame if that fits
			r.cutAt(c.end, seg, nil)
		case end == scanBad:
			bad = fmt.Errorf("segment %s at offset %d: %w", seg.path, c.end, bad)
		}
		return r.judge(s, k, bad, run, sameBoot)
	}
	return nil
}

// judge tells a torn tail from corruption. bad is nil if the log ends with zeros or the end of the file.
func (r *recovered) judge(s *scanner, k int, bad error, run runState, sameBoot bool) error {
	c, seg, last := r.at, r.segs[k], k == len(r.segs)-1
	switch {
	case c.end < seg.mark.synced:
		if bad == nil {
			bad = fmt.Errorf("segment %s ends at %d", seg.path, c.end)
		}
		return damaged(fmt.Errorf("%w; bytes up to %d were on stable storage", bad, seg.mark.synced))
	case run.Clean && run.End != c.end:
		return damaged(fmt.Errorf("log ends at %d, it was closed at %d (%w)", c.end, run.End, orEnd(bad)))
	case bad == nil:
		return nil
	case run.Clean || seg.mark.sealed: // a sealed segment is durable to its limit
		return damaged(bad)
	}
	from := c.end + 1
	if b, err := s.window(c.end, frameHeaderBytes); err != nil {
		return err
	} else if h, err := decodeFrameHeader(b); err == nil && c.end+h.size() <= seg.limit() {
		from = c.end + h.size() // a record may hold anything, also something that looks like a frame
	}
	at, err := s.findFrame(from, c)
	if err != nil {
		return err
	}
	frames := at >= 0 || !last
	if frames && sameBoot {
		if at < 0 {
			return damaged(fmt.Errorf("%w; segment %s follows", bad, r.segs[k+1].path))
		}
		return damaged(fmt.Errorf("%w; a good frame follows at %d", bad, at))
	}
	r.cutAt(c.end, seg, r.segs[k+1:])
	r.cut.reason, r.cut.frames = bad, frames
	r.segs = r.segs[:k+1]
	return nil
}

// startOf returns the cursor to begin the scan of a segment with: its first frame, or the first known frame at or below offset from.
// It fills points with what the sidecar knows before that.
func (r *recovered) startOf(fsys FS, s *scanner, from int64) (cursor, error) {
	head := &s.seg.segmentHead
	s.seg.trusted = head.base
	c := cursor{end: head.base, index: head.firstIndex - 1, term: head.prevTerm, chain: head.prevChain}
	if from <= head.base {
		return c, nil
	}
	side, ok := readSidecar(fsys, s.seg.path, head.base)
	if !ok || side.at.end > s.seg.mark.synced {
		return c, nil
	}
	for i := len(side.points) - 1; i > 0; i-- {
		p := side.points[i]
		if p.off > from {
			continue
		}
		at, bad, err := s.anchor(p.off, p.index)
		if err != nil {
			return c, err
		}
		if bad != nil {
			return c, nil // let the scan from the start say what is wrong
		}
		r.points = append(r.points, side.points[:i+1]...)
		s.seg.trusted = p.off
		return at, nil
	}
	return c, nil
}

// linked checks that the next segment begins where the frames before it end.
func linked(c cursor, next *segmentHead) error {
	if next.firstIndex != c.index+1 || next.prevEnd != c.end || next.prevTerm != c.term || next.prevChain != c.chain {
		return fmt.Errorf("segment %d does not continue the log: it follows frame %d of term %d ending at %d with chain %016x, "+
			"the log has frame %d of term %d ending at %d with chain %016x",
			next.base, next.firstIndex-1, next.prevTerm, next.prevEnd, next.prevChain, c.index, c.term, c.end, c.chain)
	}
	return nil
}

func orEnd(err error) error {
	if err == nil {
		return errors.New("nothing follows")
	}
	return err
}

type closerFunc func() error

func (f closerFunc) Close() error { return f() }
