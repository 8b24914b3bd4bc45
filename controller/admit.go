package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"rmq/raftlog"
)

// Founding says how a replica with an empty directory comes into a group.
type Founding uint8

const (
	Listed Founding = iota // all members are listed, and found the group together
	First                  // it founds the group alone, unless somebody has
	Join                   // it waits for the group
	Either                 // it joins the group, or founds it if there is none; it has no number of its own
)

// GrantRequest asks to be the one who founds a group.
type GrantRequest struct {
	Cluster  string
	Group    string
	ServerID string
}

// ErrDenied is what Grant fails with if the group exists, or another replica founds it; the text says who.
var ErrDenied = errors.New("the group may not be founded")

// Admission is how a replica may start.
type Admission struct {
	Number  int           // the replica's, which the leader has allocated if it had none
	Servers []raft.Server // found the group with these; nil: it is founded
	Filled  bool          // the directory was filled, and closed for that
}

// Admit brings a directory to where Start can start it: it does nothing to one that holds a log, finds out with whom to found a
// group that does not exist, and fills the directory from the leader of one that does, through o.Sink. It runs before the state
// machine is opened: after it, if Filled is set, the log is to be opened anew. It needs everything of Options but the fields of a
// running group.
func Admit(ctx context.Context, o Options) (Admission, error) {
	o.complete()
	found := o.Log.Recovery()
	known, err := o.Log.HasState()
	if err != nil {
		return Admission{}, fmt.Errorf("group %s: %w", o.Name, err)
	}
	ready := known && !found.Filling && !o.Refilling
	// A directory can be filled and have no number: what kept it was to come next.
	a := &admission{o: &o, self: Self(o), sure: known || found.Filling || o.Refilling, intact: known && !found.Filling, ready: ready}
	o.Calls.connect(greet(&o))
	if ready && o.Replica >= 0 {
		return Admission{Number: o.Replica}, nil
	}
	result, err := a.run(ctx)
	if err != nil {
		return Admission{}, fmt.Errorf("group %s: %w", o.Name, err)
	}
	return result, nil
}

// admission is one replica's way into its group.
type admission struct {
	o      *Options
	self   Hello
	sure   bool      // the group exists: this directory has been a part of it
	intact bool      // what the directory held at first is good, if old
	ready  bool      // it is good and new: only the replica's number is wanted
	opened bool      // for being filled, which closed it, at least once
	since  time.Time // when it was first known that the group exists
	known  error     // from what
	last   error     // why it is not in yet
	said   time.Time
	anew   bool // the last fill failed in a way that going on with it will not help
}

func (a *admission) run(ctx context.Context) (Admission, error) {
	if a.o.Founding == Listed && !a.sure {
		servers, err := Found(ctx, a.self, a.o.Address, a.o.Peers, a.o.Net, a.o.Logger)
		if !errors.Is(err, ErrAmnesia) {
			return Admission{Number: a.o.Replica, Servers: servers}, err
		}
		a.exists(err)
	}
	if a.sure {
		a.exists(errors.New("the directory is to be filled"))
	}
	for {
		done, result, err := a.try(ctx)
		if done || err != nil {
			return result, err
		}
		a.say()
		select {
		case <-ctx.Done():
			return Admission{}, fmt.Errorf("%w: %w", context.Cause(ctx), a.last)
		case <-time.After(a.o.Pace.Ask):
		}
	}
}

// exists notes that there is a group already, so that this replica must not found one.
func (a *admission) exists(why error) {
	if a.since.IsZero() {
		a.since = time.Now()
	}
	a.known, a.last = why, why
}

func (a *admission) say() {
	if now := time.Now(); now.Sub(a.said) > sayEvery {
		a.said = now
		a.o.Logger.Info("waiting for group "+a.o.Name, "replica", a.o.Replica, "reason", a.last)
	}
}

