package store

import (
	"maps"
	"sync"
)

// TopicConfig describes a topic. Attributes is shared with the store and must not be changed.
type TopicConfig struct {
	Name        string
	ReadQueues  int32
	WriteQueues int32
	Perm        int32  // 4 read, 2 write, 1 inherit
	FilterType  string // "SINGLE_TAG", "MULTI_TAG"
	SysFlag     int32
	Order       bool
	Attributes  map[string]string
}

// Equal reports whether two configurations are the same.
func (t *TopicConfig) Equal(o *TopicConfig) bool {
	return t.Name == o.Name && t.ReadQueues == o.ReadQueues && t.WriteQueues == o.WriteQueues && t.Perm == o.Perm &&
		t.FilterType == o.FilterType && t.SysFlag == o.SysFlag && t.Order == o.Order && maps.Equal(t.Attributes, o.Attributes)
}

func (t *TopicConfig) encode(e *encoder) {
	e.array(8)
	e.str(t.Name)
	e.int(int64(t.ReadQueues))
	e.int(int64(t.WriteQueues))
	e.int(int64(t.Perm))
	e.str(t.FilterType)
	e.int(int64(t.SysFlag))
	e.bool(t.Order)
	e.strings(t.Attributes)
}

func decodeTopic(d *decoder) TopicConfig {
	d.fields(8)
	return TopicConfig{Name: d.str(), ReadQueues: d.int32(), WriteQueues: d.int32(), Perm: d.int32(), FilterType: d.str(),
		SysFlag: d.int32(), Order: d.bool(), Attributes: d.strings()}
}

// Version counts the changes of a table. Timestamp is the leader's clock at the last change, ms. StateVersion is left 0:
// it belongs to whoever knows the Raft term.
type Version struct {
	StateVersion int64
	Timestamp    int64
	Counter      int64
}

func (v *Version) bump(now int64) {
	v.Counter++
	v.Timestamp = now
}

func (v *Version) encode(e *encoder) {
	e.array(2)
	e.int(v.Timestamp)
	e.int(v.Counter)
}

func decodeVersion(d *decoder) Version {
	d.fields(2)
	return Version{Timestamp: d.int(), Counter: d.int()}
}

// topicTable is the topics' configurations. Changed by Apply only.
type topicTable struct {
	mu      sync.RWMutex
	byName  map[string]TopicConfig
	version Version
}

func (t *topicTable) put(now int64, c TopicConfig, ifAbsent bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old, ok := t.byName[c.Name]; ok && (ifAbsent || old.Equal(&c)) {
		return
	}
	t.byName[c.Name] = c
	t.version.bump(now)
}

func (t *topicTable) delete(now int64, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.byName[name]; ok {
		delete(t.byName, name)
		t.version.bump(now)
	}
}

func (t *topicTable) encode(e *encoder) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	t.version.encode(e)
	e.array(len(t.byName))
	for _, name := range sortedKeys(t.byName) {
		c := t.byName[name]
		c.encode(e)
	}
}

func (t *topicTable) decode(d *decoder) {
	t.version = decodeVersion(d)
	n := d.array()
	t.byName = make(map[string]TopicConfig, n)
	for range n {
		c := decodeTopic(d)
		t.byName[c.Name] = c
	}
}

// Topic returns one topic's configuration.
func (s *Store) Topic(name string) (TopicConfig, bool) {
	s.topics.mu.RLock()
	defer s.topics.mu.RUnlock()
	c, ok := s.topics.byName[name]
	return c, ok
}

// Topics returns all topics by name.
func (s *Store) Topics() []TopicConfig {
	s.topics.mu.RLock()
	defer s.topics.mu.RUnlock()
	out := make([]TopicConfig, 0, len(s.topics.byName))
	for _, name := range sortedKeys(s.topics.byName) {
		out = append(out, s.topics.byName[name])
	}
	return out
}

// TopicCount returns how many topics there are.
func (s *Store) TopicCount() int {
	s.topics.mu.RLock()
	defer s.topics.mu.RUnlock()
	return len(s.topics.byName)
}

// TopicsVersion returns how often the topics have changed.
func (s *Store) TopicsVersion() Version {
	s.topics.mu.RLock()
	defer s.topics.mu.RUnlock()
	return s.topics.version
}
