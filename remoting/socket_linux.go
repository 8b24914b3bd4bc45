package remoting

import (
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket reads and writes a TCP connection with plain system calls under the runtime's poller. Compared with
// net.Conn it can write without blocking, and wait for bytes without holding memory for them.
type socket struct {
	raw syscall.RawConn

	// Used by the read loop only.
	in       *reader
	n        int
	err      error
	readable func(fd uintptr) bool

	// Used by the holder of outbox.writing only.
	out      [][]byte
	wait     bool
	wrote    int
	failed   error
	writable func(fd uintptr) bool
}

// newSocket returns nil if nc is not a TCP connection; streams serve then.
func newSocket(nc net.Conn, in *reader) *socket {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	s := &socket{raw: raw, in: in}
	s.readable, s.writable = s.onReadable, s.onWritable
	return s
}

// fill waits until bytes have come, puts them into the reader and returns how many. io.EOF at the end.
func (s *socket) fill() (int, error) {
	if err := s.raw.Read(s.readable); err != nil {
		return 0, err
	}
	return s.n, s.err
}

// onReadable returns false to be called again when the socket is readable.
func (s *socket) onReadable(fd uintptr) bool {
	s.n = 0
	if s.err = s.in.prepare(scratchSize); s.err != nil {
		return true
	}
	for {
		n, err := unix.Read(int(fd), s.in.room())
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			s.in.relax()
			return false
		case err != nil:
			s.err = err
		case n == 0:
			s.err = io.EOF
		default:
			s.n = n
			s.in.received(n)
		}
		return true
	}
}

// write writes what the socket takes of p, and returns how many bytes that were. With
// wait it blocks until that is at least one byte.
func (s *socket) write(p [][]byte, wait bool) (int, error) {
	s.out, s.wait, s.wrote, s.failed = p, wait, 0, nil
	err := s.raw.Write(s.writable)
	s.out = nil
	if err != nil {
		return 0, err
	}
	return s.wrote, s.failed
}

func (s *socket) onWritable(fd uintptr) bool {
	for {
		var n int
		var err error
		if len(s.out) == 1 {
			n, err = unix.Write(int(fd), s.out[0])
		} else {
			n, err = unix.Writev(int(fd), s.out)
		}
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return !s.wait
		case err != nil:
			s.failed = err
		default:
			s.wrote = n
		}
		return true
	}
}
