package raftlog

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"reflect"
	"runtime"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// sampleRequests has every field of every request set, and unset.
func sampleRequests() []any {
	head := raft.RPCHeader{ProtocolVersion: 3, ID: []byte("1-a"), Addr: []byte("host:1")}
	entries := []*raft.Log{
		{Index: 9, Term: 7, Type: raft.LogCommand, Data: []byte("first"), AppendedAt: time.Unix(1, 2)},
		{Index: 10, Term: 7, Type: raft.LogNoop, Data: []byte{}},
		{Index: 11, Term: 7, Type: raft.LogConfiguration, Data: bytes.Repeat([]byte("x"), 70_000), Extensions: []byte("more")},
	}
	return []any{
		&raft.AppendEntriesRequest{RPCHeader: head, Term: 7, PrevLogEntry: 8, PrevLogTerm: 6, Entries: entries, LeaderCommitIndex: 5},
		&raft.AppendEntriesRequest{RPCHeader: head, Term: 7},
		&raft.AppendEntriesRequest{},
		&raft.RequestVoteRequest{RPCHeader: head, Term: 7, LastLogIndex: 5, LastLogTerm: 4, LeadershipTransfer: true},
		&raft.RequestVoteRequest{},
		&raft.RequestPreVoteRequest{RPCHeader: head, Term: 7, LastLogIndex: 5, LastLogTerm: 4},
		&raft.TimeoutNowRequest{RPCHeader: head},
		&raft.InstallSnapshotRequest{RPCHeader: head, Term: 7, LastLogIndex: 5, LastLogTerm: 4},
	}
}

func sampleResponses() []any {
	head := raft.RPCHeader{ProtocolVersion: 3, ID: []byte("1-a"), Addr: []byte("host:1")}
	return []any{
		&raft.AppendEntriesResponse{RPCHeader: head, Term: 7, LastLog: 9, Success: true, NoRetryBackoff: true},
		&raft.AppendEntriesResponse{},
		&raft.RequestVoteResponse{RPCHeader: head, Term: 7, Peers: []byte("peers"), Granted: true},
		&raft.RequestPreVoteResponse{RPCHeader: head, Term: 7, Granted: true},
		&raft.TimeoutNowResponse{RPCHeader: head},
	}
}

// wireRequest encodes a request as one run of bytes.
func wireRequest(t testing.TB, msg any) (kind byte, payload []byte) {
	kind, b, err := encodeRequest(nil, msg)
	if err != nil {
		t.Fatal(err)
	}
	if m, ok := msg.(*raft.AppendEntriesRequest); ok {
		bodies, size := entryBodies(nil, m.Entries)
		before := len(b)
		for _, p := range bodies {
			b = append(b, p...)
		}
		if len(b)-before != size {
			t.Fatalf("%d bytes of entries, said to be %d", len(b)-before, size)
		}
	}
	return kind, b
}

// same compares messages, for which no bytes and zero bytes are one.
func same(a, b any) bool { return reflect.DeepEqual(normal(a), normal(b)) }

func normal(msg any) any {
	v := reflect.ValueOf(msg).Elem()
	out := reflect.New(v.Type())
	out.Elem().Set(v)
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		switch {
		case v.Kind() == reflect.Slice && v.Len() == 0:
			v.SetZero()
		case v.Type() == reflect.TypeFor[[]*raft.Log]():
			list := make([]*raft.Log, v.Len())
			for i := range list {
				e := *v.Index(i).Interface().(*raft.Log)
				if e.AppendedAt.IsZero() {
					e.AppendedAt = time.Time{}
				}
				walk(reflect.ValueOf(&e).Elem())
				list[i] = &e
			}
			v.Set(reflect.ValueOf(list))
		case v.Type() == reflect.TypeFor[time.Time]():
		case v.Kind() == reflect.Struct:
			for i := range v.NumField() {
				walk(v.Field(i))
			}
		}
	}
	walk(out.Elem())
	return out.Interface()
}

