package controller

import (
	"context"
	"strings"

	"rmq/raftlog"
)

// arbiterPrefix begins the ServerID of every arbiter.
const arbiterPrefix = "arbiter-"

// IsArbiter reports whether a server of a group's configuration is an arbiter: it votes and holds no data.
func IsArbiter(serverID string) bool { return strings.HasPrefix(serverID, arbiterPrefix) }

// The kinds of calls at an arbiter's Raft port, beside CallHello. Each is answered by ArbiterStatus.
const (
	CallArbiterSeed   Kind = 16 // ArbiterCall with Point
	CallArbiterDrop   Kind = 17 // ArbiterCall with Term and Below
	CallArbiterRemove Kind = 18 // ArbiterCall with Term
	CallArbiterStatus Kind = 19 // ArbiterCall
)

// ArbiterCall is a leader's call at an arbiter.
type ArbiterCall struct {
	ServerID string             `json:"serverId"` // of the arbiter that is meant
	Point    *raftlog.FillPoint `json:"point,omitempty"`
	Term     uint64             `json:"term,omitempty"` // of the leader
	Below    uint64             `json:"below,omitempty"`
}

// ArbiterStatus is where an arbiter stands.
type ArbiterStatus struct {
	Cluster  string `json:"cluster"`
	Group    string `json:"group"`
	ServerID string `json:"serverId"`
	// State is what the arbiter does: waits to be seeded, runs, has been elected and cannot complete a data replica so far and
	// therefore does not vote, or has given up.
	State     ArbiterState `json:"state"`
	Why       string       `json:"why,omitempty"`   // it has given up or does not vote
	Lacks     bool         `json:"lacks,omitempty"` // what it needs next, no leader's log holds any more: it is to be seeded again
	Term      uint64       `json:"term"`
	LastIndex uint64       `json:"lastIndex"` // durable: an arbiter syncs before it answers
	Bytes     int64        `json:"bytes"`     // that it keeps now
	BytesMax  int64        `json:"bytesMax"`  // at which it wants to be relieved
}

// ArbiterState is a word for what an arbiter does.
type ArbiterState string

// The states of an arbiter.
const (
	ArbiterEmpty   ArbiterState = "empty"   // waits to be seeded
	ArbiterRunning ArbiterState = "running" // a member as far as it knows
	ArbiterMuted   ArbiterState = "muted"   // runs and takes no part in elections
	ArbiterFailed  ArbiterState = "failed"  // its storage failed, or it kept far more than BytesMax: it does not run
)

// SeedArbiter lets an arbiter that was offered, or one that lacks what the leader's log no longer holds, begin behind p, which is
// then no longer needed: the leader keeps no lease. Afterwards the arbiter runs and can be added as a learner. An arbiter that runs
// and can be completed from the leader's log is left as it is. The error of this and the following wraps a *Refusal if the arbiter
// said no.
func SeedArbiter(ctx context.Context, calls Caller, addr, serverID string, p raftlog.FillPoint) error {
	p = p.WithoutBytes()
	_, err := callArbiter(ctx, calls, addr, CallArbiterSeed, ArbiterCall{ServerID: serverID, Point: &p})
	return err
}

// AskArbiter returns where an arbiter stands.
func AskArbiter(ctx context.Context, calls Caller, addr, serverID string) (ArbiterStatus, error) {
	return callArbiter(ctx, calls, addr, CallArbiterStatus, ArbiterCall{ServerID: serverID})
}

// DropArbiterBelow tells an arbiter that every data replica holds all entries below index durably. term is the leader's, in which it
// has committed an entry: an arbiter that follows a later leader refuses.
func DropArbiterBelow(ctx context.Context, calls Caller, addr, serverID string, term, index uint64) (ArbiterStatus, error) {
	return callArbiter(ctx, calls, addr, CallArbiterDrop, ArbiterCall{ServerID: serverID, Term: term, Below: index})
}

// RemoveArbiter ends an arbiter that is no longer in the group's committed configuration, and removes what it kept. It refuses if it
// follows a later leader than term.
func RemoveArbiter(ctx context.Context, calls Caller, addr, serverID string, term uint64) error {
	_, err := callArbiter(ctx, calls, addr, CallArbiterRemove, ArbiterCall{ServerID: serverID, Term: term})
	return err
}

func callArbiter(ctx context.Context, calls Caller, addr string, kind Kind, c ArbiterCall) (ArbiterStatus, error) {
	var status ArbiterStatus
	_, err := askRaw(ctx, calls, addr, kind, c, &status)
	return status, err
}
