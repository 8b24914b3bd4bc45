package raftlog

import (
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/hashicorp/raft"
)

// Seeder fills a directory with the log of another replica, before Raft runs on it. The directory keeps its identity, its term and
// its vote; what log it had goes. It is resumable: after a crash the directory says that it is being filled (Recovery.Filling) and
// is not opened as a log, until Commit has returned. One goroutine at a time uses it.
type Seeder struct {
	l     *Log
	p     FillPoint
	at    cursor // behind the last frame taken; end is where the next byte belongs, in a pad too
	zeros int64  // of the pad at at.end that are still to come
	buf   []byte // a frame that has not come completely
	done  bool
}

// ErrFilling: the directory is being filled and is no log yet.
var ErrFilling = errors.New("raftlog: the directory is being filled")

// ErrFillBehind: the directory's log went further than the fill point does. To forget what it has confirmed would lose it.
var ErrFillBehind = errors.New("raftlog: the fill point lies before the end of the log that is to be replaced")

var errFillIncomplete = errors.New("raftlog: the fill is not complete")

// OpenSeeder begins or resumes a fill. Bytes that an earlier fill brought are kept if the point continues it. For a bare point
// o.SegmentBytes is the replica's own, else it must be the group's.
func OpenSeeder(dir string, o Options, p FillPoint) (*Seeder, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	if !p.Bare && p.SegmentBytes != o.SegmentBytes {
		return nil, &Fault{ExitConfigMismatch, "CONFIG_MISMATCH",
			fmt.Errorf("fill %s: the group's segments span %d bytes, configured are %d", dir, p.SegmentBytes, o.SegmentBytes)}
	}
	l := newLog(dir, o)
	l.filling = true
	l.w.flush = AsyncFlush // Commit makes everything durable
	if err := l.openSeeder(p); err != nil {
		return nil, fmt.Errorf("raftlog: fill %s: %w", dir, errors.Join(refusal(err), l.closeFiles()))
	}
	l.tasks.Go(l.runWatchdog)
	l.tasks.Go(l.runFlusher)
	s := &Seeder{l: l, p: p}
	s.rewind()
	return s, nil
}

// rewind goes back to the end of the last frame in the log.
func (s *Seeder) rewind() {
	s.l.w.mu.Lock()
	defer s.l.w.mu.Unlock()
	s.at, s.zeros, s.buf = s.l.w.at, 0, nil
}

// Identity returns who the directory is.
func (s *Seeder) Identity() Identity { return s.l.Identity() }

// Have returns the offset from which on bytes are wanted; at p.End there is nothing left to copy. It goes back after a failed Write.
func (s *Seeder) Have() int64 {
	if s.p.Bare {
		return s.p.End
	}
	return s.at.end + int64(len(s.buf))
}

// Write takes the log's bytes from Have on, which may end anywhere, and verifies every frame. After an error those frames are kept
// that were good.
func (s *Seeder) Write(b []byte) error {
	if have := s.Have(); int64(len(b)) > s.p.End-have {
		return fmt.Errorf("raftlog: fill: %d bytes at %d, the point ends at %d", len(b), have, s.p.End)
	}
	s.buf = append(s.buf, b...)
	rest, entries, bad := s.parse(s.buf)
	if len(entries) > 0 {
		if err := s.l.storeLogs(entries); err != nil {
			return err
		}
	}
	if bad != nil {
		s.rewind()
		return fmt.Errorf("raftlog: fill: at offset %d: %w: %w", s.at.end, ErrCorrupt, bad)
	}
	s.buf = slices.Delete(s.buf, 0, len(s.buf)-len(rest))
	return nil
}

// parse takes whole frames and pads from b and returns what is left. The entries are valid as long as b.
func (s *Seeder) parse(b []byte) (rest []byte, entries []*raft.Log, bad error) {
	for len(b) > 0 {
		if s.zeros > 0 {
			n := min(s.zeros, int64(len(b)))
			if !allZero(b[:n]) {
				return b, entries, errors.New("the end of a segment is not filled with zeros")
			}
			s.at.end += n
			s.zeros -= n
			b = b[n:]
			continue
		}
		room := s.p.SegmentBytes - s.at.end%s.p.SegmentBytes
		if room < frameHeaderBytes {
			s.zeros = room
			continue
		}
		if len(b) < frameHeaderBytes {
			break
		}
		h, err := decodeFrameHeader(b)
		if err != nil {
			return b, entries, err
		}
		if h.kind == framePad {
			if h.size() != room || room == s.p.SegmentBytes || h.index != s.at.index || h.chain != s.at.chain {
				return b, entries, fmt.Errorf("pad after frame %d does not fit its place", s.at.index)
			}
			s.at.end += frameHeaderBytes
			s.zeros = room - frameHeaderBytes
			b = b[frameHeaderBytes:]
			continue
		}
		next, err := s.at.follow(&h)
		switch {
		case err != nil:
			return b, entries, err
		case h.size() > room || h.length > recordBytesMaxMax || next.end > s.p.End || next.index > s.p.EndIndex:
			return b, entries, fmt.Errorf("frame %d of %d bytes passes the end of its segment or of the fill", h.index, h.size())
		}
		if int64(len(b)) < h.size() {
			break
		}
		record := b[frameHeaderBytes:h.size():h.size()]
		if sum := crc32.Checksum(record, castagnoli); sum != h.bodyCRC {
			return b, entries, fmt.Errorf("record %d has CRC %08x, computed %08x", h.index, h.bodyCRC, sum)
		}
		entries = append(entries, &raft.Log{Index: h.index, Term: h.term, Type: raft.LogType(h.kind), Data: record})
		s.at = next
		b = b[h.size():]
	}
	return b, entries, nil
}

// Commit makes the directory a log, durably. The state machine's checkpoint must be in place before. It may be repeated.
func (s *Seeder) Commit() error {
	if s.done {
		return nil
	}
	l := s.l
	l.w.mu.Lock()
	at := l.w.at
	l.w.mu.Unlock()
	if at.index != s.p.EndIndex || at.term != s.p.EndTerm || at.chain != s.p.EndChain || !s.p.Bare && at.end != s.p.End {
		return fmt.Errorf("%w: it has entry %d of term %d with chain %016x up to %d, and is to have %d of %d with %016x up to %d", errFillIncomplete,
			at.index, at.term, at.chain, at.end, s.p.EndIndex, s.p.EndTerm, s.p.EndChain, s.p.End)
	}
	if err := l.poisoned(); err != nil {
		return err
	}
	if err := l.finishFill(&s.p); err != nil {
		return l.storageFailed(fmt.Errorf("raftlog: fill: %w", err))
	}
	s.done, l.filling = true, false
	l.log.Info("the directory is filled", "from_index", s.p.First, "index", s.p.EndIndex, "min", s.p.Min, "end", s.p.End, "bare", s.p.Bare)
	return nil
}

// Close closes the directory, filled or not.
func (s *Seeder) Close() error { return s.l.Close() }
