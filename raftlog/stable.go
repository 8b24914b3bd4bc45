package raftlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"sync"
)

// voteRecord is all that Raft asks to be stable: the term and the vote, in one record so that no crash can tear a vote (hazard H1)
// and under a CRC so that no flipped bit can change one (hazard H5).
type voteRecord struct {
	seq       uint64 // grows by one with every write
	node      [16]byte
	term      uint64
	voteTerm  uint64
	candidate []byte
}

const (
	voteRecordBytes  = 512
	voteCandidateMax = 400
	voteVersion      = 1
)

var voteMagic = [4]byte{'v', 'o', 't', 'e'}

func (v *voteRecord) encode() []byte {
	b := make([]byte, voteRecordBytes)
	copy(b, voteMagic[:])
	binary.BigEndian.PutUint16(b[4:], voteVersion)
	binary.BigEndian.PutUint16(b[6:], uint16(len(v.candidate)))
	binary.BigEndian.PutUint64(b[8:], v.seq)
	binary.BigEndian.PutUint64(b[16:], v.term)
	binary.BigEndian.PutUint64(b[24:], v.voteTerm)
	copy(b[32:48], v.node[:])
	copy(b[48:], v.candidate)
	binary.BigEndian.PutUint32(b[voteRecordBytes-4:], crc32.Checksum(b[:voteRecordBytes-4], castagnoli))
	return b
}

func decodeVoteRecord(b []byte) (voteRecord, error) {
	if len(b) != voteRecordBytes {
		return voteRecord{}, fmt.Errorf("vote record has %d bytes, not %d", len(b), voteRecordBytes)
	}
	if got, want := binary.BigEndian.Uint32(b[voteRecordBytes-4:]), crc32.Checksum(b[:voteRecordBytes-4], castagnoli); got != want {
		return voteRecord{}, fmt.Errorf("vote record CRC is %08x, computed %08x", got, want)
	}
	n := int(binary.BigEndian.Uint16(b[6:]))
	if [4]byte(b[:4]) != voteMagic || binary.BigEndian.Uint16(b[4:]) != voteVersion || n > voteCandidateMax {
		return voteRecord{}, fmt.Errorf("vote record begins with %x", b[:8])
	}
	v := voteRecord{
		seq:      binary.BigEndian.Uint64(b[8:]),
		term:     binary.BigEndian.Uint64(b[16:]),
		voteTerm: binary.BigEndian.Uint64(b[24:]),
	}
	copy(v.node[:], b[32:48])
	if v.voteTerm != 0 {
		v.candidate = bytes.Clone(b[48 : 48+n])
	}
	return v, nil
}

// recordStore keeps one record durably. load returns nil if there never was one.
type recordStore interface {
	load() ([]byte, error)
	save(record []byte, seq uint64) error
	Close() error
}

// stableStore is Raft's StableStore. The record lies in two places, written one after the other; a disagreement that a crash
// between the two writes cannot explain is refused at open.
type stableStore struct {
	failed func(error) error // reports a failed write; returns the error for Raft

	mu      sync.Mutex
	rec     voteRecord
	staged  uint64 // vote term that waits for its candidate
	primary recordStore
	copy    recordStore
}

var (
	keyTerm      = []byte("CurrentTerm")
	keyVoteTerm  = []byte("LastVoteTerm")
	keyCandidate = []byte("LastVoteCand")

	errNotFound = errors.New("not found") // raft compares the text
)

// openStable loads the record and checks it. node is the incarnation it must belong to.
func openStable(primary, second recordStore, node [16]byte, failed func(error) error) (*stableStore, error) {
	s := &stableStore{failed: failed, primary: primary, copy: second, rec: voteRecord{node: node}}
	a, errA := loadVote(primary)
	b, errB := loadVote(second)
	switch {
	case errA != nil:
		return nil, stableCorrupt(fmt.Errorf("first copy: %w", errA))
	case a == nil && b == nil && errB == nil:
		return s, nil
	case a == nil:
		return nil, stableCorrupt(errors.New("first copy of the vote record is gone"))
	case a.node != node:
		return nil, &Fault{ExitAmnesia, "NODE_AMNESIA", fmt.Errorf("vote record belongs to node %s", formatUUID(a.node))}
	case b == nil && a.seq > 1:
		return nil, stableCorrupt(fmt.Errorf("second copy of vote record %d is bad or gone: %w", a.seq, orEnd(errB)))
	case b != nil && b.seq == a.seq && !bytes.Equal(a.encode(), b.encode()):
		return nil, stableCorrupt(fmt.Errorf("copies of vote record %d differ", a.seq))
	case b != nil && b.seq != a.seq && b.seq+1 != a.seq:
		return nil, stableCorrupt(fmt.Errorf("copies of the vote record have numbers %d and %d", a.seq, b.seq))
	}
	s.rec = *a
	if b == nil || b.seq != a.seq {
		if err := second.save(a.encode(), a.seq); err != nil {
			return nil, fmt.Errorf("complete the second copy of the vote record: %w", err)
		}
	}
	return s, nil
}

