package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// binaryFixed is the part of a binary header before the remark's length: code 2, language 1, version 2,
// opaque 4, flag 4.
const binaryFixed = 13

// errBinaryHeader says that a length inside a binary header points outside it.
var errBinaryHeader = errors.New("protocol: binary header is cut off")

// appendBinaryHeader writes the ROCKETMQ form. A request code above 32767 loses its high bits, as in
// Java; decodeBinaryHeader gives them back.
func appendBinaryHeader(dst []byte, c *Command) ([]byte, error) {
	if !fitsInt16(c.Code) && (c.IsResponse() || wideRequestCode(int16(c.Code)) != c.Code) {
		return dst, fmt.Errorf("protocol: the binary codec cannot carry code %d", c.Code)
	}
	if !fitsInt16(c.Version) {
		return dst, fmt.Errorf("protocol: the binary codec cannot carry version %d", c.Version)
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(c.Code))
	dst = append(dst, byte(c.Language))
	dst = binary.BigEndian.AppendUint16(dst, uint16(c.Version))
	dst = binary.BigEndian.AppendUint32(dst, uint32(c.Opaque))
	dst = binary.BigEndian.AppendUint32(dst, uint32(c.Flag))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(c.Remark)))
	dst = append(dst, c.Remark...)
	extAt := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	for i := range c.Ext {
		key, value := c.Ext[i].Key, c.Ext[i].Value
		if len(key) > math.MaxInt16 {
			return dst, ErrHeaderSize
		}
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(key)))
		dst = append(dst, key...)
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(value)))
		dst = append(dst, value...)
	}
	binary.BigEndian.PutUint32(dst[extAt:], uint32(len(dst)-extAt-4))
	return dst, nil
}

// decodeBinaryHeader reads the ROCKETMQ form. Bytes after the ext fields are ignored, as in Java.
func decodeBinaryHeader(h []byte, c *Command) error {
	if len(h) < binaryFixed {
		return errBinaryHeader
	}
	code := int16(binary.BigEndian.Uint16(h))
	c.Language = languageByOrdinal(int64(h[2]))
	c.Version = int32(int16(binary.BigEndian.Uint16(h[3:])))
	c.Opaque = int32(binary.BigEndian.Uint32(h[5:]))
	c.Flag = int32(binary.BigEndian.Uint32(h[9:]))
	if c.IsResponse() {
		c.Code = int32(code)
	} else {
		c.Code = wideRequestCode(code)
	}
	text := string(h[binaryFixed:]) // one copy for all strings of the header
	remark, text, ok := cut32(text)
	if !ok {
		return errBinaryHeader
	}
	c.Remark = remark
	ext, _, ok := cut32(text)
	if !ok {
		return errBinaryHeader
	}
	for len(ext) > 0 {
		var f Field
		if f.Key, ext, ok = cut16(ext); !ok {
			return errBinaryHeader
		}
		if f.Value, ext, ok = cut32(ext); !ok {
			return errBinaryHeader
		}
		if len(c.Ext) == MaxExt {
			return ErrExtCount
		}
		c.Ext = append(c.Ext, f)
	}
	return nil
}

// cut32 takes a text with its length in four bytes before it off the start of s.
func cut32(s string) (text, rest string, ok bool) {
	if len(s) < 4 {
		return "", "", false
	}
	n := uint32(s[0])<<24 | uint32(s[1])<<16 | uint32(s[2])<<8 | uint32(s[3])
	if uint64(n) > uint64(len(s)-4) {
		return "", "", false
	}
	return s[4 : 4+n], s[4+n:], true
}

// cut16 is cut32 with a length of two bytes, which in Java has a sign.
func cut16(s string) (text, rest string, ok bool) {
	if len(s) < 2 {
		return "", "", false
	}
	n := int(s[0])<<8 | int(s[1])
	if n > math.MaxInt16 || n > len(s)-2 {
		return "", "", false
	}
	return s[2 : 2+n], s[2+n:], true
}

// fitsInt16 reports whether the binary codec can carry n.
func fitsInt16(n int32) bool { return n >= math.MinInt16 && n <= math.MaxInt16 }
