package raftlog

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
)

// A sidecar keeps the points of one segment: see FORMAT.md. It is derived data; any doubt makes it void.
const (
	sidecarHeadBytes = 56
	sidecarVersion   = 1
)

var sidecarMagic = [4]byte{'r', 'm', 'q', 'x'}

// sidecar is a segment's points up to a place where no frame is cut.
type sidecar struct {
	base   int64
	at     cursor // frames up to here are covered
	points []point
}

func (s *sidecar) encode() []byte {
	b := make([]byte, 0, sidecarHeadBytes+16*len(s.points)+4)
	b = append(b, sidecarMagic[:]...)
	b = binary.BigEndian.AppendUint32(b, sidecarVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(s.base))
	b = binary.BigEndian.AppendUint64(b, uint64(s.at.end))
	b = binary.BigEndian.AppendUint64(b, s.at.index)
	b = binary.BigEndian.AppendUint64(b, s.at.term)
	b = binary.BigEndian.AppendUint64(b, s.at.chain)
	b = binary.BigEndian.AppendUint64(b, uint64(len(s.points)))
	for _, p := range s.points {
		b = binary.BigEndian.AppendUint64(b, p.index)
		b = binary.BigEndian.AppendUint64(b, uint64(p.off))
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeSidecar(b []byte, base int64) (sidecar, bool) {
	if len(b) < sidecarHeadBytes+4 || [4]byte(b[:4]) != sidecarMagic || binary.BigEndian.Uint32(b[4:]) != sidecarVersion {
		return sidecar{}, false
	}
	body, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(body, castagnoli) != sum || int64(binary.BigEndian.Uint64(b[8:])) != base {
		return sidecar{}, false
	}
	s := sidecar{base: base, at: cursor{
		end:   int64(binary.BigEndian.Uint64(b[16:])),
		index: binary.BigEndian.Uint64(b[24:]),
		term:  binary.BigEndian.Uint64(b[32:]),
		chain: binary.BigEndian.Uint64(b[40:]),
	}}
	if n := binary.BigEndian.Uint64(b[48:]); n != uint64(len(body)-sidecarHeadBytes)/16 || (len(body)-sidecarHeadBytes)%16 != 0 {
		return sidecar{}, false
	}
	for p := body[sidecarHeadBytes:]; len(p) > 0; p = p[16:] {
		s.points = append(s.points, point{binary.BigEndian.Uint64(p), int64(binary.BigEndian.Uint64(p[8:]))})
	}
	return s, true
}

func readSidecar(fsys FS, segmentPath string, base int64) (sidecar, bool) {
	b, err := readFile(fsys, segmentPath+indexSuffix, 64<<20)
	if err != nil {
		return sidecar{}, false
	}
	return decodeSidecar(b, base)
}

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