func loadVote(r recordStore) (*voteRecord, error) {
	b, err := r.load()
	if err != nil || b == nil {
		return nil, err
	}
	v, err := decodeVoteRecord(b)
	if err != nil {
		return nil, err
	}
	return &v, nil
}

func stableCorrupt(err error) *Fault { return &Fault{ExitStableCorrupt, "STABLE_CORRUPT", err} }

// write makes rec durable in both places. s.mu is held.
func (s *stableStore) write(rec voteRecord) error {
	rec.seq++
	b := rec.encode()
	err := s.primary.save(b, rec.seq)
	if err == nil {
		err = s.copy.save(b, rec.seq)
	}
	if err != nil {
		return s.failed(fmt.Errorf("write vote record: %w", err))
	}
	s.rec = rec
	return nil
}

func (s *stableStore) SetUint64(key []byte, val uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case bytes.Equal(key, keyTerm):
		if val == s.rec.term {
			return nil
		}
		rec := s.rec
		rec.term = val
		return s.write(rec)
	case bytes.Equal(key, keyVoteTerm):
		s.staged = val // written together with the candidate, which raft sets next
		return nil
	}
	return fmt.Errorf("raftlog: stable key %q is unknown", key)
}

func (s *stableStore) GetUint64(key []byte) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	val := uint64(0)
	switch {
	case bytes.Equal(key, keyTerm):
		val = s.rec.term
	case bytes.Equal(key, keyVoteTerm):
		val = s.rec.voteTerm
	}
	if val == 0 {
		return 0, errNotFound
	}
	return val, nil
}

func (s *stableStore) Set(key, val []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !bytes.Equal(key, keyCandidate) || len(val) > voteCandidateMax {
		return fmt.Errorf("raftlog: stable key %q with %d bytes is unknown", key, len(val))
	}
	rec := s.rec
	rec.voteTerm, rec.candidate = s.staged, bytes.Clone(val)
	return s.write(rec)
}

func (s *stableStore) Get(key []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !bytes.Equal(key, keyCandidate) || s.rec.voteTerm == 0 {
		return nil, errNotFound
	}
	return bytes.Clone(s.rec.candidate), nil
}

// Close closes both places.
func (s *stableStore) Close() error {
	return errors.Join(s.primary.Close(), s.copy.Close())
}

const (
	voteFile      = "vote"   // second copy
	votePrimary   = "vote.1" // first copy where raft-boltdb cannot be hosted
	voteBolt      = "raft.db"
	slotBytes     = 4096 // distance of the two slots: a torn write hits one of them
	slotFileBytes = slotBytes + voteRecordBytes
)

// slotFile is a recordStore of two slots written in turn.
type slotFile struct {
	f File
	l *watchdog
}

// openSlotFile opens name, or creates it if create is set.
func openSlotFile(fsys FS, dir, name string, watch *watchdog) (*slotFile, error) {
	path := filepath.Join(dir, name)
	f, err := fsys.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = replaceFile(fsys, dir, path, make([]byte, slotFileBytes)); err == nil {
			f, err = fsys.Open(path)
		}
	}
	if err != nil {
		return nil, err
	}
	return &slotFile{f, watch}, nil
}

// load returns the valid record with the higher number; an error if neither slot is valid and something was there.
func (s *slotFile) load() ([]byte, error) {
	page := make([]byte, slotFileBytes)
	n, err := readFull(s.f, page, 0)
	if err != nil {
		return nil, err
	}
	if n != slotFileBytes {
		return nil, fmt.Errorf("vote file has %d of %d bytes", n, slotFileBytes)
	}
	a, errA := decodeVoteRecord(page[:voteRecordBytes])
	b, errB := decodeVoteRecord(page[slotBytes:])
	switch {
	case errA == nil && (errB != nil || a.seq > b.seq):
		return page[:voteRecordBytes], nil
	case errB == nil:
		return page[slotBytes:], nil
	case allZero(page):
		return nil, nil
	}
	return nil, errA
}

func (s *slotFile) save(record []byte, seq uint64) error {
	op := s.l.begin("write", voteFile)
	defer s.l.end(op)
	if _, err := s.f.WriteAt(record, int64(seq%2)*slotBytes); err != nil {
		return err
	}
	return s.f.Sync()
}

func (s *slotFile) Close() error { return s.f.Close() }
