package raftlog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// The first bytes of a connection say who calls whom for what, and are answered by who is there or by why not.
const (
	peerMagic    = "RMQP"
	peerVersion  = 1
	peerHelloMax = 4096 // bytes behind the fixed part

	streamRaft  = 1 // Raft's requests and answers
	streamCalls = 2 // calls between replicas
	streamProbe = 3 // nothing: the caller wants to know who is there
)

// Why a connection is refused.
const (
	PeerWrongVersion  = 1 // of the protocol
	PeerWrongStream   = 2 // the kind of stream is not known
	PeerWrongCluster  = 3
	PeerWrongGroup    = 4
	PeerWrongServer   = 5 // another replica, or another incarnation of it, listens there
	PeerNotRunning    = 6 // Raft does not run there at present
	PeerMalformed     = 7
	PeerIsSelf        = 8 // caller and callee have the same ServerID
	peerAccepted      = 0
	peerRefusalsKnown = PeerIsSelf
)

// PeerRefusal is the error when another replica refused the handshake.
type PeerRefusal struct {
	Addr   string
	Code   uint8 // one of PeerWrongVersion to PeerIsSelf, or one that is not known
	Reason string
}

func (e *PeerRefusal) Error() string {
	return fmt.Sprintf("raftlog: %s refuses the connection: %s (%d)", e.Addr, e.Reason, e.Code)
}

var errNotPeer = errors.New("raftlog: the other side does not speak the protocol of the Raft port")

// peerHello is what the caller says.
type peerHello struct {
	stream  byte
	cluster string
	group   string
	from    string // ServerID of the caller
	addr    string // what the caller listens on
	target  string // ServerID that is expected, empty if any will do
}

func (h *peerHello) encode() ([]byte, error) {
	b := append([]byte(peerMagic), peerVersion, h.stream, 0, 0)
	for _, s := range []string{h.cluster, h.group, h.from, h.addr, h.target} {
		if len(s) > peerHelloMax {
			return nil, fmt.Errorf("raftlog: a name of %d bytes does not fit into a handshake", len(s))
		}
		b = putBytes16(b, []byte(s))
	}
	if len(b)-8 > peerHelloMax {
		return nil, fmt.Errorf("raftlog: names of %d bytes do not fit into a handshake", len(b)-8)
	}
	binary.BigEndian.PutUint16(b[6:], uint16(len(b)-8))
	return b, nil
}

// readPeerHead reads the fixed part of either side's words and what follows it.
func readPeerHead(r io.Reader) (version, code byte, rest []byte, err error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, 0, nil, err
	}
	size := int(binary.BigEndian.Uint16(head[6:]))
	if !bytes.Equal(head[:4], []byte(peerMagic)) || size > peerHelloMax {
		return 0, 0, nil, errNotPeer
	}
	rest = make([]byte, size)
	_, err = io.ReadFull(r, rest)
	return head[4], head[5], rest, noEOF(err)
}

// decode reads the names; the version is known by then.
func (h *peerHello) decode(rest []byte) bool {
	r := fieldReader{b: rest}
	for _, s := range []*string{&h.cluster, &h.group, &h.from, &h.addr, &h.target} {
		*s = string(r.bytes16())
	}
	return !r.bad && len(r.b) == 0 && h.from != ""
}

// encodeAnswer says who is there, or why not.
func encodeAnswer(code byte, serverID, reason string) []byte {
	b := append([]byte(peerMagic), peerVersion, code, 0, 0)
	b = putBytes16(b, []byte(serverID))
	b = putBytes16(b, []byte(reason))
	binary.BigEndian.PutUint16(b[6:], uint16(len(b)-8))
	return b
}

