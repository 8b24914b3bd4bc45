package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/raft"
)

// manifest is a snapshot on disk: where in the log the state machine's own checkpoint stands, and who was in the group then. It is
// published only after that checkpoint is durable.
type manifest struct {
	Version            int    `json:"version"`
	Index              uint64 `json:"index"`
	Term               uint64 `json:"term"`
	ConfigurationIndex uint64 `json:"configuration_index"`
	Configuration      []byte `json:"configuration"` // as raft encodes it
	Offset             int64  `json:"offset"`        // everything below is in the checkpoint
}

const (
	manifestSuffix  = ".snapshot"
	manifestVersion = 1
	manifestsKept   = 2
)

var errInstallRefused = errors.New("raftlog: a running replica does not install snapshots; it is to be filled again")

func (m *manifest) encode() ([]byte, error) { return encodeChecked(m) }

func decodeManifest(b []byte) (manifest, error) {
	var m manifest
	if err := decodeChecked(b, &m); err != nil {
		return m, fmt.Errorf("snapshot manifest: %w", err)
	}
	if m.Version != manifestVersion {
		return m, fmt.Errorf("snapshot manifest has version %d, this program knows %d", m.Version, manifestVersion)
	}
	return m, nil
}

func (m *manifest) meta() *raft.SnapshotMeta {
	return &raft.SnapshotMeta{
		Version:            1,
		ID:                 manifestName(m.Index),
		Index:              m.Index,
		Term:               m.Term,
		Configuration:      raft.DecodeConfiguration(m.Configuration),
		ConfigurationIndex: m.ConfigurationIndex,
	}
}

func manifestName(index uint64) string { return fmt.Sprintf("%020d%s", index, manifestSuffix) }

// snapshotStore keeps manifests. It is Raft's SnapshotStore.
type snapshotStore struct {
	l *Log

	mu   sync.Mutex
	list []manifest // newest first
}

// loadManifests reads the manifests in dir. A bad one is reported and left out; Start decides whether the log can do without.
func loadManifests(fsys FS, dir string, names []string) (list []manifest, bad []error) {
	for _, name := range slices.Backward(names) {
		if !strings.HasSuffix(name, manifestSuffix) {
			continue
		}
		b, err := readFile(fsys, filepath.Join(dir, name), 1<<20)
		if err == nil {
			var m manifest
			if m, err = decodeManifest(b); err == nil && manifestName(m.Index) != name {
				err = fmt.Errorf("manifest is of index %d", m.Index)
			}
			if err == nil {
				list = append(list, m)
				continue
			}
		}
		bad = append(bad, fmt.Errorf("%s: %w", name, err))
	}
	return list, bad
}

// Create begins a snapshot. Only one of this replica's own state can be finished: see manifestSink.
func (s *snapshotStore) Create(_ raft.SnapshotVersion, index, term uint64, conf raft.Configuration, confIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	return &manifestSink{store: s, m: manifest{
		Version: manifestVersion, Index: index, Term: term,
		Configuration: raft.EncodeConfiguration(conf), ConfigurationIndex: confIndex,
	}}, nil
}

func (s *snapshotStore) List() ([]*raft.SnapshotMeta, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	metas := make([]*raft.SnapshotMeta, len(s.list))
	for i := range s.list {
		metas[i] = s.list[i].meta()
	}
	return metas, nil
}

// Open returns the manifest of a snapshot; the state itself travels by other means. The reader is an *offer.
func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.list {
		if manifestName(s.list[i].Index) == id {
			b, err := s.list[i].encode()
			if err != nil {
				return nil, nil, err
			}
			meta := s.list[i].meta()
			meta.Size = int64(len(b))
			return meta, &offer{bytes.NewReader(b), s.l, meta}, nil
		}
	}
	return nil, nil, fmt.Errorf("raftlog: no snapshot %q", id)
}

// newest returns the newest manifest.
func (s *snapshotStore) newest() (manifest, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) == 0 {
		return manifest{}, false
	}
	return s.list[0], true
}

