package remoting

import (
	"encoding/binary"
	"errors"
	"fmt"

	"rmq/remoting/protocol"
)

// scratchSize is what a connection reads into while bytes flow. Between bursts it goes back to the pool.
const scratchSize = 64 << 10

var errBadFrame = errors.New("remoting: bad frame")

// reader holds received bytes and splits them into frames. It does no I/O. One goroutine at a time.
type reader struct {
	pool   *pool
	budget *budget

	buf        *buffer
	p          []byte // buf's whole capacity
	start, end int    // p[start:end] is received and not yet handed out
	charged    int64  // taken from budget for buf
}

// buffered returns the number of received bytes not yet handed out.
func (r *reader) buffered() int { return r.end - r.start }

// room is where the next bytes go. Not empty after prepare.
func (r *reader) room() []byte { return r.p[r.end:] }

// received says that n bytes were put into room.
func (r *reader) received(n int) { r.end += n }

// prepare makes room, in a buffer of at least size bytes. It grows fourfold when the buffer is full, which
// bounds memory to a multiple of what was received. Frames handed out before are invalid afterwards.
func (r *reader) prepare(size int) error {
	if r.start > 0 {
		r.end = copy(r.p, r.p[r.start:r.end])
		r.start = 0
	}
	if r.end == len(r.p) && r.end >= size {
		size = max(4*len(r.p), size)
		if whole := r.whole(); whole > 0 {
			size = min(size, whole)
		}
	}
	if len(r.p) >= size {
		return nil
	}
	return r.resize(size)
}

// relax gives memory back before a wait: all of it when nothing is buffered, most of it when little is.
func (r *reader) relax() {
	n := r.buffered()
	switch {
	case n == 0:
		r.release()
	case len(r.p) >= 4*max(n, bufferMin):
		_ = r.resize(n) // on an error the larger buffer stays, which is as good
	}
}

func (r *reader) resize(size int) error {
	var charge int64
	if size > scratchSize {
		charge = int64(size)
		if err := r.budget.take(charge); err != nil {
			return err
		}
	}
	buf := r.pool.get(size)
	p := buf.p[:cap(buf.p)]
	n := copy(p, r.p[r.start:r.end])
	r.release()
	r.buf, r.p, r.end, r.charged = buf, p, n, charge
	return nil
}

// release drops what is buffered and gives all memory back.
func (r *reader) release() {
	if r.buf != nil {
		r.pool.put(r.buf)
		r.budget.give(r.charged)
	}
	r.buf, r.p, r.start, r.end, r.charged = nil, nil, 0, 0, 0
}

// whole returns the size of the frame at start, length word included, or 0 while that is unknown.
func (r *reader) whole() int {
	if r.buffered() < 4 {
		return 0
	}
	return 4 + int(int32(binary.BigEndian.Uint32(r.p[r.start:])))
}

// next hands out the next whole frame without its length word, or nil if there is none yet. The frame is valid
// until prepare, relax or release. A frame that can never become good is refused from its first bytes on.
func (r *reader) next() ([]byte, error) {
	n, whole := r.buffered(), r.whole()
	if whole == 0 && n < 4 {
		return nil, nil
	}
	if whole < 8 || whole > protocol.MaxFrame {
		return nil, fmt.Errorf("%w: length %d", errBadFrame, whole-4)
	}
	if n >= 8 {
		if header := int(binary.BigEndian.Uint32(r.p[r.start+4:]) & 0xffffff); header > min(whole-8, protocol.MaxHeader) {
			return nil, fmt.Errorf("%w: header length %d in length %d", errBadFrame, header, whole-4)
		}
	}
	if n < whole {
		return nil, nil
	}
	frame := r.p[r.start+4 : r.start+whole : r.start+whole]
	r.start += whole
	return frame, nil
}

// hasNext reports whether another frame is whole.
func (r *reader) hasNext() bool {
	whole := r.whole()
	return whole >= 8 && r.buffered() >= whole
}