// dial connects to the replica at addr for one kind of stream. A target that is not empty must be the one that is there.
func (n *PeerNet) dial(ctx context.Context, addr string, stream byte, target string) (*peerConn, error) {
	ctx, cancel := context.WithTimeout(ctx, n.o.DialTimeout)
	defer cancel()
	d := net.Dialer{KeepAliveConfig: peerKeepAlive}
	raw, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) }) //nolint:errcheck // the connection may have ended by itself
	id, err := n.greet(raw, peerHello{stream, n.o.ClusterID, n.o.Group, n.ServerID(), n.o.Advertise, target}, addr)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("raftlog: handshake with %s: %w", addr, ctx.Err())
		}
		raw.Close() //nolint:errcheck // nothing was sent that could be lost
		return nil, err
	}
	n.stats.dialed.Add(1)
	return newPeerConn(raw, id, addr, n.o.FrameBytesMax), nil
}

// greet does the caller's part of the handshake and returns who answered.
func (n *PeerNet) greet(c net.Conn, hello peerHello, addr string) (string, error) {
	b, err := hello.encode()
	if err != nil {
		return "", err
	}
	if _, err := c.Write(b); err != nil {
		return "", err
	}
	_, code, rest, err := readPeerHead(c)
	if err != nil {
		return "", err
	}
	r := fieldReader{b: rest}
	id, reason := string(r.bytes16()), string(r.bytes16())
	switch {
	case r.bad:
		return "", errNotPeer
	case code != peerAccepted:
		return "", &PeerRefusal{addr, code, reason}
	}
	return id, nil
}

// receive does the callee's part of the handshake. The stream is 0 if the connection is to be closed.
func (n *PeerNet) receive(c net.Conn) (hello peerHello) {
	if err := c.SetDeadline(time.Now().Add(n.o.HandshakeTimeout)); err != nil {
		return peerHello{}
	}
	version, stream, rest, err := readPeerHead(c)
	if err != nil {
		n.stats.badHellos.Add(1)
		n.log.Debug("a connection to the Raft port did not say who it is", "remote", c.RemoteAddr(), "error", err)
		return peerHello{}
	}
	hello.stream = stream
	code, reason := n.judge(version, &hello, rest)
	serverID := n.ServerID()
	if code == PeerWrongVersion || code == PeerMalformed || code == PeerWrongCluster || code == PeerWrongGroup {
		serverID = "" // strangers learn nothing
	}
	_, err = c.Write(encodeAnswer(code, serverID, reason))
	if code != peerAccepted {
		n.stats.refusedHellos.Add(1)
		n.log.Info("a connection to the Raft port is refused", "remote", c.RemoteAddr(), "from", hello.from, "reason", reason)
		return peerHello{}
	}
	if err != nil || c.SetDeadline(time.Time{}) != nil {
		return peerHello{}
	}
	return hello
}

// judge decides on a handshake.
func (n *PeerNet) judge(version byte, h *peerHello, rest []byte) (code byte, reason string) {
	self := n.ServerID()
	switch {
	case version != peerVersion:
		return PeerWrongVersion, fmt.Sprintf("version %d of the protocol is spoken here, not %d", peerVersion, version)
	case !h.decode(rest):
		return PeerMalformed, "the handshake cannot be read"
	case h.cluster != n.o.ClusterID:
		return PeerWrongCluster, "this replica belongs to another cluster"
	case h.group != n.o.Group:
		return PeerWrongGroup, "this replica belongs to another group"
	case h.target != "" && h.target != self:
		return PeerWrongServer, fmt.Sprintf("this is replica %s, not %s", self, h.target)
	case h.from == self && h.stream != streamProbe:
		return PeerIsSelf, fmt.Sprintf("this is replica %s itself", self)
	case h.stream != streamRaft && h.stream != streamCalls && h.stream != streamProbe:
		return PeerWrongStream, fmt.Sprintf("streams of kind %d are not known here", h.stream)
	case h.stream == streamRaft && n.running() == nil:
		return PeerNotRunning, "Raft does not run here at present"
	}
	return peerAccepted, ""
}
