package raftlog

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/hashicorp/raft"
)

// FillPoint says what a replica is filled with: a snapshot, the raw bytes of the log from Min to End, and what is needed to check
// them and to continue behind them. It travels as JSON.
type FillPoint struct {
	SegmentBytes int64 `json:"segment_bytes"`

	// The snapshot: the state machine's checkpoint that is copied along with the bytes must reach Offset at least, and End at most.
	// Index is 0 if there is no snapshot; the log begins with entry 1 then.
	Index              uint64 `json:"index"`
	Term               uint64 `json:"term"`
	Configuration      []byte `json:"configuration"` // as Raft encodes it
	ConfigurationIndex uint64 `json:"configuration_index"`
	Offset             int64  `json:"offset"`

	// The log's beginning: its first offset, the first entry, and the frame before that.
	Min       int64  `json:"min"`
	First     uint64 `json:"first"`
	PrevEnd   int64  `json:"prev_end"`
	PrevTerm  uint64 `json:"prev_term"`
	PrevChain uint64 `json:"prev_chain"`

	// The last committed entry, where its frame ends, and the configuration as of it.
	End                   int64  `json:"end"`
	EndIndex              uint64 `json:"end_index"`
	EndTerm               uint64 `json:"end_term"`
	EndChain              uint64 `json:"end_chain"`
	EndConfiguration      []byte `json:"end_configuration"`
	EndConfigurationIndex uint64 `json:"end_configuration_index"`

	// Bare: no bytes are copied. The log that results begins behind EndIndex, with offsets and a segment size of its own.
	Bare bool `json:"bare,omitempty"`
}

// errNotYet: this leader has not committed an entry of its own term.
var errNotYet = errors.New("raftlog: nothing of this leader's term is committed yet")

// WithoutBytes returns the point for an arbiter, which takes over no bytes.
func (p FillPoint) WithoutBytes() FillPoint {
	p.Bare = true
	return p
}

// FillPoint describes what another replica is to be filled with. applied is how far the checkpoint reaches that is copied with it
// (math.MaxInt64 if there is none, for an arbiter): the snapshot is the newest that it covers. The order of calls is Lease,
// Snapshot, exporting the checkpoint, FillPoint, reading the bytes with ReadAt, release. Leader only, and only once it has committed
// an entry of its own term: so the point covers whatever the group has ever committed.
func (l *Log) FillPoint(applied int64) (FillPoint, error) {
	r := l.raft.Load()
	if r == nil {
		return FillPoint{}, ErrClosed
	}
	if r.State() != raft.Leader {
		return FillPoint{}, ErrNotLeader
	}
	commit, term := r.CommitIndex(), r.CurrentTerm()
	spot, ok, err := l.index.find(commit)
	if err != nil || !ok {
		return FillPoint{}, errors.Join(errNotYet, err)
	}
	last, err := l.header(commit)
	switch {
	case err != nil:
		return FillPoint{}, fmt.Errorf("raftlog: fill point: entry %d: %w", commit, err)
	case last.term != term:
		return FillPoint{}, errNotYet
	}
	segs := *l.segs.Load()
	first := &segs[0].segmentHead
	p := FillPoint{
		SegmentBytes: l.o.SegmentBytes,
		Min:          first.base, First: first.firstIndex, PrevEnd: first.prevEnd, PrevTerm: first.prevTerm, PrevChain: first.prevChain,
		End: spot.end, EndIndex: commit, EndTerm: last.term, EndChain: last.chain,
	}
	if m, ok := l.snapshots.upTo(min(applied, spot.end)); ok {
		p.Index, p.Term, p.Offset = m.Index, m.Term, m.Offset
		p.Configuration, p.ConfigurationIndex = m.Configuration, m.ConfigurationIndex
	}
	conf, index, err := l.configurationAt(p.Index, commit)
	if err != nil {
		return FillPoint{}, fmt.Errorf("raftlog: fill point: %w", err)
	}
	p.EndConfiguration, p.EndConfigurationIndex = p.Configuration, p.ConfigurationIndex
	if index > 0 {
		p.EndConfiguration, p.EndConfigurationIndex = conf, index
	}
	return p, p.check()
}

// check refuses what cannot have come from FillPoint.
func (p *FillPoint) check() error {
	size := p.SegmentBytes
	switch {
	case size < segmentBytesMin || size > segmentBytesMax || size%4096 != 0:
		return fmt.Errorf("raftlog: fill point: segments of %d bytes", size)
	case p.Min < 0 || p.Min%size != 0 || p.End < p.Min || p.End > math.MaxInt64/2 || p.PrevEnd < 0 || p.PrevEnd > p.Min:
		return fmt.Errorf("raftlog: fill point: bytes from %d to %d after %d", p.Min, p.End, p.PrevEnd)
	case p.First == 0 || p.EndIndex == 0 || p.EndIndex+1 < p.First || p.EndTerm < p.PrevTerm || p.EndTerm == 0:
		return fmt.Errorf("raftlog: fill point: entries from %d to %d of term %d", p.First, p.EndIndex, p.EndTerm)
	case p.Index > p.EndIndex || p.Index+1 < p.First || p.Term > p.EndTerm || p.Offset > p.End || p.Index > 0 && p.Offset < p.Min:
		return fmt.Errorf("raftlog: fill point: snapshot of entry %d at %d in a log from %d to %d", p.Index, p.Offset, p.First, p.EndIndex)
	case p.EndConfigurationIndex == 0 || p.EndConfigurationIndex > p.EndIndex || p.ConfigurationIndex > p.Index:
		return fmt.Errorf("raftlog: fill point: configuration of entry %d", p.EndConfigurationIndex)
	}
	for _, conf := range [][]byte{p.Configuration, p.EndConfiguration} {
		if _, err := decodeConfiguration(conf); err != nil && len(conf) > 0 {
			return err
		}
	}
	return nil
}

// decodeConfiguration is raft.DecodeConfiguration for bytes that came from elsewhere: that one panics.
func decodeConfiguration(b []byte) (conf raft.Configuration, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("raftlog: a configuration cannot be read: %v", v)
		}
	}()
	return raft.DecodeConfiguration(b), nil
}

// upTo returns the newest manifest of a snapshot that ends at or below offset.
func (s *snapshotStore) upTo(offset int64) (manifest, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.list, func(m manifest) bool { return m.Offset <= offset })
	if i < 0 {
		return manifest{}, false
	}
	return s.list[i], true
}
