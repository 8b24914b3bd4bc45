package message

import (
	"encoding/binary"
	"fmt"
)

// NextItem splits the first item off a log record. A record is items back to back, each of which starts with its size
// (int32, header included) and its magic: MagicV1 and MagicV2 are messages, other magics belong to the packages that
// own them. item aliases record. Only the size is checked here; the error wraps ErrMalformed.
func NextItem(record []byte) (item, rest []byte, magic uint32, err error) {
	if len(record) < itemHeaderBytes {
		return nil, nil, 0, fmt.Errorf("item header of %d bytes, want %d: %w", len(record), itemHeaderBytes, ErrMalformed)
	}
	size := int64(binary.BigEndian.Uint32(record))
	if size < itemHeaderBytes || size > SizeMax || size > int64(len(record)) {
		return nil, nil, 0, fmt.Errorf("item size %d with %d bytes at hand: %w", size, len(record), ErrMalformed)
	}
	return record[:size:size], record[size:], binary.BigEndian.Uint32(record[posMagic:]), nil
}

// IsMessage reports whether an item with this magic is a stored message.
func IsMessage(magic uint32) bool { return magic == MagicV1 || magic == MagicV2 }
