package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"sort"
)

// CommandMagic marks a record item that is a command of this package, in the place where messages have theirs.
const CommandMagic uint32 = 0x726D7143 // "rmqC"

// commandKind says what a command does. The numbers stand in the log: they are never reused.
type commandKind uint16

const (
	kindPutTopic      commandKind = 1
	kindDeleteTopic   commandKind = 2
	kindPutGroup      commandKind = 3
	kindDeleteGroup   commandKind = 4
	kindCommitOffsets commandKind = 5
	kindResetOffsets  commandKind = 6
	kindClearResets   commandKind = 7
	kindFireTimers    commandKind = 8
	kindSetLocks      commandKind = 9
	kindTrim          commandKind = 10
	kindPutConfig     commandKind = 11
	kindMax                       = kindPutConfig
)

// A command item: size u32, magic u32, kind u16, version u16, msgpack payload, CRC-32C u32 of all before it.
const (
	commandVersion     = 1
	commandHeaderBytes = 12
	commandBytesMin    = commandHeaderBytes + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// PutTopic creates a topic or replaces its configuration. now is the leader's clock, ms. A configuration equal to the
// present one changes nothing.
func PutTopic(now int64, t TopicConfig) []byte {
	e := newCommand(kindPutTopic)
	e.array(2)
	e.int(now)
	t.encode(e)
	return finishCommand(e)
}

// DeleteTopic removes a topic, its queues, and the offsets, reset marks and locks on them. Recreated, the topic starts at
// queue offset 0. now is the leader's clock, ms. Deleting what does not exist changes nothing.
func DeleteTopic(now int64, name string) []byte {
	e := newCommand(kindDeleteTopic)
	e.array(2)
	e.int(now)
	e.str(name)
	return finishCommand(e)
}

// PutGroup creates a consumer group or replaces its configuration. now is the leader's clock, ms. A configuration equal
// to the present one changes nothing.
func PutGroup(now int64, g GroupConfig) []byte {
	e := newCommand(kindPutGroup)
	e.array(2)
	e.int(now)
	g.encode(e)
	return finishCommand(e)
}

// DeleteGroup removes a group's configuration and locks, and with cleanOffsets also its offsets and reset marks. now is
// the leader's clock, ms.
func DeleteGroup(now int64, name string, cleanOffsets bool) []byte {
	e := newCommand(kindDeleteGroup)
	e.array(3)
	e.int(now)
	e.str(name)
	e.bool(cleanOffsets)
	return finishCommand(e)
}

// CommitOffsets stores consumer offsets, which may go backwards. The result must stay below message.SizeMax: split huge
// lists.
func CommitOffsets(commits []OffsetCommit) []byte {
	e := newCommand(kindCommitOffsets)
	e.array(5 * len(commits))
	for i := range commits {
		c := &commits[i]
		e.str(c.Group)
		e.str(c.Topic)
		e.int(int64(c.Queue))
		e.int(c.Offset)
		e.int(c.Epoch)
	}
	return finishCommand(e)
}

// ResetOffsets stores consumer offsets, bumps the epoch of each queue named and sets its reset mark.
func ResetOffsets(resets []OffsetReset) []byte {
	e := newCommand(kindResetOffsets)
	e.array(4 * len(resets))
	for i := range resets {
		r := &resets[i]
		e.str(r.Group)
		e.str(r.Topic)
		e.int(int64(r.Queue))
		e.int(r.Target)
	}
	return finishCommand(e)
}

// ClearResets takes reset marks away, each only if the queue's epoch is still the given one.
func ClearResets(clears []ResetClear) []byte {
	e := newCommand(kindClearResets)
	e.array(4 * len(clears))
	for i := range clears {
		c := &clears[i]
		e.str(c.Group)
		e.str(c.Topic)
		e.int(int64(c.Queue))
		e.int(c.Epoch)
	}
	return finishCommand(e)
}

// FireTimers removes parked messages, named by physical offset, from the pending set. Each must be pending: the leader
// reserves a timer from the proposal until it is applied or rejected, so a second firing is a bug and stops the store.
// The delivered copies are the message items of the same record.
func FireTimers(offsets []int64) []byte {
	e := newCommand(kindFireTimers)
	e.array(len(offsets))
	for _, o := range offsets {
		e.int(o)
	}
	return finishCommand(e)
}

// SetLocks changes queue lock owners.
func SetLocks(changes []LockChange) []byte {
	e := newCommand(kindSetLocks)
	e.array(4 * len(changes))
	for i := range changes {
		c := &changes[i]
		e.str(c.Group)
		e.str(c.Topic)
		e.int(int64(c.Queue))
		e.str(c.Owner)
	}
	return finishCommand(e)
}

// Trim raises the floor of the log to offset; messages below it are gone for readers at once. It never lowers it, never
// passes the command itself, and stops at the oldest parked message: re-append what TimersBelow lists first.
func Trim(offset int64) []byte {
	e := newCommand(kindTrim)
	e.array(1)
	e.int(offset)
	return finishCommand(e)
}

// PutConfig sets a replicated setting; an empty value deletes it.
func PutConfig(key, value string) []byte {
	e := newCommand(kindPutConfig)
	e.array(2)
	e.str(key)
	e.str(value)
	return finishCommand(e)
}

func newCommand(k commandKind) *encoder {
	e := newEncoder()
	var head [commandHeaderBytes]byte
	binary.BigEndian.PutUint32(head[4:], CommandMagic)
	binary.BigEndian.PutUint16(head[8:], uint16(k))
	binary.BigEndian.PutUint16(head[10:], commandVersion)
	e.buf.Write(head[:])
	return e
}

func finishCommand(e *encoder) []byte {
	b := e.bytes()
	binary.BigEndian.PutUint32(b, uint32(len(b)+4))
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// parseCommand checks a command item's frame and returns its kind and payload. The payload is not decoded yet.
func parseCommand(item []byte) (commandKind, []byte, error) {
	if len(item) < commandBytesMin {
		return 0, nil, fmt.Errorf("command of %d bytes: %w", len(item), ErrBadCommand)
	}
	body, sum := item[:len(item)-4], binary.BigEndian.Uint32(item[len(item)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return 0, nil, fmt.Errorf("command of %d bytes fails its checksum: %w", len(item), ErrBadCommand)
	}
	kind := commandKind(binary.BigEndian.Uint16(item[8:]))
	if v := binary.BigEndian.Uint16(item[10:]); v != commandVersion || kind == 0 || kind > kindMax {
		return 0, nil, fmt.Errorf("command kind %d version %d is not known to this release: %w", kind, v, ErrBadCommand)
	}
	return kind, body[commandHeaderBytes:], nil
}

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
	d.fields(2)
	now := d.int()
	t := decodeTopic(d)
	if err := d.finish(); err != nil {
		return err
	}
	s.topics.put(now, t)
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
	d.fields(2)
	now := d.int()
	g := decodeGroup(d)
	if err := d.finish(); err != nil {
		return err
	}
	s.groups.put(now, g)
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

// records reads the length of a flat array of records of width fields each.
func (d *decoder) records(width int) int {
	n := d.array()
	if d.err == nil && n%width != 0 {
		d.fail(fmt.Errorf("%d fields are not records of %d", n, width))
		return 0
	}
	return n / width
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
	return nil
}

// sortedKeys returns a map's keys in order. Whatever leaves the store or enters a digest goes through it, for a map's own
// order differs between replicas.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
