package remoting

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
)

// TLSMode says what a server makes of the first byte of a connection.
type TLSMode uint8

// The three modes, named as in tls.properties.
const (
	TLSDisabled   TLSMode = iota // plain frames only
	TLSPermissive                // both
	TLSEnforcing                 // TLS only
)

var tlsModes = [...]string{TLSDisabled: "disabled", TLSPermissive: "permissive", TLSEnforcing: "enforcing"}

// String returns the mode's name.
func (m TLSMode) String() string {
	if int(m) < len(tlsModes) {
		return tlsModes[m]
	}
	return fmt.Sprintf("TLSMode(%d)", uint8(m))
}

// ParseTLSMode returns the mode of a name, in any case.
func ParseTLSMode(name string) (TLSMode, error) {
	for m, known := range tlsModes {
		if strings.EqualFold(name, known) {
			return TLSMode(m), nil
		}
	}
	return 0, fmt.Errorf("remoting: TLS mode is %q, want disabled, permissive or enforcing", name)
}

// tlsHandshake is the first byte of a TLS connection. A frame starts with 0 or 1: it is at most 16 MiB long.
const tlsHandshake = 0x16

var (
	errPlain     = errors.New("remoting: plain frame where TLS is enforced")
	errTLS       = errors.New("remoting: TLS is not served here")
	errHandshake = errors.New("remoting: TLS handshake failed")
)

// greet waits for the first bytes of c, tells TLS from plain frames and puts TLS under c if it is that.
func (s *Server) greet(c *Conn) error {
	if err := c.fill(); err != nil {
		return err
	}
	if c.in.p[c.in.start] != tlsHandshake {
		if s.mode == TLSEnforcing {
			return errPlain
		}
		return nil
	}
	if s.mode == TLSDisabled || s.tls == nil {
		return errTLS
	}
	received := append([]byte(nil), c.in.p[c.in.start:c.in.end]...)
	c.in.release()
	c.sock = nil
	return c.handshake(tls.Server(&prefixed{c.tcp, received}, s.tls))
}

// handshake makes t the stream of c. The watch goroutine ends it when it takes too long.
func (c *Conn) handshake(t *tls.Conn) error {
	c.waits.Store(waitsForFirst)
	defer c.waits.Store(waitsForNothing)
	if err := t.HandshakeContext(context.Background()); err != nil {
		return fmt.Errorf("%w: %w", errHandshake, err)
	}
	c.nc = t
	return nil
}

// prefixed is a connection some bytes of which were read already.
type prefixed struct {
	net.Conn
	received []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.received) == 0 {
		return p.Conn.Read(b)
	}
	n := copy(b, p.received)
	p.received = p.received[n:]
	return n, nil
}

var _ io.Reader = (*prefixed)(nil)
