package raftlog

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/hashicorp/raft"
)

// logStore is the Log as Raft sees it. It is not a raft.MonotonicLogStore: Raft would then delete the whole log when a snapshot is
// installed.
type logStore struct{ l *Log }

var _ raft.LogStore = logStore{}

func (s logStore) FirstIndex() (uint64, error) {
	first, _ := s.l.index.bounds()
	return first, nil
}

func (s logStore) LastIndex() (uint64, error) {
	_, last := s.l.index.bounds()
	return last, nil
}

// GetLog knows the term of the entry that the log follows too: Raft compares it with what another replica has there, to find out
// from where on their logs differ. That entry is never sent to anybody: it is covered by the newest snapshot that Raft knows of, so
// it would only be asked for in the same breath with the one before it, which is not there.
func (s logStore) GetLog(index uint64, out *raft.Log) error {
	err := s.l.getLog(index, out)
	if errors.Is(err, raft.ErrLogNotFound) && index > 1 {
		if segs := *s.l.segs.Load(); len(segs) > 0 && segs[0].firstIndex == index+1 {
			*out = raft.Log{Index: index, Term: segs[0].prevTerm, Type: raft.LogNoop}
			return nil
		}
	}
	return err
}

func (s logStore) StoreLog(log *raft.Log) error         { return s.l.storeLogs([]*raft.Log{log}) }
func (s logStore) StoreLogs(logs []*raft.Log) error     { return s.l.storeLogs(logs) }
func (s logStore) DeleteRange(first, last uint64) error { return s.l.deleteRange(first, last) }

// getLog reads one entry into memory of its own and verifies it. A bad one is fatal: Raft would panic or leave a gap.
func (l *Log) getLog(index uint64, out *raft.Log) error {
	cuts := l.cuts.Load()
	err := l.readEntry(index, out)
	switch {
	case err == nil, errors.Is(err, raft.ErrLogNotFound):
		return err
	case cuts%2 != 0 || cuts != l.cuts.Load(), errors.Is(err, ErrTrimmed), errors.Is(err, io.EOF):
		return raft.ErrLogNotFound // truncated or unlinked under the reader, who was about to send it to a follower
	}
	return l.readFailed(fmt.Errorf("entry %d: %w", index, err))
}

func (l *Log) readEntry(index uint64, out *raft.Log) error {
	s, ok, err := l.index.find(index)
	if err != nil {
		return err
	}
	if !ok {
		return raft.ErrLogNotFound
	}
	b := make([]byte, s.end-s.off)
	if _, err := l.readRaw(b, s.off); err != nil {
		return fmt.Errorf("at offset %d: %w", s.off, err)
	}
	h, err := decodeFrameHeader(b)
	switch {
	case err != nil:
	case h.index != index || h.size() != int64(len(b)):
		err = fmt.Errorf("frame of entry %d with %d bytes lies there", h.index, h.size())
	case crc32.Checksum(b[frameHeaderBytes:], castagnoli) != h.bodyCRC:
		err = errors.New("record does not match its CRC")
	}
	if err != nil {
		return damaged(fmt.Errorf("at offset %d: %w", s.off, err))
	}
	*out = raft.Log{Index: h.index, Term: h.term, Type: raft.LogType(h.kind), Data: b[frameHeaderBytes:]}
	return nil
}

// header reads the frame header of one entry.
func (l *Log) header(index uint64) (frameHeader, error) {
	s, ok, err := l.index.find(index)
	if err != nil {
		return frameHeader{}, err
	}
	if !ok {
		return frameHeader{}, raft.ErrLogNotFound
	}
	var b [frameHeaderBytes]byte
	if _, err := l.readRaw(b[:], s.off); err != nil {
		return frameHeader{}, err
	}
	h, err := decodeFrameHeader(b[:])
	if err != nil {
		err = damaged(err)
	}
	return h, err
}

// readFailed ends the process on corruption; other failures to read are returned.
func (l *Log) readFailed(err error) error {
	if errors.Is(err, ErrCorrupt) {
		return l.storageFailed(err)
	}
	return err
}
