package protocol

import "errors"

// Caps that hold before anything is allocated.
const (
	MaxFrame  = 16 << 20  // bytes of a frame, its length word included
	MaxHeader = 128 << 10 // bytes of a frame's header
	MaxExt    = 256       // ext fields of a header
)

// AppendFrameHead appends everything of c's frame that comes before the body.
func AppendFrameHead(dst []byte, c *Command) ([]byte, error) {
	return dst, errors.New("protocol: AppendFrameHead is not written yet")
}

// DecodeFrame reads a frame (the bytes after its length word) into c.
func DecodeFrame(frame []byte, c *Command) error {
	return errors.New("protocol: DecodeFrame is not written yet")
}