// forgetAhead leaves out the manifests of snapshots that the state has not reached, and returns the others.
func (s *snapshotStore) forgetAhead(applied int64) []manifest {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.list) > 0 && s.list[0].Offset > applied {
		m := &s.list[0]
		s.l.log.Warn("snapshot is ahead of the state, an older one is used", "index", m.Index, "offset", m.Offset, "applied", applied)
		s.list = s.list[1:]
	}
	return s.list
}

// publish makes a manifest durable and removes those it makes superfluous.
func (s *snapshotStore) publish(m manifest) error {
	b, err := m.encode()
	if err != nil {
		return err
	}
	dir := s.l.dir
	op := s.l.watch.begin("write snapshot in", dir)
	defer s.l.watch.end(op)
	if err := replaceFile(s.l.fs, dir, filepath.Join(dir, manifestName(m.Index)), b); err != nil {
		return fmt.Errorf("write snapshot manifest: %w", err)
	}
	s.mu.Lock()
	s.list = slices.DeleteFunc(s.list, func(o manifest) bool { return o.Index == m.Index })
	s.list = slices.Insert(s.list, 0, m)
	if len(s.list) > manifestsKept {
		s.list = s.list[:manifestsKept]
	}
	kept := make(map[string]bool)
	for i := range s.list {
		kept[manifestName(s.list[i].Index)] = true
	}
	s.mu.Unlock()
	names, err := s.l.fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, manifestSuffix) && !kept[name] {
			if err := removeIfThere(s.l.fs, filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return s.l.fs.SyncDir(dir)
}

// manifestSink is a snapshot in the making. Raft writes to a sink only what it receives from a leader, and that is refused;
// the replica's own snapshot arrives through captured.Persist, which sets offset.
type manifestSink struct {
	store  *snapshotStore
	m      manifest
	filled bool
}

func (s *manifestSink) ID() string                { return manifestName(s.m.Index) }
func (s *manifestSink) Write([]byte) (int, error) { return 0, errInstallRefused }
func (s *manifestSink) Cancel() error             { return nil }

func (s *manifestSink) Close() error {
	if !s.filled {
		return errInstallRefused
	}
	return s.store.publish(s.m)
}

// captured is the state machine's snapshot on its way to becoming a manifest.
type captured struct {
	l      *Log
	state  Snapshot
	offset int64
}

// Persist makes first the log and then the state durable: state must never be ahead of the log it came from.
func (c *captured) Persist(sink raft.SnapshotSink) error {
	s, ok := sink.(*manifestSink)
	if !ok {
		return fmt.Errorf("raftlog: snapshot sink is a %T", sink)
	}
	if err := c.l.flushBehind(); err != nil {
		return c.l.storageFailed(err)
	}
	if err := c.state.Persist(); err != nil {
		return err
	}
	s.m.Offset, s.filled = c.offset, true
	return nil
}

func (c *captured) Release() { c.state.Release() }

// runSnapshots takes a snapshot when enough has been applied since the last one, or on request, and unlinks what a lease held back.
func (l *Log) runSnapshots() {
	for {
		select {
		case <-l.stop:
			return
		case <-l.unlinkWanted:
			if err := l.unlinkBelow(); err != nil && l.poisoned() == nil {
				l.log.Error("segments not unlinked", "error", err)
			}
			continue
		case <-l.snapshotWanted:
		}
		if err := l.Snapshot(); err != nil && !errors.Is(err, raft.ErrRaftShutdown) {
			l.log.Error("snapshot failed", "error", err)
		}
	}
}

// Snapshot takes a snapshot now and unlinks what it makes superfluous. It waits until the snapshot is durable.
func (l *Log) Snapshot() error {
	r := l.raft.Load()
	if r == nil {
		return ErrClosed
	}
	l.snapshotting.Lock()
	defer l.snapshotting.Unlock()
	err := r.Snapshot().Error()
	switch {
	case errors.Is(err, raft.ErrNothingNewToSnapshot):
		return nil
	case err != nil:
		return fmt.Errorf("raftlog: take snapshot: %w", err)
	}
	l.stats.snapshots.Add(1)
	if m, ok := l.snapshots.newest(); ok {
		l.settled.Store(m.Offset)
	}
	return l.unlinkBelow()
}