func TestRaftRPCRoundTrip(t *testing.T) {
	for _, msg := range sampleRequests() {
		kind, p := wireRequest(t, msg)
		got, err := decodeRequest(kind, p)
		if err != nil || !same(got, msg) {
			t.Errorf("%T: %+v, %v; expected %+v", msg, got, err, msg)
		}
		for i := range p { // every prefix is refused
			if i < 200 || i > len(p)-200 {
				if _, err := decodeRequest(kind, p[:i]); err == nil {
					t.Fatalf("%T: %d of %d bytes are taken", msg, i, len(p))
				}
			}
		}
		if _, err := decodeRequest(kind, append(p[:len(p):len(p)], 0)); err == nil {
			t.Fatalf("%T: a byte too many is taken", msg)
		}
	}
	for _, msg := range sampleResponses() {
		kind, p, err := encodeResponse(nil, msg)
		if err != nil {
			t.Fatal(err)
		}
		var r peerResponse
		got := reflect.New(reflect.TypeOf(msg).Elem()).Interface()
		if err := r.decode(p); err != nil {
			t.Fatal(err)
		}
		if err := r.fill(got); err != nil || !same(got, msg) || kind&rpcAnswer == 0 {
			t.Errorf("%T: %+v, %v; expected %+v", msg, got, err, msg)
		}
		for i := range p {
			if r.decode(p[:i]) == nil {
				t.Fatalf("%T: %d of %d bytes are taken", msg, i, len(p))
			}
		}
	}
}

// TestRaftRPCInParts reads requests whose entries do not fit into one piece of memory; cut or damaged anywhere, they are refused.
func TestRaftRPCInParts(t *testing.T) {
	for _, msg := range sampleRequests() {
		kind, p := wireRequest(t, msg)
		b := append(make([]byte, peerHeadBytes), p...)
		if _, err := sealFrame(kind, b); err != nil {
			t.Fatal(err)
		}
		got, err := streamOf(b, 0).readRequest()
		if err != nil || !same(got, msg) {
			t.Fatalf("%T: %+v, %v; expected %+v", msg, got, err, msg)
		}
		for i := range b {
			if i > 300 && i < len(b)-300 {
				continue
			}
			if _, err := streamOf(b[:i], 0).readRequest(); err == nil {
				t.Fatalf("%T: %d of %d bytes are taken", msg, i, len(b))
			}
			b[i] ^= 0x10
			if _, err := streamOf(b, 0).readRequest(); err == nil {
				t.Fatalf("%T: damage at byte %d is not seen", msg, i)
			}
			b[i] ^= 0x10
		}
	}
}

// FuzzRaftRPC feeds a stream to the frame reader and the decoders: what is taken encodes to the same bytes, nothing takes more
// memory than came in.
func FuzzRaftRPC(f *testing.F) {
	for _, msg := range sampleRequests() {
		kind, p := wireRequest(f, msg)
		b := append(make([]byte, peerHeadBytes), p...)
		if _, err := sealFrame(kind, b); err != nil {
			f.Fatal(err)
		}
		f.Add(b, byte(0))
		f.Add(p, kind)
	}
	for _, msg := range sampleResponses() {
		kind, p, err := encodeResponse(nil, msg)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p, kind)
	}
	f.Add([]byte("\xff\xff\xff\xff\x00\x00\x00\x00\x01"), byte(0))
	f.Fuzz(func(t *testing.T, b []byte, kind byte) {
		var msg any
		var err error
		if kind == 0 {
			if msg, err = streamOf(b, peerGrowBytes).readRequest(); err != nil {
				return
			}
			if split, err := streamOf(b, 0).readRequest(); err != nil || !same(split, msg) {
				t.Fatalf("in parts: %+v, %v; whole: %+v", split, err, msg)
			}
		} else if kind&rpcAnswer != 0 {
			fuzzResponse(t, b)
			return
		} else if msg, err = decodeRequest(kind, b); err != nil {
			return
		}
		again, p := wireRequest(t, msg)
		back, err := decodeRequest(again, p)
		if err != nil || !same(back, msg) {
			t.Fatalf("%+v became %+v, %v", msg, back, err)
		}
	})
}

