package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"rmq/remoting"
	"rmq/remoting/fastjson"
	"rmq/remoting/protocol"
)

// raftAddressKey is the entry of a broker's runtime information that tells where its Raft port is. Replicas that join a
// group find the others by it: a name server knows only where clients are answered.
const raftAddressKey = "raftAddress"

// findTimeout bounds one question on the way to a group's replicas.
const findTimeout = 2 * time.Second

// finder finds the live replicas of a group through the name servers, stock ones included.
type finder struct {
	client      *remoting.Client
	nameServers []string
	cluster     string
	group       string
	self        string // own client address, which is left out
}

// find returns the addresses of the Raft ports of the group's live replicas other than this one. None is no error. The
// error says that nothing is known: no name server answered, or a registered replica is none of rmq's.
func (f *finder) find(ctx context.Context) ([]string, error) {
	brokers, err := f.registered(ctx)
	if err != nil {
		return nil, err
	}
	var found []string
	var problems []error
	for _, addr := range brokers {
		raft, err := f.raftAddress(ctx, addr)
		switch {
		case err != nil:
			problems = append(problems, err) // it may be dead and not expired yet
		case !slices.Contains(found, raft):
			found = append(found, raft)
		}
	}
	if len(found) == 0 && len(problems) > 0 {
		return nil, fmt.Errorf("no registered replica of %s answers: %w", f.group, errors.Join(problems...))
	}
	return found, nil
}

// registered returns where the group's registered replicas answer clients, this one left out.
func (f *finder) registered(ctx context.Context) ([]string, error) {
	var all []string
	var problems []error
	answered := false
	for _, ns := range f.nameServers {
		resp, err := f.call(ctx, ns, protocol.GetBrokerClusterInfo)
		if err != nil {
			problems = append(problems, fmt.Errorf("name server %s: %w", ns, err))
			continue
		}
		var info protocol.ClusterInfo
		if err := fastjson.Unmarshal(resp.Body, &info); err != nil {
			problems = append(problems, fmt.Errorf("name server %s: %w", ns, err))
			continue
		}
		answered = true
		data, ok := info.BrokerAddrTable[f.group]
		if !ok {
			continue
		}
		if data.Cluster != f.cluster {
			return nil, fmt.Errorf("brokerName %s is registered at name server %s in cluster %s, not %s", f.group, ns, data.Cluster, f.cluster)
		}
		for _, addr := range data.BrokerAddrs {
			if addr != f.self && !slices.Contains(all, addr) {
				all = append(all, addr)
			}
		}
	}
	if !answered {
		return nil, fmt.Errorf("no name server answers: %w", errors.Join(problems...))
	}
	slices.Sort(all)
	return all, nil
}

func (f *finder) raftAddress(ctx context.Context, broker string) (string, error) {
	resp, err := f.call(ctx, broker, protocol.GetBrokerRuntimeInfo)
	if err != nil {
		return "", fmt.Errorf("broker %s: %w", broker, err)
	}
	var info protocol.KVTable
	if err := fastjson.Unmarshal(resp.Body, &info); err != nil {
		return "", fmt.Errorf("broker %s: %w", broker, err)
	}
	if raft := info.Table[raftAddressKey]; raft != "" {
		return raft, nil
	}
	return "", fmt.Errorf("broker %s is registered as %s and is not of rmq: the two cannot be replicas of one group", broker, f.group)
}

func (f *finder) call(ctx context.Context, addr string, code int32) (*protocol.Command, error) {
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	resp, err := f.client.Call(ctx, addr, protocol.NewRequest(code, nil))
	if err == nil && resp.Code != protocol.Success {
		err = fmt.Errorf("answer %d: %s", resp.Code, resp.Remark)
	}
	return resp, err
}
