package raftlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"time"

	"github.com/hashicorp/raft"
)

// Kinds of frames on a Raft stream. An answer has the kind of its request with rpcAnswer added, or rpcFailed.
const (
	rpcAppendEntries   = 1
	rpcRequestVote     = 2
	rpcRequestPreVote  = 3
	rpcTimeoutNow      = 4
	rpcInstallSnapshot = 5
	rpcAnswer          = 0x40
	rpcFailed          = 0x7F // text of the error

	entryHeadBytes = 33
)

// Flags
const (
	flagSuccess   = 1 // answer to AppendEntries
	flagNoBackoff = 2
	flagTransfer  = 1 // RequestVote
	flagGranted   = 1 // answer to a vote
)

// peerResponse is an answer to one of Raft's requests, whichever it was.
type peerResponse struct {
	raft.RPCHeader
	term, lastLog uint64
	flags         byte
	peers         []byte
}

func putRPCHeader(b []byte, h *raft.RPCHeader) ([]byte, error) {
	if h.ProtocolVersion < 0 || h.ProtocolVersion > math.MaxUint8 || len(h.ID) > math.MaxUint16 || len(h.Addr) > math.MaxUint16 {
		return nil, errors.New("raftlog: the header of a Raft message does not fit")
	}
	b = append(b, byte(h.ProtocolVersion))
	return putBytes16(putBytes16(b, h.ID), h.Addr), nil
}

func (r *fieldReader) rpcHeader() raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersion(r.u8()), ID: r.bytes16(), Addr: r.bytes16()}
}

func flagIf(on bool, f byte) byte {
	if on {
		return f
	}
	return 0
}

// encodeRequest appends one of Raft's requests to b, but for the contents of entries, which entryBodies has, and for the deprecated
// fields of the sender's address, which the header has.
func encodeRequest(b []byte, msg any) (kind byte, out []byte, err error) {
	u64 := binary.BigEndian.AppendUint64
	switch m := msg.(type) {
	case *raft.AppendEntriesRequest:
		at := len(b)
		b = append(b, 0, 0, 0, 0)
		if b, err = putRPCHeader(b, &m.RPCHeader); err != nil {
			return 0, nil, err
		}
		b = u64(u64(u64(u64(b, m.Term), m.PrevLogEntry), m.PrevLogTerm), m.LeaderCommitIndex)
		b = binary.BigEndian.AppendUint32(b, uint32(len(m.Entries)))
		for _, e := range m.Entries {
			if b, err = putEntryHead(b, e); err != nil {
				return 0, nil, err
			}
		}
		binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
		return rpcAppendEntries, b, nil
	case *raft.RequestVoteRequest:
		b, err = putRPCHeader(b, &m.RPCHeader)
		b = u64(u64(u64(b, m.Term), m.LastLogIndex), m.LastLogTerm)
		return rpcRequestVote, append(b, flagIf(m.LeadershipTransfer, flagTransfer)), err
	case *raft.RequestPreVoteRequest:
		b, err = putRPCHeader(b, &m.RPCHeader)
		return rpcRequestPreVote, u64(u64(u64(b, m.Term), m.LastLogIndex), m.LastLogTerm), err
	case *raft.TimeoutNowRequest:
		b, err = putRPCHeader(b, &m.RPCHeader)
		return rpcTimeoutNow, b, err
	case *raft.InstallSnapshotRequest: // an offer: the snapshot itself does not go this way
		b, err = putRPCHeader(b, &m.RPCHeader)
		return rpcInstallSnapshot, u64(u64(u64(b, m.Term), m.LastLogIndex), m.LastLogTerm), err
	}
	return 0, nil, fmt.Errorf("raftlog: %T cannot be sent", msg)
}

func putEntryHead(b []byte, e *raft.Log) ([]byte, error) {
	if len(e.Data) > math.MaxInt32 || len(e.Extensions) > math.MaxInt32 {
		return nil, fmt.Errorf("raftlog: entry %d of %d bytes does not fit", e.Index, len(e.Data)+len(e.Extensions))
	}
	var at int64
	if !e.AppendedAt.IsZero() {
		at = e.AppendedAt.UnixNano()
	}
	b = binary.BigEndian.AppendUint64(b, e.Index)
	b = binary.BigEndian.AppendUint64(b, e.Term)
	b = binary.BigEndian.AppendUint64(b, uint64(at))
	b = append(b, byte(e.Type))
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.Data)))
	return binary.BigEndian.AppendUint32(b, uint32(len(e.Extensions))), nil
}

