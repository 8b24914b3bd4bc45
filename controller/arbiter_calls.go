package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"rmq/raftlog"
)

// arbiterPrefix begins the ServerID of every arbiter.
const arbiterPrefix = "arbiter-"

// IsArbiter reports whether a server of a group's configuration is an arbiter: it votes and holds no data.
func IsArbiter(serverID string) bool { return strings.HasPrefix(serverID, arbiterPrefix) }

// Kinds of calls that a leader makes at an arbiter's Raft port.
const (
	callArbiterSeed   = "arbiter.seed"
	callArbiterStatus = "arbiter.status"
	callArbiterDrop   = "arbiter.drop"
	callArbiterRemove = "arbiter.remove"
)

// arbiterCall is a call to an arbiter.
type arbiterCall struct {
	Kind     string             `json:"kind"`
	ServerID string             `json:"serverId"` // of the arbiter that is meant
	Point    *raftlog.FillPoint `json:"point,omitempty"`
	Below    uint64             `json:"below,omitempty"`
	Term     uint64             `json:"term,omitempty"` // of the leader that calls
}

// arbiterAnswer is the answer to every arbiterCall.
type arbiterAnswer struct {
	Error string `json:"error,omitempty"` // empty: done
	ArbiterStatus
}

// ArbiterStatus is where an arbiter stands.
type ArbiterStatus struct {
	ServerID string `json:"serverId"`
	// State is what the arbiter does: waits to be seeded, runs, has been elected and cannot complete a data replica so far and
	// therefore does not vote, or has given up.
	State     ArbiterState `json:"state"`
	Why       string       `json:"why,omitempty"` // it has given up or does not vote
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
	ArbiterFailed  ArbiterState = "failed"  // its storage failed, or it kept more than twice BytesMax: it does not run
)

// ErrArbiter is what an arbiter refuses with.
var ErrArbiter = errors.New("the arbiter refused")

// SeedArbiter lets an arbiter that was offered, or one that lacks what the leader's log no longer holds, begin behind p, which is
// then no longer needed: the leader keeps no lease. Afterwards the arbiter runs and can be added as a learner. An arbiter that runs
// and has p's last entry already is left as it is.
func SeedArbiter(ctx context.Context, calls Caller, addr, serverID string, p raftlog.FillPoint) error {
	p = p.WithoutBytes()
	_, err := callArbiter(ctx, calls, addr, arbiterCall{Kind: callArbiterSeed, ServerID: serverID, Point: &p})
	return err
}

// AskArbiter returns where an arbiter stands.
func AskArbiter(ctx context.Context, calls Caller, addr, serverID string) (ArbiterStatus, error) {
	return callArbiter(ctx, calls, addr, arbiterCall{Kind: callArbiterStatus, ServerID: serverID})
}

// DropArbiterBelow tells an arbiter that every data replica holds all entries below index durably. term is the leader's, in which it
// has committed an entry: an arbiter that follows a later leader refuses.
func DropArbiterBelow(ctx context.Context, calls Caller, addr, serverID string, term, index uint64) (ArbiterStatus, error) {
	return callArbiter(ctx, calls, addr, arbiterCall{Kind: callArbiterDrop, ServerID: serverID, Term: term, Below: index})
}

// RemoveArbiter ends an arbiter that is no longer in the group's committed configuration, and removes what it kept. It refuses if it
// follows a later leader than term.
func RemoveArbiter(ctx context.Context, calls Caller, addr, serverID string, term uint64) error {
	_, err := callArbiter(ctx, calls, addr, arbiterCall{Kind: callArbiterRemove, ServerID: serverID, Term: term})
	return err
}

func callArbiter(ctx context.Context, calls Caller, addr string, c arbiterCall) (ArbiterStatus, error) {
	request, err := json.Marshal(c)
	if err != nil {
		return ArbiterStatus{}, err
	}
	body, err := calls.Call(ctx, addr, request)
	if err != nil {
		return ArbiterStatus{}, err
	}
	var answer arbiterAnswer
	if err := json.Unmarshal(body, &answer); err != nil || answer.ServerID == "" {
		return ArbiterStatus{}, fmt.Errorf("%s answered something else than an arbiter does: %v", addr, err)
	}
	if answer.Error != "" {
		return answer.ArbiterStatus, fmt.Errorf("%w: %s", ErrArbiter, answer.Error)
	}
	return answer.ArbiterStatus, nil
}