// streamOf is the reading end of a connection over which b comes.
func streamOf(b []byte, wholeMax int) *peerConn {
	c := newPeerConn(readOnly{r: bytes.NewReader(b)}, "", "", 1<<20)
	c.wholeMax = wholeMax
	return c
}

func fuzzResponse(t *testing.T, b []byte) {
	var r peerResponse
	if r.decode(b) != nil {
		return
	}
	for _, msg := range sampleResponses() {
		first := reflect.New(reflect.TypeOf(msg).Elem()).Interface()
		second := reflect.New(reflect.TypeOf(msg).Elem()).Interface()
		if err := r.fill(first); err != nil {
			t.Fatal(err)
		}
		_, p, err := encodeResponse(nil, first)
		if err != nil {
			t.Fatal(err)
		}
		var back peerResponse
		if err := back.decode(p); err != nil {
			t.Fatal(err)
		}
		if err := back.fill(second); err != nil || !same(first, second) {
			t.Fatalf("%+v became %+v, %v", first, second, err)
		}
	}
}

// readOnly is a connection that has only something to read.
type readOnly struct {
	net.Conn
	r io.Reader
}

func (c readOnly) Read(p []byte) (int, error)        { return c.r.Read(p) }
func (c readOnly) SetReadDeadline(t time.Time) error { return nil }

// slowly hands out a few bytes at a time and counts them.
type slowly struct {
	r    io.Reader
	read int
}

func (s *slowly) Read(p []byte) (int, error) {
	n, err := s.r.Read(p[:min(len(p), 1000)])
	s.read += n
	return n, err
}

// TestPeerFrameMemory announces 64 MiB and sends little.
func TestPeerFrameMemory(t *testing.T) {
	b := make([]byte, peerHeadBytes+100_000)
	binary.BigEndian.PutUint32(b, peerFrameBytesMax)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c := newPeerConn(readOnly{r: &slowly{r: bytes.NewReader(b)}}, "", "", peerFrameBytesMax)
	if _, _, err := c.readFrame(); err != io.ErrUnexpectedEOF {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	allocated := after.TotalAlloc - before.TotalAlloc
	if allocated > 2*peerGrowBytes {
		t.Fatalf("%d bytes of memory for a frame of which %d came", allocated, len(b))
	}
}

// TestPeerFrameGrows reads a frame larger than what is taken at first, in small pieces.
func TestPeerFrameGrows(t *testing.T) {
	body := make([]byte, 5*peerGrowBytes+3)
	for i := range body {
		body[i] = byte(i * 7 >> 3)
	}
	head := make([]byte, peerHeadBytes)
	if _, err := sealFrame(rpcFailed, head, body); err != nil {
		t.Fatal(err)
	}
	c := newPeerConn(readOnly{r: &slowly{r: io.MultiReader(bytes.NewReader(head), bytes.NewReader(body))}}, "", "", peerFrameBytesMax)
	kind, p, err := c.readFrame()
	if err != nil || kind != rpcFailed || !bytes.Equal(p, body) {
		t.Fatalf("%d, %d bytes, %v", kind, len(p), err)
	}
}

// TestAppendEntriesShortened checks the limit of one request: Raft itself limits only the number of entries.
func TestAppendEntriesShortened(t *testing.T) {
	for _, test := range []struct {
		sizes []int
		left  int
	}{
		{nil, 0},
		{[]int{1, 2, 3}, 3},
		{[]int{appendBytesMax}, 1},
		{[]int{appendBytesMax, 0}, 2},
		{[]int{appendBytesMax, 1}, 1},
		{[]int{appendBytesMax + 1, 1}, 1},
		{[]int{1, appendBytesMax}, 1},
		{[]int{appendBytesMax / 2, appendBytesMax / 2, 1}, 2},
	} {
		m := &raft.AppendEntriesRequest{}
		for _, size := range test.sizes {
			m.Entries = append(m.Entries, &raft.Log{Data: make([]byte, size)})
		}
		shorten(m)
		if len(m.Entries) != test.left {
			t.Errorf("%d of entries of %v are left, expected %d", len(m.Entries), test.sizes, test.left)
		}
	}
}
