package raftlog

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"time"
)

// Behind the handshake a stream is frames in both directions: length of the payload, CRC32C of kind and payload, kind, payload.
// PEERNET.md is the specification; every number is big-endian.
const (
	peerHeadBytes = 9

	peerFrameBytesMax = 64 << 20
	peerFrameSlack    = 64 << 10 // what a frame may hold beside FrameBytesMax of data
	peerGrowBytes     = 1 << 20  // memory taken on the mere word of a frame's length
	peerCopyBytes     = 16 << 10 // smaller frames are copied together rather than gathered by writev
	peerReadBuffer    = 64 << 10

	peerFrameTimeout = 30 * time.Second // for the rest of a frame that has begun
)

// peerConn is a connection behind its handshake. One goroutine at a time reads and one writes.
type peerConn struct {
	net.Conn
	id   string // the other side's ServerID
	addr string // what the other side listens on

	br       *bufio.Reader
	max      int    // largest payload that is read
	wholeMax int    // entries in a larger one are read one by one
	readBuf  []byte // payload of a frame that is not kept
	writeBuf []byte // head and small parts of the frame that is written
	gather   net.Buffers
	resp     peerResponse // what the last request was answered

	leaderTerm uint64 // newest term in which the entries of a leader came over it
}

func newPeerConn(c net.Conn, id, addr string, frameMax int) *peerConn {
	return &peerConn{Conn: c, id: id, addr: addr, br: bufio.NewReaderSize(c, peerReadBuffer), max: frameMax + peerFrameSlack, wholeMax: peerGrowBytes}
}

// beginFrame returns the connection's write buffer with room for a frame's head.
func (c *peerConn) beginFrame() []byte {
	if cap(c.writeBuf) < 512 {
		c.writeBuf = make([]byte, 0, 1024)
	}
	return c.writeBuf[:peerHeadBytes]
}

// writeFrame completes the frame that begins in b, from beginFrame, and goes on in bodies, and writes it. The bodies are not
// copied if they are large.
func (c *peerConn) writeFrame(kind byte, b []byte, bodies ...[]byte) error {
	c.writeBuf = b[:0]
	size, err := sealFrame(kind, b, bodies...)
	if err != nil {
		return err
	}
	if size <= peerCopyBytes {
		for _, body := range bodies {
			b = append(b, body...)
		}
		c.writeBuf = b[:0]
		_, err := c.Write(b)
		return err
	}
	c.gather = append(append(c.gather[:0], b), bodies...)
	return c.flushGather()
}

// flushGather writes what is in c.gather and forgets it.
func (c *peerConn) flushGather() error {
	all := c.gather
	rest := all // WriteTo moves the start of the slice
	_, err := rest.WriteTo(c.Conn)
	clear(all)
	c.gather = all[:0]
	return err
}

// sealFrame fills in the head of the frame that begins in head and goes on in bodies. It returns the bytes of the whole frame.
func sealFrame(kind byte, head []byte, bodies ...[]byte) (int, error) {
	size := len(head)
	for _, body := range bodies {
		size += len(body)
	}
	if int64(size-peerHeadBytes) > 1<<31 {
		return 0, fmt.Errorf("raftlog: frame of %d bytes", size)
	}
	head[8] = kind
	sum := crc32.Update(0, castagnoli, head[8:])
	for _, body := range bodies {
		sum = crc32.Update(sum, castagnoli, body)
	}
	binary.BigEndian.PutUint32(head[0:], uint32(size-peerHeadBytes))
	binary.BigEndian.PutUint32(head[4:], sum)
	return size, nil
}

// readHead waits for the head of the next frame. With a timeout set, the rest must arrive within it; the caller lifts the deadline.
func (c *peerConn) readHead(timeout time.Duration) (head [peerHeadBytes]byte, size int, err error) {
	if _, err := io.ReadFull(c.br, head[:]); err != nil {
		return head, 0, err
	}
	size = int(binary.BigEndian.Uint32(head[0:]))
	if size > c.max {
		return head, 0, &badFrame{fmt.Errorf("frame of %d bytes, the limit is %d", size, c.max)}
	}
	if timeout > 0 && size > c.br.Buffered() {
		err = c.SetReadDeadline(time.Now().Add(timeout))
	}
	return head, size, err
}

// readRest reads the payload behind a head. It is memory of its own if keep is set, and otherwise good until the next frame.
func (c *peerConn) readRest(head [peerHeadBytes]byte, size int, keep bool) ([]byte, error) {
	p, err := c.readPayload(size, keep)
	if err != nil {
		return nil, err
	}
	return p, checkSum(head, size, crc32.Update(crc32.Update(0, castagnoli, head[8:]), castagnoli, p))
}

func checkSum(head [peerHeadBytes]byte, size int, sum uint32) error {
	if sum != binary.BigEndian.Uint32(head[4:]) {
		return &badFrame{fmt.Errorf("frame of %d bytes does not match its CRC", size)}
	}
	return nil
}

// readFrame reads the next frame of a stream of calls, whose payload is memory of its own.
func (c *peerConn) readFrame() (kind byte, payload []byte, err error) {
	head, size, err := c.readHead(peerFrameTimeout)
	if err != nil {
		return 0, nil, err
	}
	if payload, err = c.readRest(head, size, true); err != nil {
		return 0, nil, err
	}
	return head[8], payload, c.SetReadDeadline(time.Time{})
}

// readPayload takes memory as bytes arrive, not as they are announced.
func (c *peerConn) readPayload(size int, keep bool) ([]byte, error) {
	if !keep && size <= cap(c.readBuf) {
		p := c.readBuf[:size]
		_, err := io.ReadFull(c.br, p)
		return p, noEOF(err)
	}
	p := make([]byte, min(size, peerGrowBytes))
	if !keep && len(p) == size && size <= peerReadBuffer {
		c.readBuf = p
	}
	for from := 0; ; {
		if _, err := io.ReadFull(c.br, p[from:]); err != nil {
			return nil, noEOF(err)
		}
		if from = len(p); from == size {
			return p, nil
		}
		longer := make([]byte, min(size, 2*len(p)))
		copy(longer, p)
		p = longer
	}
}

// noEOF tells an end within a frame from one between frames.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// badFrame is an error of the other side's bytes, not of the connection.
type badFrame struct{ err error }

func (e *badFrame) Error() string { return "raftlog: " + e.err.Error() }
func (e *badFrame) Unwrap() error { return e.err }

// field encoders and a reader that remembers its first failure

func putBytes16(b, s []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

type fieldReader struct {
	b   []byte
	bad bool
}

func (r *fieldReader) take(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad = true
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

func (r *fieldReader) u8() byte {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *fieldReader) u16() uint16 {
	if p := r.take(2); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

func (r *fieldReader) u32() uint32 {
	if p := r.take(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (r *fieldReader) u64() uint64 {
	if p := r.take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

func (r *fieldReader) err() error {
	if r.bad {
		return &badFrame{errBadRPC}
	}
	return nil
}

// bytes16 returns a run with a length before it, nil if it is empty. It aliases what is read.
func (r *fieldReader) bytes16() []byte {
	if p := r.take(int(r.u16())); len(p) > 0 {
		return p
	}
	return nil
}
