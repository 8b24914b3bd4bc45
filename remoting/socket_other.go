//go:build !linux

package remoting

import (
	"errors"
	"net"
)

// socket exists on Linux only; elsewhere every connection is read and written as a stream.
type socket struct{}

func newSocket(net.Conn, *reader) *socket { return nil }

func (*socket) fill() (int, error) { return 0, errors.ErrUnsupported }

func (*socket) write([][]byte, bool) (int, error) { return 0, errors.ErrUnsupported }
