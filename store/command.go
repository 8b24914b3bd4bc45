package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
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
func PutTopic(now int64, t TopicConfig) []byte { return putTopic(now, t, false) }

// CreateTopic is PutTopic that leaves a topic alone which exists when the command is applied: what is made in passing must
// not undo what somebody configured a moment before.
func CreateTopic(now int64, t TopicConfig) []byte { return putTopic(now, t, true) }

func putTopic(now int64, t TopicConfig, ifAbsent bool) []byte {
	e := newCommand(kindPutTopic)
	e.array(3)
	e.int(now)
	e.bool(ifAbsent)
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
func PutGroup(now int64, g GroupConfig) []byte { return putGroup(now, g, false) }

// CreateGroup is PutGroup that leaves a group alone which exists when the command is applied.
func CreateGroup(now int64, g GroupConfig) []byte { return putGroup(now, g, true) }

func putGroup(now int64, g GroupConfig, ifAbsent bool) []byte {
	e := newCommand(kindPutGroup)
	e.array(3)
	e.int(now)
	e.bool(ifAbsent)
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
