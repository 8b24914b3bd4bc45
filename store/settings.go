package store

import (
	"maps"
	"sync"
)

// settingTable is the group's replicated settings. Changed by Apply only.
type settingTable struct {
	mu    sync.RWMutex
	byKey map[string]string
}

func (t *settingTable) put(key, value string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if value == "" {
		delete(t.byKey, key)
	} else {
		t.byKey[key] = value
	}
}

func (t *settingTable) encode(e *encoder) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e.strings(t.byKey)
}

func (t *settingTable) decode(d *decoder) {
	if t.byKey = d.strings(); t.byKey == nil {
		t.byKey = make(map[string]string)
	}
}

// Config returns one replicated setting.
func (s *Store) Config(key string) (string, bool) {
	s.settings.mu.RLock()
	defer s.settings.mu.RUnlock()
	v, ok := s.settings.byKey[key]
	return v, ok
}

// Configs returns a copy of all replicated settings.
func (s *Store) Configs() map[string]string {
	s.settings.mu.RLock()
	defer s.settings.mu.RUnlock()
	return maps.Clone(s.settings.byKey)
}
