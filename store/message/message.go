package message

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
)

// Errors of encoding and decoding. Callers match them with errors.Is.
var (
	// ErrMalformed says that bytes are not a well-formed stored message or record item.
	ErrMalformed = errors.New("malformed message")
	// ErrTooLarge says that a message does not fit the stored form: a field exceeds its length word or its limit.
	ErrTooLarge = errors.New("message too large")
)

// Message is a message about to be stored, or a decoded copy of a stored one. Timestamps are milliseconds since the
// epoch. Invalid hosts are stored as 0.0.0.0:0.
type Message struct {
	Topic                     string
	QueueID                   int32
	Flag                      int32
	SysFlag                   int32
	BornTimestamp             int64
	BornHost                  netip.AddrPort
	StoreTimestamp            int64
	StoreHost                 netip.AddrPort
	ReconsumeTimes            int32
	PreparedTransactionOffset int64
	Body                      []byte
	Properties                []byte // raw property string, see Properties
}

// storedSysFlag is the system flag with the host bits made true to the hosts.
func (m *Message) storedSysFlag() int32 {
	f := m.SysFlag &^ (SysFlagBornHostV6 | SysFlagStoreHostV6)
	if isV6(m.BornHost) {
		f |= SysFlagBornHostV6
	}
	if isV6(m.StoreHost) {
		f |= SysFlagStoreHostV6
	}
	return f
}

// Size returns the number of bytes AppendTo will write. It does not check limits.
func (m *Message) Size() int {
	topicWord := 1
	if len(m.Topic) > topicV1Max {
		topicWord = 2
	}
	return posBodyLength(m.storedSysFlag()) + 4 + len(m.Body) + topicWord + len(m.Topic) + 2 + len(m.Properties)
}

// AppendTo appends the stored form of m to dst. Queue offset and physical offset are left Blank, for the log to fill.
// The body's CRC is computed here; the host bits of the system flag follow the hosts. On error dst is returned as it was
// and the error wraps ErrTooLarge.
func (m *Message) AppendTo(dst []byte) ([]byte, error) {
	if len(m.Topic) > TopicBytesMax {
		return dst, fmt.Errorf("topic of %d bytes, limit %d: %w", len(m.Topic), TopicBytesMax, ErrTooLarge)
	}
	if len(m.Properties) > PropertyBytesMax {
		return dst, fmt.Errorf("properties of %d bytes, limit %d: %w", len(m.Properties), PropertyBytesMax, ErrTooLarge)
	}
	size := m.Size()
	if size > SizeMax {
		return dst, fmt.Errorf("message of %d bytes, limit %d: %w", size, SizeMax, ErrTooLarge)
	}
	magic := MagicV1
	if len(m.Topic) > topicV1Max {
		magic = MagicV2
	}
	be := binary.BigEndian
	sysFlag := m.storedSysFlag()
	dst = be.AppendUint32(dst, uint32(size))
	dst = be.AppendUint32(dst, magic)
	dst = be.AppendUint32(dst, BodyCRC(m.Body))
	dst = be.AppendUint32(dst, uint32(m.QueueID))
	dst = be.AppendUint32(dst, uint32(m.Flag))
	dst = be.AppendUint64(dst, ^uint64(0))
	dst = be.AppendUint64(dst, ^uint64(0))
	dst = be.AppendUint32(dst, uint32(sysFlag))
	dst = be.AppendUint64(dst, uint64(m.BornTimestamp))
	dst = appendHost(dst, m.BornHost)
	dst = be.AppendUint64(dst, uint64(m.StoreTimestamp))
	dst = appendHost(dst, m.StoreHost)
	dst = be.AppendUint32(dst, uint32(m.ReconsumeTimes))
	dst = be.AppendUint64(dst, uint64(m.PreparedTransactionOffset))
	dst = be.AppendUint32(dst, uint32(len(m.Body)))
	dst = append(dst, m.Body...)
	if magic == MagicV2 {
		dst = be.AppendUint16(dst, uint16(len(m.Topic)))
	} else {
		dst = append(dst, byte(len(m.Topic)))
	}
	dst = append(dst, m.Topic...)
	dst = be.AppendUint16(dst, uint16(len(m.Properties)))
	return append(dst, m.Properties...), nil
}

// BodyCRC is the checksum a stored message carries of its body, compressed bodies taken as they are stored.
func BodyCRC(body []byte) uint32 { return crc32.ChecksumIEEE(body) & 0x7FFFFFFF }

// isV6 reports whether a host needs the 16-byte form. IPv4-mapped addresses are stored as IPv4.
func isV6(h netip.AddrPort) bool { return h.Addr().Unmap().Is6() }

func appendHost(dst []byte, h netip.AddrPort) []byte {
	switch a := h.Addr().Unmap(); {
	case a.Is6():
		b := a.As16()
		dst = append(dst, b[:]...)
	case a.Is4():
		b := a.As4()
		dst = append(dst, b[:]...)
	default:
		dst = append(dst, 0, 0, 0, 0)
	}
	return binary.BigEndian.AppendUint32(dst, uint32(h.Port()))
}

// readHost is the inverse of appendHost. Port bits above 16 are dropped.
func readHost(b []byte) netip.AddrPort {
	var a netip.Addr
	if len(b) == hostBytesV6 {
		a = netip.AddrFrom16([16]byte(b[:16]))
	} else {
		a = netip.AddrFrom4([4]byte(b[:4]))
	}
	return netip.AddrPortFrom(a, uint16(binary.BigEndian.Uint32(b[len(b)-4:])))
}
