package raftlog

import "errors"

// Seeder fills a directory with the log of another replica, before Raft runs on it. The directory keeps its identity, its term and
// its vote; what log it had goes. It is resumable: after a crash the directory says that it is being filled (Recovery.Filling) and
// is not opened as a log, until Commit has returned.
type Seeder struct{}

// ErrFilling: the directory is being filled and is no log yet.
var ErrFilling = errors.New("raftlog: the directory is being filled")

// ErrFillBehind: the directory's log went further than the fill point does. To forget what it has confirmed would lose it.
var ErrFillBehind = errors.New("raftlog: the fill point lies before the end of the log that is to be replaced")

// OpenSeeder begins or resumes a fill. Bytes that an earlier fill brought are kept if the point continues it. For a bare point
// o.SegmentBytes is the replica's own, else it must be the group's.
func OpenSeeder(dir string, o Options, p FillPoint) (*Seeder, error) { return nil, ErrFilling }

// Have returns the offset from which on bytes are wanted; at p.End there is nothing left to copy.
func (s *Seeder) Have() int64 { return 0 }

// Write takes the log's bytes from Have on, and verifies every frame. A piece may end anywhere.
func (s *Seeder) Write(b []byte) error { return ErrFilling }

// Commit makes the directory a log. The state machine's checkpoint must be in place before. It may be repeated.
func (s *Seeder) Commit() error { return ErrFilling }

// Close closes the directory, filled or not.
func (s *Seeder) Close() error { return nil }
