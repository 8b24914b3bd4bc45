package remoting

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"time"
)

// TLSMode says what a server does with the first byte of a connection.
type TLSMode uint8

// The three modes.
const (
	TLSDisabled   TLSMode = iota // plain frames only
	TLSPermissive                // both, told apart by the first byte
	TLSEnforcing                 // TLS only
)

// ServerOptions of Listen. Zero values take the defaults.
type ServerOptions struct {
	Addrs  []string // host:port; port 0 takes a free one
	Mux    *Mux
	Logger *slog.Logger

	ConnsMax           int           // 20,000
	FirstFrameTimeout  time.Duration // 5 s
	FrameTimeout       time.Duration // 30 s
	IdleTimeout        time.Duration // 120 s
	WriteTimeout       time.Duration // 10 s
	OutboundBytesMax   int           // 32 MiB
	InflightPerConnMax int

	TLSConfig *tls.Config
	TLSMode   TLSMode
}

// Server accepts connections.
type Server struct{}

// ServerStats are counters since start.
type ServerStats struct {
	Conns int
}

func Listen(o ServerOptions) (*Server, error)     { return nil, errUnwritten }
func (s *Server) Addrs() []net.Addr               { return nil }
func (s *Server) Stats() ServerStats              { return ServerStats{} }
func (s *Server) Close(ctx context.Context) error { return errUnwritten }
