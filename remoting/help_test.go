package remoting

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rmq/remoting/protocol"
)

// patience is how long a test waits for what must come; it only passes when the test fails.
const patience = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Codes of the handlers that tests register.
const (
	codeEcho  = 10 // answers with the request's fields and body
	codeHold  = 11 // handed to the test
	codePanic = 12
)

// fixture is a server, and the requests of codeHold it has admitted.
type fixture struct {
	*Server
	t     *testing.T
	mux   *Mux
	held  chan *Request
	class *Class // of codeHold
}

func newFixture(t *testing.T, change func(*ServerOptions, *fixture)) *fixture {
	t.Helper()
	f := &fixture{t: t, mux: NewMux(), held: make(chan *Request, 1<<12), class: &Class{Name: "hold", Limit: 1 << 12}}
	o := ServerOptions{Addrs: []string{"127.0.0.1:0"}, Mux: f.mux, Logger: slog.New(slog.NewTextHandler(logWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if change != nil {
		change(&o, f)
	}
	f.mux.Handle(codeEcho, &Class{Name: "echo", Limit: 1 << 12}, echo)
	f.mux.Handle(codeHold, f.class, func(r *Request) { f.held <- r.Detach() })
	f.mux.Handle(codePanic, &Class{Name: "panic", Limit: 1}, func(*Request) { panic("on purpose") })
	s, err := Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	f.Server = s
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // tests of a gentle end close by themselves
		_ = s.Close(ctx)
	})
	return f
}

type logWriter struct{ t *testing.T }

func (w logWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func echo(r *Request) {
	resp := protocol.NewResponse(r.Cmd, protocol.Success, "")
	resp.Ext = r.Cmd.Ext
	if len(r.Cmd.Body) <= copyMax {
		resp.Body = r.Cmd.Body
	} else {
		resp.Body = append([]byte(nil), r.Cmd.Body...)
	}
	r.Reply(resp)
}

func (f *fixture) addr() string { return f.Addrs()[0].String() }

// next returns the next request of codeHold.
func (f *fixture) next() *Request {
	f.t.Helper()
	return receive(f.t, f.held)
}

func receive[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for end := time.Now().Add(patience); !ok(); <-poll.C {
		if time.Now().After(end) {
			t.Fatal("never came true: ", what)
		}
	}
}

// wire is a peer that writes and reads bytes as it likes.
type wire struct {
	net.Conn
	t *testing.T
}

func (f *fixture) wire() *wire {
	f.t.Helper()
	nc, err := net.Dial("tcp", f.addr())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = nc.Close() })
	return &wire{nc, f.t}
}

func frame(t *testing.T, cmd *protocol.Command) []byte {
	t.Helper()
	p, err := protocol.AppendFrameHead(nil, cmd)
	if err != nil {
		t.Fatal(err)
	}
	return append(p, cmd.Body...)
}

func request(code, opaque int32, body string) *protocol.Command {
	cmd := protocol.NewRequest(code, nil)
	cmd.Opaque, cmd.Body = opaque, []byte(body)
	return cmd
}

func (w *wire) send(cmds ...*protocol.Command) {
	w.t.Helper()
	var p []byte
	for _, cmd := range cmds {
		p = append(p, frame(w.t, cmd)...)
	}
	w.write(p)
}

func (w *wire) write(p []byte) {
	w.t.Helper()
	if _, err := w.Write(p); err != nil {
		w.t.Fatal(err)
	}
}

func (w *wire) read() *protocol.Command {
	w.t.Helper()
	cmd, err := w.tryRead()
	if err != nil {
		w.t.Fatal(err)
	}
	return cmd
}

func (w *wire) tryRead() (*protocol.Command, error) {
	p, err := w.readFrame()
	if err != nil {
		return nil, err
	}
	cmd := new(protocol.Command)
	return cmd, protocol.DecodeFrame(p, cmd)
}

// readFrame returns the next frame without its length word.
func (w *wire) readFrame() ([]byte, error) {
	_ = w.SetReadDeadline(time.Now().Add(patience))
	var size [4]byte
	if _, err := io.ReadFull(w, size[:]); err != nil {
		return nil, err
	}
	p := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err := io.ReadFull(w, p)
	return p, err
}

// ended waits until the server has closed the connection and returns how.
func (w *wire) ended() error {
	w.t.Helper()
	for {
		_, err := w.tryRead()
		if err == nil {
			continue
		}
		if errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
			w.t.Fatal("the connection stays open")
		}
		return err
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// works checks that w still gets answers, and nothing else before.
func (w *wire) works() {
	w.t.Helper()
	const opaque = 1<<30 + 7
	w.send(request(codeEcho, opaque, "ping"))
	if resp := w.read(); resp.Opaque != opaque || string(resp.Body) != "ping" {
		w.t.Fatalf("got %+v, want the echo", resp)
	}
}

// client returns a Client that ends with the test.
func client(t *testing.T, o ClientOptions) *Client {
	c := NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// within returns a context that ends when patience does.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// counter counts calls of a release function.
type counter struct {
	mu sync.Mutex
	n  int
}

func (c *counter) release() {
	c.mu.Lock()
	c.n++
	c.mu.Unlock()
}

func (c *counter) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}