// try makes one attempt.
func (a *admission) try(ctx context.Context) (done bool, _ Admission, err error) {
	leader, all, err := findLeader(ctx, a.o, a.self, nil)
	if err == nil {
		return a.ask(ctx, leader)
	}
	a.last = err
	for addr, h := range all {
		if len(h.Members) > 0 {
			a.exists(fmt.Errorf("%s is in a group of %v whose leader does not answer", addr, h.Members))
		}
	}
	late := !a.since.IsZero() && time.Since(a.since) > a.o.Pace.Known
	switch {
	case a.sure && late && a.intact && a.opened: // the log is closed: it is to be started anew
		return false, Admission{}, fmt.Errorf("filling this replica has failed: %w", a.last)
	case a.sure && late && a.intact && a.o.Replica >= 0:
		// Without a leader nobody can fill it; its vote may be what is missing.
		return true, Admission{Number: a.o.Replica}, nil
	case a.sure || a.o.Founding == Join:
		return false, Admission{}, nil
	case late:
		return false, Admission{}, a.amnesia(errors.Join(a.known, err))
	case !a.since.IsZero() || errors.Is(err, errBlind): // a second group must not be founded because nobody can tell of the first
		return false, Admission{}, nil
	}
	if a.o.Founding == First || a.o.Founding == Either {
		return a.found(ctx)
	}
	return false, Admission{}, nil
}

func (a *admission) amnesia(why error) error {
	return &raftlog.Fault{Code: raftlog.ExitAmnesia, ID: "NODE_AMNESIA", Err: fmt.Errorf("%w; this directory is %s: %w", ErrAmnesia, a.self.ServerID(), why)}
}

// grantTimeout bounds the question to all name servers, of which some may not answer.
const grantTimeout = 15 * time.Second

// found founds the group with this replica alone, if nobody objects.
func (a *admission) found(ctx context.Context) (done bool, _ Admission, err error) {
	number := max(a.o.Replica, 0)
	a.self.Number = number
	id := a.self.ServerID()
	if a.o.Grant != nil {
		ask, cancel := context.WithTimeout(ctx, grantTimeout)
		defer cancel()
		err := a.o.Grant(ask, GrantRequest{Cluster: a.o.Cluster, Group: a.o.Name, ServerID: string(id)})
		if err != nil {
			a.self.Number = a.o.Replica
			if a.last = err; errors.Is(err, ErrDenied) && a.o.Founding == First {
				a.exists(err)
			}
			return false, Admission{}, nil
		}
	}
	return true, Admission{Number: number, Servers: []raft.Server{{ID: id, Address: raft.ServerAddress(a.o.Address)}}}, nil
}

// ask asks the leader for a place, and does what it says.
func (a *admission) ask(ctx context.Context, leader string) (done bool, _ Admission, err error) {
	status := a.o.Log.Status()
	r := JoinRequest{Hello: a.self, Async: a.o.Async, State: a.ready, LastIndex: status.LastIndex}
	var answer JoinAnswer
	if err := Ask(ctx, a.o.Net, leader, CallJoin, r, &answer); err != nil {
		a.last = err
		var f *raftlog.Fault
		if err := refusedForGood(err); errors.As(err, &f) {
			return false, Admission{}, err
		}
		return false, Admission{}, nil
	}
	a.self.Number = answer.Number
	switch answer.Do {
	case JoinStart:
		return true, Admission{Number: answer.Number}, nil
	case JoinFill:
	default:
		a.last = errors.New(answer.Text)
		return false, Admission{}, nil
	}
	if a.o.Sink == nil {
		return false, Admission{}, errors.New("this replica has to be filled, and cannot be")
	}
	a.opened = true
	err = receive(ctx, a.o, answer.ServerID, leader, a.anew)
	if err == nil {
		return true, Admission{Number: answer.Number, Filled: true}, nil
	}
	var f *raftlog.Fault
	if ctx.Err() != nil || errors.As(err, &f) {
		return false, Admission{}, err
	}
	// Damaged bytes, or an offer that does not continue what is there: a new one may.
	a.anew = errors.Is(err, raftlog.ErrCorrupt) || errors.Is(err, raftlog.ErrFillBehind)
	a.last = err
	a.o.Logger.Warn("filling this replica has failed, it goes on", "group", a.o.Name, "from", leader, "error", err)
	return false, Admission{}, nil
}
