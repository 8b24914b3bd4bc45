package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// errNoLeader: none of those that could be asked knows a leader.
var errNoLeader = errors.New("no leader of the group answers")

// errBlind: what replicas the group has could not be found out.
var errBlind = errors.New("it is not known who is in the group")

const findTimeout = 3 * time.Second

// neighbours returns the addresses at which other replicas of the group may be: those that are listed, those that the name servers
// know, and more. The error is errBlind.
func neighbours(ctx context.Context, o *Options, more []string) (_ []string, blind error) {
	list := slices.Clone(more)
	for _, p := range o.Peers {
		list = append(list, p.Address)
	}
	if o.Find != nil {
		ctx, cancel := context.WithTimeout(ctx, findTimeout)
		defer cancel()
		found, err := o.Find(ctx)
		if err != nil {
			o.Logger.Debug("the name servers do not tell who is in the group", "group", o.Name, "error", err)
			blind = fmt.Errorf("%w: %w", errBlind, err)
		}
		list = append(list, found...)
	}
	slices.Sort(list)
	return slices.DeleteFunc(slices.Compact(list), func(a string) bool { return a == "" || a == o.Address }), blind
}

// greetAll asks the replicas at addrs who they are, all at once, and returns who answered, by address.
func greetAll(ctx context.Context, o *Options, self Hello, addrs []string) map[string]Hello {
	all := make(map[string]Hello)
	var mu sync.Mutex
	var tasks sync.WaitGroup
	for _, addr := range addrs {
		tasks.Go(func() {
			h, err := ask(ctx, o.Net, addr, self)
			if err != nil {
				o.Logger.Debug("a replica of the group does not answer", "group", o.Name, "address", addr, "error", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			all[addr] = h
		})
	}
	tasks.Wait()
	return all
}

// findLeader returns the address of the leader's Raft port, and who answered on the way to it.
func findLeader(ctx context.Context, o *Options, self Hello, more []string) (string, map[string]Hello, error) {
	addrs, blind := neighbours(ctx, o, more)
	all := greetAll(ctx, o, self, addrs)
	named := ""
	for addr, h := range all {
		if h.Leads {
			return addr, all, nil
		}
		if h.LeaderAddr != "" && h.LeaderAddr != o.Address {
			named = h.LeaderAddr
		}
	}
	if _, asked := all[named]; named != "" && !asked {
		if h, err := ask(ctx, o.Net, named, self); err == nil && h.Leads {
			return named, all, nil
		}
	}
	err := fmt.Errorf("group %s: %w (%d replicas did)", o.Name, errNoLeader, len(all))
	if blind != nil {
		err = fmt.Errorf("%w; %w", err, blind)
	}
	return "", all, err
}
