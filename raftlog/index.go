package raftlog

import (
	"fmt"
	"slices"
	"sort"
	"sync"
)

// spot is the place of one frame: [off, end).
type spot struct{ off, end int64 }

const (
	recentFrames   = 8192 // frames at the end of the log whose spots are kept one by one
	loadedSegments = 4    // sealed segments whose points are kept in memory
	walkBytes      = 4096 // read ahead while walking headers from a point to a frame
)

// logIndex maps Raft indexes to offsets: exactly for the newest frames, by sparse points and a short walk for older ones. Points
// of sealed segments are loaded on demand from their sidecar files, which are rebuilt if they are missing or bad.
type logIndex struct {
	read func(p []byte, off int64) (int, error) // bytes of the log
	load func(base int64) []point               // sidecar of a sealed segment, nil if there is no good one

	loading sync.Mutex // one segment's points are loaded at a time; taken before mu

	mu         sync.RWMutex
	first      uint64 // index of the first frame
	last       uint64 // index of the last one, first-1 if there is none
	term       uint64 // its term
	segs       []segmentPoints
	recent     [recentFrames]spot // frame i at i modulo recentFrames
	recentFrom uint64             // lowest index in recent
	loaded     []int64            // bases of sealed segments with points, oldest use first
	hops       [8]hop             // where sequential readers go next
	nextHop    int
}

// segmentPoints is what the index keeps of one segment.
type segmentPoints struct {
	base       int64
	firstIndex uint64
	end        int64 // of the last frame; 0 for the active segment
	points     []point
}

// hop remembers that frame index begins at off or at the start of the next segment.
type hop struct {
	index uint64
	off   int64
}

// addSegment appends a segment whose first frame will be firstIndex. prevEnd is where the frame before it ends.
func (x *logIndex) addSegment(base int64, firstIndex uint64, prevEnd int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if n := len(x.segs); n > 0 {
		x.segs[n-1].end = prevEnd
	} else {
		x.first, x.last, x.recentFrom = firstIndex, firstIndex-1, firstIndex
	}
	x.segs = append(x.segs, segmentPoints{base: base, firstIndex: firstIndex})
}

// setPoints gives the index the points of a segment and its last frame, as found at open.
func (x *logIndex) setPoints(base int64, points []point, last, term uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	i := x.segmentOf(base)
	x.segs[i].points = points
	x.last, x.term = last, term
	x.recentFrom = last + 1
}

// add appends a frame to the last segment. It is found after publish.
func (x *logIndex) add(index uint64, s spot) {
	x.mu.Lock()
	defer x.mu.Unlock()
	seg := &x.segs[len(x.segs)-1]
	seg.points = appendPoint(seg.points, index, s.off)
	x.recent[index%recentFrames] = s
	if index-x.recentFrom >= recentFrames {
		x.recentFrom = index - recentFrames + 1
	}
}

// publish makes the frames up to last visible: their bytes can be read now.
func (x *logIndex) publish(last, term uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.last, x.term = last, term
}

// truncate forgets the frames from index on; term is that of the frame before. The last segment that keeps a frame becomes the
// active one; the first segment stays even without a frame, because it says what the log follows.
func (x *logIndex) truncate(index, term uint64) error {
	x.mu.RLock()
	keep := max(sort.Search(len(x.segs), func(i int) bool { return x.segs[i].firstIndex >= index }), 1)
	base := x.segs[keep-1].base
	x.mu.RUnlock()
	if err := x.ensurePoints(base); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, seg := range x.segs[keep:] {
		x.dropLoaded(seg.base)
	}
	x.segs = x.segs[:keep]
	x.hops = [8]hop{}
	seg := &x.segs[keep-1]
	seg.end = 0
	x.dropLoaded(seg.base)
	k := sort.Search(len(seg.points), func(i int) bool { return seg.points[i].index >= index })
	seg.points = seg.points[:k]
	x.last, x.term = index-1, term
	x.recentFrom = min(x.recentFrom, index)
	return nil
}

// dropSegments forgets the segments below base.
func (x *logIndex) dropSegments(base int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := 0
	for n < len(x.segs)-1 && x.segs[n].base < base {
		x.dropLoaded(x.segs[n].base)
		n++
	}
	x.segs = slices.Delete(x.segs, 0, n)
	if len(x.segs) > 0 {
		x.first = x.segs[0].firstIndex
	}
}

func (x *logIndex) dropLoaded(base int64) {
	if i := slices.Index(x.loaded, base); i >= 0 {
		x.loaded = slices.Delete(x.loaded, i, i+1)
	}
}

// bounds returns the indexes of the first and the last frame, 0 and 0 if there is none.
func (x *logIndex) bounds() (first, last uint64) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.last < x.first {
		return 0, 0
	}
	return x.first, x.last
}

// span is bounds for a log that begins later than with entry 1: without a frame, last is what the first frame will follow.
func (x *logIndex) span() (first, last uint64) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.first, x.last
}

// lastTerm returns the term of the last frame, or of what the first one will follow.
func (x *logIndex) lastTerm() uint64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.term
}

