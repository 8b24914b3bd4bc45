package controller

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"rmq/raftlog"
)

// Kind says what a call between two servers of a group is about. CALLS.md describes them all.
type Kind byte

// The kinds of calls.
const (
	CallHello     Kind = 1 // Hello, answered by Hello
	CallJoin      Kind = 2 // JoinRequest to the leader, answered by JoinAnswer
	CallReport    Kind = 3 // ReportRequest from the leader, answered by Report
	CallFillBegin Kind = 4 // FillRequest to the leader, answered by FillOffer
	CallFillRead  Kind = 5 // FillRead to the leader, answered by bytes
	CallFillEnd   Kind = 6 // FillEnd to the leader
	CallSettle    Kind = 7 // SettleRequest to the leader, answered by SettleAnswer
	CallElect     Kind = 8 // ElectRequest to the leader
	CallRemove    Kind = 9 // RemoveRequest to the leader
)

// Codes of answers. Every other one than CodeOK comes with a Refusal.
const (
	CodeOK        byte = 0
	CodeNotLeader byte = 1 // ask the leader, who is named if known
	CodeNotNow    byte = 2 // ask again
	CodeRefused   byte = 3 // asking again changes nothing
	CodeRemoved   byte = 4 // the replica was removed from the group: asking again changes nothing
)

// Refusal is an answer that says no.
type Refusal struct {
	Code   byte   `json:"-"`
	Text   string `json:"text"`
	Leader string `json:"leader,omitempty"` // address of the leader's Raft port, if it is known
}

func (r *Refusal) Error() string { return r.Text }

// refuse makes a Refusal.
func refuse(code byte, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Text: fmt.Sprintf(format, args...)}
}

// Message is a call or an answer: a kind or a code, a JSON text, and bytes behind it.
type Message struct {
	Head byte
	Body []byte // JSON
	Raw  []byte
}

const messageHeadBytes = 5

var errMessage = errors.New("controller: a call or an answer cannot be read")

// Encode returns the message's bytes: head u8, length of the body u32 big-endian, body, raw.
func (m Message) Encode() []byte {
	b := make([]byte, messageHeadBytes, messageHeadBytes+len(m.Body)+len(m.Raw))
	b[0] = m.Head
	binary.BigEndian.PutUint32(b[1:], uint32(len(m.Body)))
	return append(append(b, m.Body...), m.Raw...)
}

// DecodeMessage reads what Encode wrote. The result shares b.
func DecodeMessage(b []byte) (Message, error) {
	if len(b) < messageHeadBytes {
		return Message{}, errMessage
	}
	n := uint64(binary.BigEndian.Uint32(b[1:]))
	if n > uint64(len(b)-messageHeadBytes) {
		return Message{}, errMessage
	}
	body, raw := b[messageHeadBytes:messageHeadBytes+n], b[messageHeadBytes+n:]
	return Message{Head: b[0], Body: body, Raw: raw}, nil
}

// EncodeAnswer returns the bytes of an answer: v as JSON, or the refusal that err is.
func EncodeAnswer(v any, err error) []byte { return encodeAnswer(v, nil, err) }

func encodeAnswer(v any, raw []byte, err error) []byte {
	code := CodeOK
	if err != nil {
		var r *Refusal
		if !errors.As(err, &r) {
			r = refuse(CodeNotNow, "%v", err)
		}
		code, v, raw = r.Code, r, nil
	}
	body, err := json.Marshal(v)
	if err != nil { // cannot be: the types are words and numbers
		code, body, raw = CodeRefused, []byte(`{"text":"the answer cannot be encoded"}`), nil
	}
	return Message{Head: code, Body: body, Raw: raw}.Encode()
}

// Caller asks another server of the group at its Raft port. *raftlog.PeerNet is one.
type Caller interface {
	Call(ctx context.Context, addr string, request []byte) ([]byte, error)
}

// callTimeout bounds one question to another server.
const callTimeout = time.Second

// Ask calls the server at addr, for at most callTimeout if ctx has no earlier end, and decodes what it answers into answer, which
// may be nil. The error wraps a *Refusal if the other side said no.
func Ask(ctx context.Context, calls Caller, addr string, kind Kind, request, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := askRaw(ctx, calls, addr, kind, request, answer)
	return err
}

// askRaw is Ask with ctx's own end, and returns the bytes behind the answer.
func askRaw(ctx context.Context, calls Caller, addr string, kind Kind, request, answer any) ([]byte, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	b, err := calls.Call(ctx, addr, Message{Head: byte(kind), Body: body}.Encode())
	if err != nil {
		return nil, err
	}
	m, err := DecodeMessage(b)
	if err != nil {
		return nil, fmt.Errorf("%s answers call %d: %w", addr, kind, err)
	}
	if m.Head != CodeOK {
		r := &Refusal{Code: m.Head}
		if err := json.Unmarshal(m.Body, r); err != nil {
			return nil, fmt.Errorf("%s answers call %d: %w", addr, kind, err)
		}
		return nil, fmt.Errorf("%s: %w", addr, r)
	}
	if answer == nil {
		return m.Raw, nil
	}
	if err := json.Unmarshal(m.Body, answer); err != nil {
		return nil, fmt.Errorf("%s answers call %d: %w", addr, kind, err)
	}
	return m.Raw, nil
}

// Server is a server of the group's configuration.
type Server struct {
	ID      string `json:"id"`
	Address string `json:"address"`
	Voter   bool   `json:"voter"`
}

