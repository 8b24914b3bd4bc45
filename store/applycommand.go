package store

import (
	"fmt"
)

// applyCommand carries out one command. entry is the log position of the record it stands in.
func (s *Store) applyCommand(item []byte, entry int64) error {
	kind, payload, err := parseCommand(item)
	if err != nil {
		return err
	}
	d := newDecoder(payload)
	switch kind {
	case kindPutTopic:
		err = s.applyPutTopic(d)
	case kindDeleteTopic:
		err = s.applyDeleteTopic(d)
	case kindPutGroup:
		err = s.applyPutGroup(d)
	case kindDeleteGroup:
		err = s.applyDeleteGroup(d)
	case kindCommitOffsets:
		err = s.applyCommitOffsets(d)
	case kindResetOffsets:
		err = s.applyResetOffsets(d)
	case kindClearResets:
		err = s.applyClearResets(d)
	case kindFireTimers:
		err = s.applyFireTimers(d)
	case kindSetLocks:
		err = s.applySetLocks(d)
	case kindTrim:
		err = s.applyTrim(d, entry)
	case kindPutConfig:
		err = s.applyPutConfig(d)
	}
	if err != nil {
		return fmt.Errorf("command kind %d: %w: %w", kind, ErrBadCommand, err)
	}
	return nil
}

func (s *Store) applyPutTopic(d *decoder) error {
	d.fields(3)
	now, ifAbsent := d.int(), d.bool()
	t := decodeTopic(d)
	if err := d.finish(); err != nil {
		return err
	}
	s.topics.put(now, t, ifAbsent)
	return nil
}

// decodeDeleteTopic is also what Stamp needs to know of a deletion: the queues restart at its place in the log.
func decodeDeleteTopic(d *decoder) (now int64, name string, err error) {
	d.fields(2)
	now = d.int()
	name = d.str()
	return now, name, d.finish()
}

func (s *Store) applyDeleteTopic(d *decoder) error {
	now, name, err := decodeDeleteTopic(d)
	if err != nil {
		return err
	}
	s.topics.delete(now, name)
	s.queues.deleteTopic(name)
	s.offsets.deleteTopic(name)
	s.locks.deleteTopic(name)
	s.deleted = append(s.deleted, name)
	return nil
}

func (s *Store) applyPutGroup(d *decoder) error {
	d.fields(3)
	now, ifAbsent := d.int(), d.bool()
	g := decodeGroup(d)
	if err := d.finish(); err != nil {
		return err
	}
	s.groups.put(now, g, ifAbsent)
	return nil
}

func (s *Store) applyDeleteGroup(d *decoder) error {
	d.fields(3)
	now, name, clean := d.int(), d.str(), d.bool()
	if err := d.finish(); err != nil {
		return err
	}
	s.groups.delete(now, name)
	s.locks.deleteGroup(name)
	if clean {
		s.offsets.deleteGroup(name)
	}
	return nil
}

func (s *Store) applyCommitOffsets(d *decoder) error {
	commits := make([]OffsetCommit, d.records(5))
	for i := range commits {
		commits[i] = OffsetCommit{Group: d.str(), Topic: d.str(), Queue: d.int32(), Offset: d.int(), Epoch: d.int()}
	}
	if err := d.finish(); err != nil {
		return err
	}
	s.offsets.commit(commits)
	return nil
}

func (s *Store) applyResetOffsets(d *decoder) error {
	resets := make([]OffsetReset, d.records(4))
	for i := range resets {
		resets[i] = OffsetReset{Group: d.str(), Topic: d.str(), Queue: d.int32(), Target: d.int()}
	}
	if err := d.finish(); err != nil {
		return err
	}
	s.offsets.reset(resets)
	return nil
}

func (s *Store) applyClearResets(d *decoder) error {
	clears := make([]ResetClear, d.records(4))
	for i := range clears {
		clears[i] = ResetClear{Group: d.str(), Topic: d.str(), Queue: d.int32(), Epoch: d.int()}
	}
	if err := d.finish(); err != nil {
		return err
	}
	s.offsets.clearResets(clears)
	return nil
}

func (s *Store) applyFireTimers(d *decoder) error {
	offsets := make([]int64, d.array())
	for i := range offsets {
		offsets[i] = d.int()
	}
	if err := d.finish(); err != nil {
		return err
	}
	return s.timers.remove(offsets)
}

func (s *Store) applySetLocks(d *decoder) error {
	changes := make([]LockChange, d.records(4))
	for i := range changes {
		changes[i] = LockChange{Group: d.str(), Topic: d.str(), Queue: d.int32(), Owner: d.str()}
	}
	if err := d.finish(); err != nil {
		return err
	}
	s.locks.set(changes)
	return nil
}

func (s *Store) applyTrim(d *decoder, entry int64) error {
	d.fields(1)
	offset := d.int()
	if err := d.finish(); err != nil {
		return err
	}
	offset = min(offset, entry)
	if oldest, ok := s.timers.oldest(); ok {
		offset = min(offset, oldest)
	}
	if offset > s.trim.Load() {
		s.trim.Store(offset)
		s.times.trim(offset)
	}
	return nil
}

func (s *Store) applyPutConfig(d *decoder) error {
	d.fields(2)
	key, value := d.str(), d.str()
	if err := d.finish(); err != nil {
		return err
	}
	s.settings.put(key, value)
	s.configChanged = true
	return nil
}
