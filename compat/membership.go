package compat

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"rmq/compat/broker"
	"rmq/remoting"
	"rmq/remoting/protocol"
)

// removalsMax bounds how many replicas one request may remove.
const removalsMax = 64

func (p *Processors) registerMembership(mux *remoting.Mux, class *remoting.Class) {
	everywhere, changes := everywhere{p, mux}, p.changes(mux)
	everywhere.handle(protocol.GroupStatus, class, handle(p, p.groupStatus))
	changes.handle(protocol.CleanBrokerData, class, handle(p, p.cleanBroker))
}

// groupStatus answers rmq group status with what this replica knows of the group.
func (p *Processors) groupStatus(context.Context, *remoting.Request, *none) (answer, error) {
	if p.Replication == nil {
		return noReplication("this replica knows of no group")
	}
	id, state := p.Identity(), p.Replication()
	body := protocol.GroupStatusBody{Cluster: id.Cluster, BrokerName: id.BrokerName, Leads: p.leads(), Term: int64(state.Term), Replicas: []protocol.ReplicaStatus{}}
	for _, s := range state.Replicas {
		number := s.Number
		if s.Role == RoleArbiter {
			number = -1
		}
		body.Replicas = append(body.Replicas, protocol.ReplicaStatus{
			Number: number, ServerID: s.ServerID, Role: s.Role, Address: s.ClientAddr, RaftAddr: s.Address, Node: s.Node, Connected: s.Connected,
			InSync: s.InSync && s.Connected && !s.Filling, LagBytes: s.LagBytes, Muted: s.Muted, Filling: s.Filling, FilledSize: s.Filled, FillSize: s.FillBytes,
		})
	}
	return encoded(body)
}

// cleanBroker answers mqadmin cleanBrokerMetadata: it removes replicas from the group, one after the other, and stops at the first
// that cannot be removed. With none named it removes all that are not in contact.
func (p *Processors) cleanBroker(ctx context.Context, _ *remoting.Request, h *protocol.CleanBrokerDataRequestHeader) (answer, error) {
	if p.Replication == nil || p.RemoveReplica == nil {
		return noReplication("this replica knows of no group that another one could be removed from")
	}
	id := p.Identity()
	refuse := func(format string, args ...any) (answer, error) {
		return answer{}, &broker.Refusal{Reason: broker.InvalidParameter, Text: fmt.Sprintf(format, args...)}
	}
	if h.BrokerName != id.BrokerName || h.ClusterName != id.Cluster && h.ClusterName != "" {
		return refuse("this is group %s of cluster %s, not %s of %s", id.BrokerName, id.Cluster, h.BrokerName, h.ClusterName)
	}
	var numbers []int
	state := p.Replication()
	for _, word := range strings.FieldsFunc(h.IDs, func(r rune) bool { return r == ';' || r == ' ' }) {
		n, err := strconv.Atoi(word)
		switch {
		case err != nil || n < 0:
			return refuse("%.40q is no replica number; give them as 1;2", word)
		case !slices.ContainsFunc(state.data(), func(s ReplicaState) bool { return s.Number == n }):
			return refuse("group %s has no replica %d", id.BrokerName, n)
		case !slices.Contains(numbers, n):
			numbers = append(numbers, n)
		}
	}
	if len(numbers) == 0 {
		if h.Living {
			return refuse("to remove replicas that are in contact, say which: a group is not removed by removing all of it")
		}
		for _, s := range state.data() {
			if !s.Connected && s.Role != RoleLeader {
				numbers = append(numbers, s.Number)
			}
		}
		if len(numbers) == 0 {
			return refuse("group %s has no replica that is not in contact", id.BrokerName)
		}
	}
	if len(numbers) > removalsMax {
		return refuse("%d replicas, at most %d can be removed at once", len(numbers), removalsMax)
	}
	for i, n := range numbers {
		if err := p.RemoveReplica(ctx, n, h.Living); err != nil {
			if i > 0 {
				err = fmt.Errorf("%w; removed are %v", err, numbers[:i])
			}
			return answer{}, fmt.Errorf("replica %d is not removed: %w", n, err)
		}
	}
	return answer{}, nil
}
