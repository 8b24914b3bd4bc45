package raftlog

import "slices"

// sidecarEvery is how much the active segment grows between two sidecars: what a restart has to scan at most, besides what it
// verifies anyway.
const sidecarEvery = 32 << 20

// saveSidecar writes the sidecars of the segments that were sealed since the last call, and that of the active one if it has grown
// enough. Sidecars are derived data: a failure costs a longer scan and is only logged.
func (l *Log) saveSidecar() {
	l.flushing.Lock()
	defer l.flushing.Unlock()
	if l.poisoned() != nil {
		return
	}
	w := &l.w
	w.mu.Lock()
	segs, synced := *l.segs.Load(), w.synced
	at := w.at
	w.mu.Unlock()
	for i, seg := range segs {
		last := i == len(segs)-1
		switch {
		case seg.base < l.sidecarBase:
		case !last:
			next := &segs[i+1].segmentHead
			l.writeSidecar(seg, cursor{next.prevEnd, next.firstIndex - 1, next.prevTerm, next.prevChain})
			l.sidecarBase, l.sidecarEnd = next.base, next.base
		case at.end <= synced && at.end-max(l.sidecarEnd, seg.base) >= sidecarEvery:
			l.writeSidecar(seg, at)
			l.sidecarEnd = at.end
		}
	}
}

func (l *Log) writeSidecar(seg *segment, at cursor) {
	s := sidecar{base: seg.base, at: at, points: l.index.pointsOf(seg.base, at.index)}
	if s.points == nil {
		return
	}
	if err := replaceFile(l.fs, l.dir, seg.path+indexSuffix, s.encode()); err != nil {
		l.log.Warn("index sidecar not written", "segment", seg.path, "error", err)
	}
}

// pointsOf returns the points of a segment up to frame last, nil if they are not in memory. Those of a segment that has ended are
// forgotten: the sidecar has them from now on.
func (x *logIndex) pointsOf(base int64, last uint64) []point {
	x.mu.Lock()
	defer x.mu.Unlock()
	i := x.segmentOf(base)
	if i == len(x.segs) || x.segs[i].base != base {
		return nil
	}
	seg := &x.segs[i]
	points := seg.points
	if i < len(x.segs)-1 {
		if !slices.Contains(x.loaded, base) {
			seg.points = nil
		}
		return points
	}
	n := len(points)
	for n > 0 && points[n-1].index > last {
		n--
	}
	return slices.Clone(points[:n])
}
