package message

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// View is one stored message, read where it lies. Get one from ParseView: the accessors trust the bounds that
// ParseView checked and do not allocate. Slices they return alias the View.
type View []byte

// ParseView checks the first message in b in full and returns it; bytes behind it are ignored. The error wraps
// ErrMalformed. Checked are size, magic and that every field lies inside the message and fills it; the body's CRC is
// not, see View.BodyCRCValid.
func ParseView(b []byte) (View, error) {
	if len(b) < fixedBytesMin {
		return nil, fmt.Errorf("%d bytes are too few for a message: %w", len(b), ErrMalformed)
	}
	be := binary.BigEndian
	size := int64(be.Uint32(b))
	if size < fixedBytesMin || size > SizeMax || size > int64(len(b)) {
		return nil, fmt.Errorf("message size %d with %d bytes at hand: %w", size, len(b), ErrMalformed)
	}
	magic := be.Uint32(b[posMagic:])
	if magic != MagicV1 && magic != MagicV2 {
		return nil, fmt.Errorf("message magic %#08x: %w", magic, ErrMalformed)
	}
	b = b[:size:size]
	pos := posBodyLength(int32(be.Uint32(b[posSysFlag:])))
	if pos+4 > len(b) {
		return nil, fmt.Errorf("message of %d bytes ends before its body: %w", size, ErrMalformed)
	}
	bodyLen := int64(be.Uint32(b[pos:]))
	topicWord := 1
	if magic == MagicV2 {
		topicWord = 2
	}
	end := int64(pos) + 4 + bodyLen + int64(topicWord)
	if end > size {
		return nil, fmt.Errorf("body length %d in a message of %d bytes: %w", bodyLen, size, ErrMalformed)
	}
	topicLen := int64(b[end-1])
	if magic == MagicV2 {
		topicLen |= int64(b[end-2]) << 8
	}
	if magic == MagicV1 && topicLen > topicV1Max || topicLen > TopicBytesMax || end+topicLen+2 > size {
		return nil, fmt.Errorf("topic length %d in a message of %d bytes: %w", topicLen, size, ErrMalformed)
	}
	end += topicLen + 2
	propLen := int64(be.Uint16(b[end-2:]))
	if propLen > PropertyBytesMax || end+propLen != size {
		return nil, fmt.Errorf("property length %d in a message of %d bytes: %w", propLen, size, ErrMalformed)
	}
	return View(b), nil
}

// Size returns the message's length in bytes.
func (v View) Size() int { return len(v) }

// StoredSize returns the size word. It is for callers that hold the first bytes of a message only; a View of ParseView has
// exactly that length. Of such a beginning, everything up to the store timestamp may be read.
func (v View) StoredSize() int { return int(binary.BigEndian.Uint32(v)) }

// Magic returns MagicV1 or MagicV2.
func (v View) Magic() uint32 { return binary.BigEndian.Uint32(v[posMagic:]) }

// BodyCRC returns the stored checksum of the body.
func (v View) BodyCRC() uint32 { return binary.BigEndian.Uint32(v[posBodyCRC:]) }

// BodyCRCValid computes the body's checksum and compares it with the stored one.
func (v View) BodyCRCValid() bool { return v.BodyCRC() == BodyCRC(v.Body()) }

// QueueID returns the queue's number within its topic.
func (v View) QueueID() int32 { return int32(binary.BigEndian.Uint32(v[posQueueID:])) }

// Flag returns the application's flag.
func (v View) Flag() int32 { return int32(binary.BigEndian.Uint32(v[posFlag:])) }

// QueueOffset returns the position in the consume queue, or Blank.
func (v View) QueueOffset() int64 { return int64(binary.BigEndian.Uint64(v[posQueueOffset:])) }

// PhysicalOffset returns the byte position of the message in the log, or Blank.
func (v View) PhysicalOffset() int64 { return int64(binary.BigEndian.Uint64(v[posPhysicalOffset:])) }

