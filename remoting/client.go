package remoting

import (
	"context"
	"crypto/tls"
	"log/slog"
	"time"

	"rmq/remoting/protocol"
)

// ClientOptions of NewClient. Zero values take the defaults.
type ClientOptions struct {
	Mux            *Mux // requests that the peer sends; nil: none
	Logger         *slog.Logger
	ConnectTimeout time.Duration // 3 s
	CallTimeout    time.Duration // 3 s, for contexts without a deadline
	IdleTimeout    time.Duration // 120 s
	TLSConfig      *tls.Config   // nil: plain
}

// Client keeps one shared connection per address, dialled when it is needed.
type Client struct{}

func NewClient(o ClientOptions) *Client { return &Client{} }

// Dial opens a connection of its own, beside the shared one.
func (c *Client) Dial(ctx context.Context, addr string) (*Conn, error) { return nil, errUnwritten }

func (c *Client) Call(ctx context.Context, addr string, cmd *protocol.Command) (*protocol.Command, error) {
	return nil, errUnwritten
}

// CallAsync: see Conn.CallAsync.
func (c *Client) CallAsync(addr string, cmd *protocol.Command, deadline time.Time, done func(*protocol.Command, error)) {
}

func (c *Client) Oneway(ctx context.Context, addr string, cmd *protocol.Command) error {
	return errUnwritten
}

// Close ends all connections, fails what is in flight with ErrClosed and waits.
func (c *Client) Close() error { return nil }
