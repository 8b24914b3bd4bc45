package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"rmq/raftlog"
)

// Peer is one listed member of a group: its replica number and the address of its Raft port.
type Peer struct {
	Number  int
	Address string
}

// ServerID is the replica's name in Raft's configuration: a directory that was lost and made anew is another server.
func (h Hello) ServerID() raft.ServerID {
	return raft.ServerID(fmt.Sprintf("%d-%s", h.Number, h.Incarnation))
}

// ErrAmnesia says that the group knows this replica's number with another directory: what this replica once acknowledged
// is gone, and it must not vote as if it were not.
var ErrAmnesia = errors.New("the group exists and this replica's directory is not a part of it: it was emptied, or is another one's")

// foundPause paces the questions to members that are not up yet.
const foundPause = 100 * time.Millisecond

// Found finds out with whom this replica founds its group: it asks the listed members until each has told which directory
// it is, and returns all of them as the first configuration, which is the same on every member. It returns nil if one of
// them has founded the group, with this replica: that needs no more than to start, and the leader sends everything. It fails with
// ErrAmnesia if a member belongs to a group already that does not know this replica, and with ctx's cause when that ends.
func Found(ctx context.Context, self Hello, selfAddr string, others []Peer, calls Caller, logger *slog.Logger) ([]raft.Server, error) {
	known := make(map[int]Hello)
	said := false
	for {
		for _, p := range others {
			if _, ok := known[p.Number]; ok {
				continue
			}
			h, err := ask(ctx, calls, p.Address, self)
			if err != nil {
				logger.Debug("a member of the group does not answer yet", "replica", p.Number, "address", p.Address, "error", err)
				continue
			}
			if h.Number != p.Number {
				return nil, fmt.Errorf("the replica at %s says that it is number %d, the list of members says %d", p.Address, h.Number, p.Number)
			}
			known[p.Number] = h
		}
		if slices.ContainsFunc(slices.Collect(maps.Values(known)), func(h Hello) bool { return slices.Contains(h.Members, string(self.ServerID())) }) {
			return nil, nil
		}
		servers, err := founders(self, selfAddr, others, known)
		if servers != nil || err != nil {
			return servers, err
		}
		if !said {
			logger.Info("waiting for every listed member of the group: it is founded by all of them", "known", len(known)+1, "listed", len(others)+1)
			said = true
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("only %d of %d listed members were there: %w", len(known)+1, len(others)+1, context.Cause(ctx))
		case <-time.After(foundPause):
		}
	}
}

// founders returns the first configuration once every listed member is known, nil before.
func founders(self Hello, selfAddr string, others []Peer, known map[int]Hello) ([]raft.Server, error) {
	for _, h := range known {
		if len(h.Members) > 0 && !slices.Contains(h.Members, string(self.ServerID())) {
			return nil, &raftlog.Fault{Code: raftlog.ExitAmnesia, ID: "NODE_AMNESIA", Err: fmt.Errorf("%w: replica %d is in a group of %v, this directory is %s",
				ErrAmnesia, h.Number, h.Members, self.ServerID())}
		}
	}
	if len(known) < len(others) {
		return nil, nil
	}
	servers := []raft.Server{{ID: self.ServerID(), Address: raft.ServerAddress(selfAddr)}}
	for _, p := range others {
		servers = append(servers, raft.Server{ID: known[p.Number].ServerID(), Address: raft.ServerAddress(p.Address)})
	}
	slices.SortFunc(servers, func(a, b raft.Server) int { return cmp.Compare(a.ID, b.ID) })
	return servers, nil
}

// ask tells another replica who this one is and returns who that one is.
func ask(ctx context.Context, calls Caller, addr string, self Hello) (Hello, error) {
	var h Hello
	err := Ask(ctx, calls, addr, CallHello, self, &h)
	if err == nil && h.Incarnation == "" {
		err = fmt.Errorf("%s answered something else than who it is", addr)
	}
	return h, err
}