// SysFlag returns the system flag.
func (v View) SysFlag() int32 { return int32(binary.BigEndian.Uint32(v[posSysFlag:])) }

// BornTimestamp returns the producer's clock at the send, ms.
func (v View) BornTimestamp() int64 { return int64(binary.BigEndian.Uint64(v[posBornTimestamp:])) }

// BornHost returns the producer's address.
func (v View) BornHost() netip.AddrPort {
	return readHost(v[posBornHost : posBornHost+hostBytes(v.SysFlag(), SysFlagBornHostV6)])
}

// StoreTimestamp returns the leader's clock at the append, ms.
func (v View) StoreTimestamp() int64 {
	return int64(binary.BigEndian.Uint64(v[posStoreTimestamp(v.SysFlag()):]))
}

// StoreHost returns the advertised address of the broker that accepted the message.
func (v View) StoreHost() netip.AddrPort {
	f := v.SysFlag()
	pos := posStoreHost(f)
	return readHost(v[pos : pos+hostBytes(f, SysFlagStoreHostV6)])
}

// ReconsumeTimes returns how often the message was handed back by consumers.
func (v View) ReconsumeTimes() int32 {
	return int32(binary.BigEndian.Uint32(v[posReconsumeTimes(v.SysFlag()):]))
}

// PreparedTransactionOffset returns the log offset of the half message that a committed message came from.
func (v View) PreparedTransactionOffset() int64 {
	return int64(binary.BigEndian.Uint64(v[posPrepared(v.SysFlag()):]))
}

func (v View) bodyBounds() (start, end int) {
	pos := posBodyLength(v.SysFlag())
	return pos + 4, pos + 4 + int(binary.BigEndian.Uint32(v[pos:]))
}

func (v View) topicBounds() (start, end int) {
	_, pos := v.bodyBounds()
	if v.Magic() == MagicV2 {
		return pos + 2, pos + 2 + int(binary.BigEndian.Uint16(v[pos:]))
	}
	return pos + 1, pos + 1 + int(v[pos])
}

// Body returns the body as stored, which may be compressed.
func (v View) Body() []byte {
	start, end := v.bodyBounds()
	return v[start:end:end]
}

// Topic returns the topic's bytes.
func (v View) Topic() []byte {
	start, end := v.topicBounds()
	return v[start:end:end]
}

// Properties returns the raw property string.
func (v View) Properties() Properties {
	_, end := v.topicBounds()
	return Properties(v[end+2:])
}

// SetQueueOffset writes the queue offset in place.
func (v View) SetQueueOffset(offset int64) {
	binary.BigEndian.PutUint64(v[posQueueOffset:], uint64(offset))
}

// SetPhysicalOffset writes the physical offset in place.
func (v View) SetPhysicalOffset(offset int64) {
	binary.BigEndian.PutUint64(v[posPhysicalOffset:], uint64(offset))
}

// SetStoreTimestamp writes the store timestamp in place.
func (v View) SetStoreTimestamp(ms int64) {
	binary.BigEndian.PutUint64(v[posStoreTimestamp(v.SysFlag()):], uint64(ms))
}

// Message returns a decoded copy that shares no memory with v. Offsets are not part of it: AppendTo of the copy gives
// v's bytes with both offsets Blank.
func (v View) Message() Message {
	return Message{
		Topic:                     string(v.Topic()),
		QueueID:                   v.QueueID(),
		Flag:                      v.Flag(),
		SysFlag:                   v.SysFlag(),
		BornTimestamp:             v.BornTimestamp(),
		BornHost:                  v.BornHost(),
		StoreTimestamp:            v.StoreTimestamp(),
		StoreHost:                 v.StoreHost(),
		ReconsumeTimes:            v.ReconsumeTimes(),
		PreparedTransactionOffset: v.PreparedTransactionOffset(),
		Body:                      append([]byte(nil), v.Body()...),
		Properties:                append([]byte(nil), v.Properties()...),
	}
}
