package raftlog

import (
	"fmt"

	"github.com/hashicorp/raft"
)

// configurationAt returns the last configuration among the entries behind after, up to and including upTo, and its index, which is
// 0 if there is none.
func (l *Log) configurationAt(after, upTo uint64) (conf []byte, index uint64, err error) {
	first, last := l.index.bounds()
	from, upTo := max(after+1, first), min(upTo, last)
	if first == 0 || from > upTo {
		return nil, 0, nil
	}
	s, ok, err := l.index.find(from)
	if err != nil || !ok {
		return nil, 0, fmt.Errorf("entry %d: %w", from, orEnd(err))
	}
	end, _, err := l.index.find(upTo)
	if err != nil {
		return nil, 0, fmt.Errorf("entry %d: %w", upTo, err)
	}
	err = l.frames(s.off, end.end, func(h *frameHeader, _ int64) error {
		if h.kind == uint8(raft.LogConfiguration) {
			index = h.index
		}
		return nil
	})
	if err != nil || index == 0 {
		return nil, 0, err
	}
	var e raft.Log
	if err := l.getLog(index, &e); err != nil {
		return nil, 0, err
	}
	return e.Data, index, nil
}

// lastConfiguration returns the last configuration in the log or in the newest snapshot and its index, 0 if there is none.
func (l *Log) lastConfiguration() (raft.Configuration, uint64, error) {
	var conf []byte
	var index, after uint64
	if m, ok := l.snapshots.newest(); ok {
		conf, index, after = m.Configuration, m.ConfigurationIndex, m.Index
	}
	_, last := l.index.bounds()
	b, i, err := l.configurationAt(after, last)
	if err != nil {
		return raft.Configuration{}, 0, err
	}
	if i > 0 {
		conf, index = b, i
	}
	if index == 0 {
		return raft.Configuration{}, 0, nil
	}
	c, err := decodeConfiguration(conf)
	return c, index, err
}

// ConfigurationIndex returns the index of the entry of the last configuration in the log; 0 before Start. Raft's own copy of the
// configuration comes without it.
func (l *Log) ConfigurationIndex() uint64 { return l.queue.configurationAt() }