func (x *logIndex) segmentOf(base int64) int {
	return sort.Search(len(x.segs), func(i int) bool { return x.segs[i].base >= base })
}

// find returns the spot of a frame; ok is false if the log does not hold it.
func (x *logIndex) find(index uint64) (s spot, ok bool, err error) {
	x.mu.RLock()
	if index < x.first || index > x.last {
		x.mu.RUnlock()
		return spot{}, false, nil
	}
	if index >= x.recentFrom {
		s = x.recent[index%recentFrames]
		x.mu.RUnlock()
		return s, true, nil
	}
	x.mu.RUnlock()
	return x.walk(index)
}

// walk finds an older frame from the nearest known place before it. It reads without holding the lock: the writer must not wait.
func (x *logIndex) walk(index uint64) (spot, bool, error) {
	from, ok, err := x.nearest(index)
	if err != nil || !ok {
		return spot{}, false, err
	}
	w := headerWalk{read: x.read}
	for {
		h, err := w.header(from.off)
		if err != nil {
			return spot{}, false, fmt.Errorf("find frame %d: at offset %d: %w", index, from.off, err)
		}
		if h.index != from.index || h.kind == framePad {
			return spot{}, false, fmt.Errorf("find frame %d: at offset %d lies frame %d, expected %d: %w", index, from.off, h.index, from.index, ErrCorrupt)
		}
		end := from.off + h.size()
		if h.index == index {
			x.remember(index, end)
			return spot{from.off, end}, true, nil
		}
		from = point{from.index + 1, end}
	}
}

// nearest returns the last known frame at or before index in its segment.
func (x *logIndex) nearest(index uint64) (p point, ok bool, err error) {
	for {
		x.mu.RLock()
		if index < x.first || index > x.last {
			x.mu.RUnlock()
			return point{}, false, nil
		}
		n := sort.Search(len(x.segs), func(i int) bool { return x.segs[i].firstIndex > index }) - 1
		seg := x.segs[n]
		for _, h := range x.hops {
			if h.index == index && h.index != 0 {
				x.mu.RUnlock()
				return point{index, max(h.off, seg.base)}, true, nil
			}
		}
		k := sort.Search(len(seg.points), func(i int) bool { return seg.points[i].index > index })
		need := seg.points == nil && n < len(x.segs)-1
		x.mu.RUnlock()
		switch {
		case need:
			if err := x.ensurePoints(seg.base); err != nil {
				return point{}, false, err
			}
		case k > 0:
			return seg.points[k-1], true, nil
		default:
			return point{seg.firstIndex, seg.base}, true, nil
		}
	}
}

// remember notes where the frame after index begins, unless it is in the next segment, for the reader that comes for it.
func (x *logIndex) remember(index uint64, end int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	at := -1
	for i, h := range x.hops {
		if h.index == index {
			at = i
		}
	}
	if at < 0 {
		at = x.nextHop
		x.nextHop = (x.nextHop + 1) % len(x.hops)
	}
	x.hops[at] = hop{index + 1, end}
}

// ensurePoints makes sure that a sealed segment has points, from its sidecar or by a walk over its headers.
func (x *logIndex) ensurePoints(base int64) error {
	x.loading.Lock()
	defer x.loading.Unlock()
	x.mu.Lock()
	n := x.segmentOf(base)
	if n >= len(x.segs)-1 || x.segs[n].base != base {
		x.mu.Unlock()
		return nil // the active segment keeps its points
	}
	seg := x.segs[n]
	x.dropLoaded(base)
	x.loaded = append(x.loaded, base)
	if len(x.loaded) > loadedSegments {
		x.segs[x.segmentOf(x.loaded[0])].points = nil
		x.loaded = slices.Delete(x.loaded, 0, 1)
	}
	x.mu.Unlock()
	if seg.points != nil {
		return nil
	}
	points := x.load(base)
	if points == nil {
		w := headerWalk{read: x.read}
		for off := seg.base; off < seg.end; {
			h, err := w.header(off)
			if err != nil {
				return fmt.Errorf("rebuild the index of segment %d: at offset %d: %w", base, off, err)
			}
			points = appendPoint(points, h.index, off)
			off += h.size()
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if n := x.segmentOf(base); n < len(x.segs)-1 && x.segs[n].base == base {
		x.segs[n].points = points
	}
	return nil
}

// headerWalk reads frame headers one after the other with few reads.
type headerWalk struct {
	read func(p []byte, off int64) (int, error)
	at   int64
	n    int
	buf  [walkBytes]byte
}

func (w *headerWalk) header(off int64) (frameHeader, error) {
	if k := off - w.at; k < 0 || k+frameHeaderBytes > int64(w.n) {
		n, err := w.read(w.buf[:], off)
		if n < frameHeaderBytes {
			if err == nil {
				err = ErrCorrupt
			}
			return frameHeader{}, err
		}
		w.at, w.n = off, n
	}
	h, err := decodeFrameHeader(w.buf[off-w.at : w.n])
	if err != nil {
		return h, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return h, nil
}
