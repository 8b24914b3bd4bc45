package bench

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"
)

// A body starts with a mark and the time at which the message was meant to be sent, so that whoever consumes it on the
// same machine knows how long it was under way. Smaller bodies carry nothing but filling.
//
//	0  8  mark
//	8  8  Unix time in nanoseconds, big-endian
//	16 -  filling
const (
	bodyMark      = "rmqbench"
	bodyStampSize = 16
)

// fillBody makes a body of pseudo-random bytes: what cannot be compressed costs every broker the same.
func fillBody(size int, seed uint64) []byte {
	body := make([]byte, size)
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range body {
		body[i] = byte(rng.Uint32())
	}
	if size >= bodyStampSize {
		copy(body, bodyMark)
	}
	return body
}

// stampBody writes the intended send time into a body made by fillBody.
func stampBody(body []byte, at time.Time) {
	if len(body) >= bodyStampSize {
		binary.BigEndian.PutUint64(body[len(bodyMark):], uint64(at.UnixNano()))
	}
}

// bodyStamp reads the intended send time, ok is false for a body that has none.
func bodyStamp(body []byte) (unixNano int64, ok bool) {
	if len(body) < bodyStampSize || string(body[:len(bodyMark)]) != bodyMark {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(body[len(bodyMark):])), true
}

// uniqueKeys hands out UNIQ_KEY values of the shape that Java clients give them: 32 upper-case hex digits. Safe for
// concurrent use; no two of a process are equal.
type uniqueKeys struct {
	prefix string // address, process and loader in the Java form; random here
	next   atomic.Uint64
}

func newUniqueKeys(now time.Time) *uniqueKeys {
	var prefix [10]byte
	copy(prefix[:4], []byte{127, 0, 0, 1})
	binary.BigEndian.PutUint16(prefix[4:], uint16(rand.Uint32()))
	binary.BigEndian.PutUint32(prefix[6:], rand.Uint32())
	k := &uniqueKeys{prefix: strings.ToUpper(hex.EncodeToString(prefix[:]))}
	k.next.Store(uint64(now.UnixMilli()) << 16)
	return k
}

const upperHex = "0123456789ABCDEF"

// appendKey appends the next key.
func (k *uniqueKeys) appendKey(dst []byte) []byte {
	n := k.next.Add(1)
	dst = append(dst, k.prefix...)
	for shift := 44; shift >= 0; shift -= 4 {
		dst = append(dst, upperHex[n>>shift&0xf])
	}
	return dst
}

// Separators of a property string.
const (
	nameEnd     = '\x01'
	propertyEnd = '\x02'
)

// appendProperties appends the properties that the Java client gives every message, in its order and without a
// trailing separator: UNIQ_KEY, WAIT and TAGS when there is a tag.
func appendProperties(dst []byte, keys *uniqueKeys, tag string) []byte {
	dst = append(dst, "UNIQ_KEY"...)
	dst = append(dst, nameEnd)
	dst = keys.appendKey(dst)
	dst = append(dst, propertyEnd)
	dst = append(dst, "WAIT"...)
	dst = append(dst, nameEnd)
	dst = append(dst, "true"...)
	if tag != "" {
		dst = append(dst, propertyEnd)
		dst = append(dst, "TAGS"...)
		dst = append(dst, nameEnd)
		dst = append(dst, tag...)
	}
	return dst
}

// appendBatchItem appends one message of a batch body: total size, magic 0, CRC 0, flag 0, body, properties. The
// broker computes the CRC.
func appendBatchItem(dst, body, properties []byte) []byte {
	const fixed = 4 + 4 + 4 + 4 + 4 + 2
	dst = binary.BigEndian.AppendUint32(dst, uint32(fixed+len(body)+len(properties)))
	dst = append(dst, make([]byte, 12)...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(body)))
	dst = append(dst, body...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(properties)))
	return append(dst, properties...)
}
