package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Caps that hold before anything is allocated, in both directions.
const (
	MaxFrame  = 16 << 20  // bytes of a frame, its length word included
	MaxHeader = 128 << 10 // bytes of a frame's header
	MaxExt    = 256       // ext fields of a header
)

// What DecodeFrame and AppendFrameHead refuse. After one of these, or any other error of DecodeFrame, the
// connection has no use: nothing tells where the next frame starts.
var (
	ErrFrameSize  = errors.New("protocol: frame too short or too long")
	ErrHeaderSize = errors.New("protocol: header longer than its frame or its limit")
	ErrCodec      = errors.New("protocol: unknown header codec")
	ErrExtCount   = fmt.Errorf("protocol: more than %d ext fields", MaxExt)
)

// frameHead is the length word and the word of codec and header length.
const frameHead = 8

// AppendFrameHead appends everything of c's frame that comes before the body: the length word (which
// counts the body), the codec and header length, and the header. The caller writes c.Body after it. It
// allocates only when dst is too small. On an error dst is returned as it came.
func AppendFrameHead(dst []byte, c *Command) ([]byte, error) {
	if len(c.Ext) > MaxExt {
		return dst, ErrExtCount
	}
	start := len(dst)
	out := append(dst, 0, 0, 0, 0, byte(c.Codec), 0, 0, 0)
	switch c.Codec {
	case CodecJSON:
		out = appendJSONHeader(out, c)
	case CodecBinary:
		var err error
		if out, err = appendBinaryHeader(out, c); err != nil {
			return dst, err
		}
	default:
		return dst, ErrCodec
	}
	header := len(out) - start - frameHead
	if header > MaxHeader {
		return dst, ErrHeaderSize
	}
	if frameHead+header+len(c.Body) > MaxFrame {
		return dst, ErrFrameSize
	}
	binary.BigEndian.PutUint32(out[start:], uint32(4+header+len(c.Body)))
	binary.BigEndian.PutUint32(out[start+4:], uint32(c.Codec)<<24|uint32(header))
	return out, nil
}

// DecodeFrame reads a whole frame, given without its length word, into c, and sets every member of c. The
// capacity of c.Ext is used again. c.Body aliases frame; strings do not, but most of one header are parts
// of one copy of it, so strings.Clone what is to be kept for long. Absent and empty ext fields look alike.
// After an error c holds nothing of use.
func DecodeFrame(frame []byte, c *Command) error {
	if len(frame) < 4 || len(frame) > MaxFrame-4 {
		return ErrFrameSize
	}
	word := binary.BigEndian.Uint32(frame)
	size := int(word & 0xffffff)
	if size > MaxHeader || size > len(frame)-4 {
		return ErrHeaderSize
	}
	header := frame[4 : 4+size]
	*c = Command{Language: LanguageJava, Ext: c.Ext[:0], Codec: Codec(word >> 24)}
	var err error
	switch c.Codec {
	case CodecJSON:
		err = decodeJSONHeader(header, c)
	case CodecBinary:
		err = decodeBinaryHeader(header, c)
	default:
		err = ErrCodec
	}
	if err != nil {
		return err
	}
	if len(frame) > 4+size {
		c.Body = frame[4+size:]
	}
	return nil
}