// Hello is what the replicas of a group tell each other of themselves.
type Hello struct {
	Number      int    `json:"number"`      // -1: the leader is to allocate one
	Incarnation string `json:"incarnation"` // of its directory
	Address     string `json:"address"`     // of its Raft port
	ClientAddr  string `json:"clientAddr"`  // where it answers clients
	// Members are the server ids of the group's configuration in this replica's log; none before the group is founded.
	Members []string `json:"members,omitempty"`
	Servers []Server `json:"servers,omitempty"` // likewise, with addresses

	// Of an answer only:
	Leader     string `json:"leader,omitempty"`     // server id of the leader that this one knows of
	LeaderAddr string `json:"leaderAddr,omitempty"` // its Raft port
	Leads      bool   `json:"leads,omitempty"`      // this one leads, and has applied all that was committed before
	Pending    bool   `json:"pending,omitempty"`    // Members are not committed yet
	Arbiter    bool   `json:"arbiter,omitempty"`    // this one is an arbiter; it has no number
	Muted      bool   `json:"muted,omitempty"`      // takes no part in elections
	Settled    bool   `json:"settled,omitempty"`    // was muted, and is no longer because all others were too
	Term       uint64 `json:"term,omitempty"`
	LastIndex  uint64 `json:"lastIndex,omitempty"`
	LastTerm   uint64 `json:"lastTerm,omitempty"`
}

// JoinRequest asks the leader to have this replica in the group.
type JoinRequest struct {
	Hello
	Async     bool   `json:"async"`     // asyncLearner: never to become a voter
	State     bool   `json:"state"`     // its directory holds a log of this group
	Running   bool   `json:"running"`   // its Raft runs
	LastIndex uint64 `json:"lastIndex"` // of its log
}

// What a JoinAnswer tells the replica to do.
const (
	JoinFill   = "fill"   // fill the directory, then ask again
	JoinStart  = "start"  // start Raft, then ask again
	JoinWait   = "wait"   // ask again soon
	JoinMember = "member" // it is a member, at this address
)

// JoinAnswer is the leader's.
type JoinAnswer struct {
	Do       string `json:"do"`
	Number   int    `json:"number"` // the replica's, allocated if it had none
	ServerID string `json:"serverId"`
	Text     string `json:"text,omitempty"` // why it has to wait
}

// ReportRequest asks a server where it stands.
type ReportRequest struct {
	Leader     string `json:"leader"` // server id
	Term       uint64 `json:"term"`
	ClientAddr string `json:"clientAddr"` // where the leader answers clients
}

// Report says where a server stands.
type Report struct {
	Hello
	FirstIndex    uint64 `json:"firstIndex"`
	LastIndex     uint64 `json:"lastIndex"`
	DurableIndex  uint64 `json:"durableIndex"` // last entry known to be fsynced
	AppliedOffset int64  `json:"appliedOffset"`
	Async         bool   `json:"async,omitempty"`
	Priority      int    `json:"priority,omitempty"` // brokerElectionPriority: less is preferred, 0 is no wish
	Node          string `json:"node,omitempty"`     // the process
	NodeLeads     int    `json:"nodeLeads"`          // groups that the process leads
}

// FillRequest asks the leader what to fill a directory with. Asking again, by the same server and within fillIdle, returns the same
// offer.
type FillRequest struct {
	ServerID string `json:"serverId"`
	Anew     bool   `json:"anew"` // forget an earlier offer
}

// FillOffer says what a directory is filled with.
type FillOffer struct {
	Fill       string            `json:"fill"` // names the offer
	Point      raftlog.FillPoint `json:"point"`
	Applied    int64             `json:"applied"` // of the state's files
	Files      []FillFile        `json:"files"`
	ChunkBytes int               `json:"chunkBytes"` // most of one FillRead
}

// FillFile is a file of the state machine's checkpoint.
type FillFile struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

// FillRead asks for bytes of a file, or of the log if File is empty. Fewer may come, at least one.
type FillRead struct {
	Fill   string `json:"fill"`
	File   string `json:"file,omitempty"`
	Offset int64  `json:"offset"`
	Size   int    `json:"size"`
}

// FillEnd says that the directory is filled or that the attempt is given up.
type FillEnd struct {
	Fill string `json:"fill"`
	Done bool   `json:"done"`
}

// SettleRequest asks the leader whether a muted replica is complete.
type SettleRequest struct {
	ServerID string `json:"serverId"`
}

// SettleAnswer is given only by a leader that has committed in its term.
type SettleAnswer struct {
	Term      uint64 `json:"term"`
	LastIndex uint64 `json:"lastIndex"` // of the leader
	Match     uint64 `json:"match"`     // last entry that the replica is known to hold as the leader does
}

// ElectRequest asks the leader to hand the lead to a replica.
type ElectRequest struct {
	Number int `json:"number"`
}

// RemoveRequest asks the leader to take a replica out of the group.
type RemoveRequest struct {
	Number int  `json:"number"`
	Dead   bool `json:"dead,omitempty"` // only if it is not in contact
}

// ArbiterRequest asks a name server for an arbiter.
type ArbiterRequest struct {
	Cluster      string   `json:"cluster"`
	Group        string   `json:"group"`
	SegmentBytes int64    `json:"segmentBytes"`      // of the group
	Exclude      []string `json:"exclude,omitempty"` // server ids that do not answer any more
}

// ArbiterOffer names an arbiter that waits to be seeded at its Raft port.
type ArbiterOffer struct {
	ServerID string `json:"serverId"`
	Address  string `json:"address"`
}

// ArbiterSource finds arbiters for a leader. It asks name servers.
type ArbiterSource interface {
	Offer(ctx context.Context, r ArbiterRequest) (ArbiterOffer, error)
}
