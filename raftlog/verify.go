package raftlog

import (
	"context"
	"fmt"
	"sort"
)

// regionBytes is the unit in which bytes from before the last start are remembered as verified.
const regionBytes = 64 << 10

// verifyRange verifies the frames that overlap [from, to) of a segment, unless that has been done since the start. Corruption ends
// the process: better no answer than a wrong one.
func (l *Log) verifyRange(seg *segment, from, to int64) error {
	to = min(to, seg.trusted)
	for off := from - (from-seg.base)%regionBytes; off < to; off += regionBytes {
		if seg.regionChecked(off) {
			continue
		}
		if err := l.verifyFrames(seg, off, min(off+regionBytes, seg.limit())); err != nil {
			return l.readFailed(err)
		}
	}
	return nil
}

// verifyFrames walks the frames of a segment from the last known one at or before from until to is covered, and marks the regions
// that lie wholly in between.
func (l *Log) verifyFrames(seg *segment, from, to int64) error {
	p, err := l.index.pointBefore(seg.base, from)
	if err != nil {
		return err
	}
	seg.mu.RLock()
	defer seg.mu.RUnlock()
	if seg.f == nil {
		return errSegmentClosed
	}
	s, err := newScanner(seg, make([]byte, regionBytes))
	if err != nil {
		return err
	}
	s.until = to
	c := cursor{end: seg.base, index: seg.firstIndex - 1, term: seg.prevTerm, chain: seg.prevChain}
	var bad error
	if p.off > seg.base {
		if c, bad, err = s.anchor(p.off, p.index); bad != nil {
			c.end = p.off
		}
	}
	end := scanFull
	if bad == nil && err == nil {
		c, end, bad, err = s.scan(c, nil)
	}
	switch {
	case err != nil:
		return err
	case bad != nil:
		return damaged(fmt.Errorf("segment %s at offset %d: %w", seg.path, c.end, bad))
	case end == scanClean:
		return damaged(fmt.Errorf("segment %s ends at %d", seg.path, c.end))
	}
	if end == scanFull && c.end < to {
		c.end = seg.limit() // a pad
	}
	for off := p.off + (regionBytes-(p.off-seg.base)%regionBytes)%regionBytes; off < c.end; off += regionBytes {
		if off+regionBytes <= c.end || c.end == seg.limit() {
			seg.setRegionChecked(off)
		}
	}
	return nil
}

func (s *segment) regionChecked(off int64) bool {
	i := (off - s.base) / regionBytes
	return s.checked[i/64].Load()&(1<<(i%64)) != 0
}

func (s *segment) setRegionChecked(off int64) {
	i := (off - s.base) / regionBytes
	s.checked[i/64].Or(1 << (i % 64))
}

// pointBefore returns the last known frame of a segment that begins at or before off.
func (x *logIndex) pointBefore(base, off int64) (point, error) {
	if err := x.ensurePoints(base); err != nil {
		return point{}, err
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	n := x.segmentOf(base)
	if n == len(x.segs) || x.segs[n].base != base {
		return point{}, errSegmentClosed
	}
	seg := &x.segs[n]
	if k := sort.Search(len(seg.points), func(i int) bool { return seg.points[i].off > off }); k > 0 {
		return seg.points[k-1], nil
	}
	return point{seg.firstIndex, base}, nil
}

// Verify reads the whole log from its files and checks every frame and every link. It returns the first corruption and leaves what
// follows from it to the caller. It may run at any time.
func (l *Log) Verify(ctx context.Context) error {
	end := l.EndOffset()
	buf := make([]byte, scanBufferBytes)
	for _, seg := range *l.segs.Load() {
		if err := l.verifySegment(ctx, seg, end, buf); err != nil {
			return err
		}
	}
	return nil
}

func (l *Log) verifySegment(ctx context.Context, seg *segment, end int64, buf []byte) error {
	c := cursor{end: seg.base, index: seg.firstIndex - 1, term: seg.prevTerm, chain: seg.prevChain}
	for c.end < min(end, seg.limit()) {
		if err := ctx.Err(); err != nil {
			return err
		}
		seg.mu.RLock()
		if seg.f == nil {
			seg.mu.RUnlock()
			return nil // unlinked meanwhile
		}
		s, err := newScanner(seg, buf)
		var bad error
		before := c.end
		if err == nil {
			s.until = min(c.end+verifyStep, end)
			c, _, bad, err = s.scan(c, nil)
		}
		seg.mu.RUnlock()
		switch {
		case err != nil:
			return err
		case bad != nil:
			return damaged(fmt.Errorf("segment %s at offset %d: %w", seg.path, c.end, bad))
		case c.end == before:
			return nil // a pad, or a log that was truncated meanwhile
		}
	}
	return nil
}

// verifyStep is how much Verify reads before it looks whether it may go on.
const verifyStep = 4 << 20