// entryBodies appends the contents of entries to bufs, in the order in which they follow the heads. It returns their bytes.
func entryBodies(bufs [][]byte, entries []*raft.Log) ([][]byte, int) {
	size := 0
	for _, e := range entries {
		for _, p := range [][]byte{e.Data, e.Extensions} {
			if len(p) > 0 {
				bufs = append(bufs, p)
				size += len(p)
			}
		}
	}
	return bufs, size
}

var errBadRPC = errors.New("a Raft message cannot be read")

// decodeRequest reads one of Raft's requests. What is variable in it aliases p.
func decodeRequest(kind byte, p []byte) (any, error) {
	r := fieldReader{b: p}
	if kind == rpcAppendEntries {
		meta := r.take(int(r.u32()))
		m, err := decodeAppendEntries(meta, func(n int) ([]byte, error) { return r.take(n), r.err() })
		if err == nil && len(r.b) != 0 {
			err = &badFrame{errBadRPC}
		}
		return m, err
	}
	head := r.rpcHeader()
	var msg any
	switch kind {
	case rpcRequestVote:
		m := &raft.RequestVoteRequest{RPCHeader: head, Term: r.u64(), LastLogIndex: r.u64(), LastLogTerm: r.u64()}
		m.LeadershipTransfer = r.u8()&flagTransfer != 0
		msg = m
	case rpcRequestPreVote:
		msg = &raft.RequestPreVoteRequest{RPCHeader: head, Term: r.u64(), LastLogIndex: r.u64(), LastLogTerm: r.u64()}
	case rpcTimeoutNow:
		msg = &raft.TimeoutNowRequest{RPCHeader: head}
	case rpcInstallSnapshot:
		msg = &raft.InstallSnapshotRequest{RPCHeader: head, Term: r.u64(), LastLogIndex: r.u64(), LastLogTerm: r.u64()}
	default:
		return nil, &badFrame{fmt.Errorf("no Raft request has kind %d", kind)}
	}
	if r.bad || len(r.b) != 0 {
		return nil, &badFrame{errBadRPC}
	}
	return msg, nil
}

// decodeAppendEntries reads an AppendEntries but for the contents of the entries, which it asks of body in their order.
func decodeAppendEntries(meta []byte, body func(size int) ([]byte, error)) (*raft.AppendEntriesRequest, error) {
	r := fieldReader{b: meta}
	m := &raft.AppendEntriesRequest{RPCHeader: r.rpcHeader()}
	m.Term, m.PrevLogEntry, m.PrevLogTerm, m.LeaderCommitIndex = r.u64(), r.u64(), r.u64(), r.u64()
	count := int(r.u32())
	if r.bad || len(r.b)%entryHeadBytes != 0 || count != len(r.b)/entryHeadBytes {
		return nil, &badFrame{errBadRPC}
	}
	if count == 0 {
		return m, nil
	}
	logs := make([]raft.Log, count)
	m.Entries = make([]*raft.Log, count)
	for i := range logs {
		e := &logs[i]
		e.Index, e.Term = r.u64(), r.u64()
		if at := int64(r.u64()); at != 0 {
			e.AppendedAt = time.Unix(0, at)
		}
		e.Type = raft.LogType(r.u8())
		data, extensions := int(r.u32()), int(r.u32())
		var err error
		if e.Data, err = body(data); err != nil {
			return nil, err
		}
		if extensions > 0 {
			if e.Extensions, err = body(extensions); err != nil {
				return nil, err
			}
		}
		m.Entries[i] = e
	}
	return m, nil
}

