package remoting

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"testing"
	"time"

	"rmq/remoting/protocol"
)

// keyPair returns configurations for a server on 127.0.0.1 and for clients that trust it.
func keyPair(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "test"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	trust := x509.NewCertPool()
	trust.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: trust}
}

func TestTLSModes(t *testing.T) {
	serverTLS, clientTLS := keyPair(t)
	for _, tc := range []struct {
		mode       TLSMode
		config     *tls.Config
		plain, tls bool
	}{
		{TLSDisabled, serverTLS, true, false},
		{TLSPermissive, serverTLS, true, true},
		{TLSPermissive, nil, true, false},
		{TLSEnforcing, serverTLS, false, true},
	} {
		f := newFixture(t, func(o *ServerOptions, _ *fixture) { o.TLSMode, o.TLSConfig = tc.mode, tc.config })
		for config, want := range map[*tls.Config]bool{nil: tc.plain, clientTLS: tc.tls} {
			c := client(t, ClientOptions{TLSConfig: config})
			_, err := c.Call(within(t), f.addr(), request(codeEcho, 0, "x"))
			if (err == nil) != want {
				t.Errorf("%v (key %v), client TLS %v: %v", tc.mode, tc.config != nil, config != nil, err)
			}
		}
	}
}

func TestTLSCarriesEverything(t *testing.T) {
	serverTLS, clientTLS := keyPair(t)
	f := newFixture(t, func(o *ServerOptions, _ *fixture) { o.TLSMode, o.TLSConfig = TLSEnforcing, serverTLS })
	pushed := make(chan string, 1)
	mux := NewMux()
	mux.Handle(40, &Class{Name: "push", Limit: 8}, func(r *Request) { pushed <- string(r.Cmd.Body); r.Done() })
	c := client(t, ClientOptions{TLSConfig: clientTLS, Mux: mux})
	conn, err := c.Dial(within(t), f.addr())
	if err != nil {
		t.Fatal(err)
	}
	answers := make(chan int, 100)
	for i := range 100 {
		conn.CallAsync(request(codeEcho, 0, string(make([]byte, i*100))), time.Time{}, func(resp *protocol.Command, err error) {
			if err != nil {
				t.Error(err)
				answers <- -1
				return
			}
			answers <- len(resp.Body)
		})
	}
	for i := range 100 {
		if n := receive(t, answers); n != i*100 {
			t.Fatalf("got %d bytes, want %d", n, i*100)
		}
	}
	body := bytes.Repeat([]byte("0123456789"), 200_000)
	go func() {
		_, _ = conn.Call(within(t), request(codeHold, 0, ""))
	}()
	r := f.next()
	if err := r.Conn.Push(request(40, 0, "note")); err != nil {
		t.Error(err)
	}
	if got := receive(t, pushed); got != "note" {
		t.Errorf("pushed %q", got)
	}
	r.Reply(&protocol.Command{})
	cmd := request(codeEcho, 0, "")
	cmd.Body = body
	if resp, err := conn.Call(within(t), cmd); err != nil || !bytes.Equal(resp.Body, body) {
		t.Errorf("a large body did not come back: %v", err)
	}
	conn.Close()
	receive(t, conn.Done())
	if err := f.Close(within(t)); err != nil {
		t.Error(err)
	}
}

func TestTLSHandshakeThatStalls(t *testing.T) {
	serverTLS, _ := keyPair(t)
	f := newFixture(t, func(o *ServerOptions, _ *fixture) {
		o.TLSMode, o.TLSConfig, o.FirstFrameTimeout = TLSPermissive, serverTLS, 20*time.Millisecond
	})
	w := f.wire()
	w.write([]byte{0x16, 3, 1})
	_ = w.ended()
	eventually(t, "it is counted", func() bool { return f.Stats().Conns == 0 })
	w = f.wire()
	w.write([]byte{0x16, 'n', 'o', ' ', 'T', 'L', 'S', 0, 0, 0, 0, 0})
	_ = w.ended()
}

func TestParseTLSMode(t *testing.T) {
	for _, mode := range []TLSMode{TLSDisabled, TLSPermissive, TLSEnforcing} {
		if got, err := ParseTLSMode(mode.String()); err != nil || got != mode {
			t.Errorf("%v: got %v, %v", mode, got, err)
		}
	}
	if got, err := ParseTLSMode("PERMISSIVE"); err != nil || got != TLSPermissive {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := ParseTLSMode("maybe"); err == nil {
		t.Error("no error")
	}
}
