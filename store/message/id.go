package message

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
)

const hexUpper = "0123456789ABCDEF"

// OffsetID returns the id by which a stored message can be found again: upper-case hex of the store host and the
// physical offset, 32 characters for IPv4, 56 for IPv6.
func OffsetID(storeHost netip.AddrPort, physicalOffset int64) string {
	var raw [hostBytesV6 + 8]byte
	b := binary.BigEndian.AppendUint64(appendHost(raw[:0], storeHost), uint64(physicalOffset))
	var out [2 * len(raw)]byte
	for i, c := range b {
		out[2*i], out[2*i+1] = hexUpper[c>>4], hexUpper[c&15]
	}
	return string(out[:2*len(b)])
}

// ParseOffsetID is the inverse of OffsetID; it takes hex digits of either case. The error wraps ErrMalformed.
func ParseOffsetID(id string) (storeHost netip.AddrPort, physicalOffset int64, err error) {
	hostLen := len(id)/2 - 8
	if len(id)%2 != 0 || hostLen != hostBytesV4 && hostLen != hostBytesV6 {
		return netip.AddrPort{}, 0, fmt.Errorf("message id of %d characters, want 32 or 56: %w", len(id), ErrMalformed)
	}
	var raw [hostBytesV6 + 8]byte
	b := raw[:len(id)/2]
	if _, err := hex.Decode(b, []byte(id)); err != nil {
		return netip.AddrPort{}, 0, fmt.Errorf("message id %q: %w", id, ErrMalformed)
	}
	if binary.BigEndian.Uint32(b[hostLen-4:]) > 65535 {
		return netip.AddrPort{}, 0, fmt.Errorf("message id %q has an impossible port: %w", id, ErrMalformed)
	}
	physicalOffset = int64(binary.BigEndian.Uint64(b[hostLen:]))
	if physicalOffset < 0 {
		return netip.AddrPort{}, 0, fmt.Errorf("message id %q has a negative offset: %w", id, ErrMalformed)
	}
	return readHost(b[:hostLen]), physicalOffset, nil
}