// readRequest reads the next of Raft's requests. The contents of entries in a large one are read each into memory of its own.
func (c *peerConn) readRequest() (any, error) {
	head, size, err := c.readHead(peerFrameTimeout)
	if err != nil {
		return nil, err
	}
	defer c.SetReadDeadline(time.Time{}) //nolint:errcheck // the next read fails if this does
	if head[8] != rpcAppendEntries || size <= c.wholeMax {
		p, err := c.readRest(head, size, true)
		if err != nil {
			return nil, err
		}
		return decodeRequest(head[8], p)
	}
	sum := crc32.Update(0, castagnoli, head[8:])
	left := size
	body := func(n int) ([]byte, error) {
		if n > left {
			return nil, &badFrame{errBadRPC}
		}
		left -= n
		p, err := c.readPayload(n, true)
		sum = crc32.Update(sum, castagnoli, p)
		return p, err
	}
	p, err := body(4)
	if err == nil {
		p, err = body(int(binary.BigEndian.Uint32(p)))
	}
	if err != nil {
		return nil, err
	}
	m, err := decodeAppendEntries(p, body)
	switch {
	case err != nil:
		return nil, err
	case left != 0:
		return nil, &badFrame{errBadRPC}
	}
	return m, checkSum(head, size, sum)
}

// encodeResponse appends an answer of Raft's to b.
func encodeResponse(b []byte, msg any) (kind byte, out []byte, err error) {
	var m peerResponse
	switch v := msg.(type) {
	case *raft.AppendEntriesResponse:
		kind = rpcAppendEntries
		m = peerResponse{v.RPCHeader, v.Term, v.LastLog, flagIf(v.Success, flagSuccess) | flagIf(v.NoRetryBackoff, flagNoBackoff), nil}
	case *raft.RequestVoteResponse:
		kind = rpcRequestVote
		m = peerResponse{v.RPCHeader, v.Term, 0, flagIf(v.Granted, flagGranted), v.Peers}
	case *raft.RequestPreVoteResponse:
		kind = rpcRequestPreVote
		m = peerResponse{v.RPCHeader, v.Term, 0, flagIf(v.Granted, flagGranted), nil}
	case *raft.TimeoutNowResponse:
		kind = rpcTimeoutNow
		m = peerResponse{RPCHeader: v.RPCHeader}
	default:
		return 0, nil, fmt.Errorf("raftlog: %T cannot be an answer", msg)
	}
	if b, err = putRPCHeader(b, &m.RPCHeader); err != nil || len(m.peers) > math.MaxUint16 {
		return 0, nil, errors.Join(err, errors.New("raftlog: an answer does not fit"))
	}
	b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, m.term), m.lastLog)
	return kind | rpcAnswer, putBytes16(append(b, m.flags), m.peers), nil
}

// decode reads any answer. It keeps memory that m has and holds the same bytes already.
func (m *peerResponse) decode(p []byte) error {
	r := fieldReader{b: p}
	head := r.rpcHeader()
	m.ProtocolVersion = head.ProtocolVersion
	if !bytes.Equal(m.ID, head.ID) {
		m.ID = bytes.Clone(head.ID)
	}
	if !bytes.Equal(m.Addr, head.Addr) {
		m.Addr = bytes.Clone(head.Addr)
	}
	m.term, m.lastLog, m.flags, m.peers = r.u64(), r.u64(), r.u8(), bytes.Clone(r.bytes16())
	if r.bad || len(r.b) != 0 {
		return &badFrame{errBadRPC}
	}
	return nil
}

// fill puts the answer where Raft wants it.
func (m *peerResponse) fill(resp any) error {
	switch v := resp.(type) {
	case *raft.AppendEntriesResponse:
		*v = raft.AppendEntriesResponse{RPCHeader: m.RPCHeader, Term: m.term, LastLog: m.lastLog,
			Success: m.flags&flagSuccess != 0, NoRetryBackoff: m.flags&flagNoBackoff != 0}
	case *raft.RequestVoteResponse:
		*v = raft.RequestVoteResponse{RPCHeader: m.RPCHeader, Term: m.term, Peers: m.peers, Granted: m.flags&flagGranted != 0}
	case *raft.RequestPreVoteResponse:
		*v = raft.RequestPreVoteResponse{RPCHeader: m.RPCHeader, Term: m.term, Granted: m.flags&flagGranted != 0}
	case *raft.TimeoutNowResponse:
		*v = raft.TimeoutNowResponse{RPCHeader: m.RPCHeader}
	default:
		return fmt.Errorf("raftlog: %T cannot be an answer", resp)
	}
	return nil
}

// isHeartbeat reports whether m is one of the requests that Raft sends to say that it is there, as opposed to an empty one that
// tells what is committed.
func isHeartbeat(m *raft.AppendEntriesRequest) bool {
	return m.Term != 0 && m.PrevLogEntry == 0 && m.PrevLogTerm == 0 && len(m.Entries) == 0 && m.LeaderCommitIndex == 0
}
