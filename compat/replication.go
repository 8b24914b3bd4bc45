package compat

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"rmq/compat/broker"
	"rmq/remoting"
	"rmq/remoting/fastjson"
	"rmq/remoting/protocol"
)

// Replication is what a replica knows of its group's copies.
type Replication struct {
	Term               uint64
	ConfigurationIndex uint64         // of the log entry with the present members
	End                int64          // of the log here: what LagBytes counts from, on the leader
	Replicas           []ReplicaState // of all members; complete on the leader only
}

// Roles of replicas.
const (
	RoleLeader  = "leader"
	RoleVoter   = "voter"
	RoleLearner = "learner"
	RoleArbiter = "arbiter" // holds no messages
)

// ReplicaState is one replica, as the leader of its group sees it.
type ReplicaState struct {
	Number     int
	ServerID   string
	Address    string // of its Raft port
	ClientAddr string // where it answers clients; "" for an arbiter, or if it is not known
	Role       string // one of the constants
	Match      uint64 // index of the last entry that it is known to hold
	LagBytes   int64
	InSync     bool
	Connected  bool
	Muted      bool
	Filling    bool
	Filled     int64  // of FillBytes, while it is being filled
	FillBytes  int64  //
	Node       string // the process it belongs to, if that is known
}

func (s *ReplicaState) addr() string {
	if s.ClientAddr != "" {
		return s.ClientAddr
	}
	return s.Address
}

// data are the replicas that hold messages.
func (r *Replication) data() []ReplicaState {
	return slices.DeleteFunc(slices.Clone(r.Replicas), func(s ReplicaState) bool { return s.Role == RoleArbiter })
}

func (r *Replication) leader() (ReplicaState, bool) {
	i := slices.IndexFunc(r.Replicas, func(s ReplicaState) bool { return s.Role == RoleLeader })
	if i < 0 {
		return ReplicaState{}, false
	}
	return r.Replicas[i], true
}

// epoch is a Raft number where RocketMQ has room for half of it.
func epoch(n uint64) int32 { return int32(min(n, math.MaxInt32)) }

// Epoch is a term that wrote to the log, and the position of its first byte.
type Epoch struct {
	Term  uint64
	Start int64
}

func (p *Processors) registerReplication(mux *remoting.Mux, class *remoting.Class) {
	everywhere, changes, queries := everywhere{p, mux}, p.changes(mux), p.queries(mux)
	everywhere.handle(protocol.GetBrokerHaStatus, class, handle(p, p.haStatus))
	changes.handle(protocol.ControllerElectMaster, class, handle(p, p.electMaster))
	queries.handle(protocol.ControllerGetMetadataInfo, class, handle(p, p.controllerMetadata))
	queries.handle(protocol.ControllerGetSyncStateData, class, handle(p, p.syncState))
	everywhere.handle(protocol.GetBrokerEpochCache, class, handle(p, p.epochs))
	p.registerMembership(mux, class)
}

// noReplication refuses what only a group with known replicas can tell.
func noReplication(what string) (answer, error) {
	return answer{}, &broker.Refusal{Reason: broker.Unsupported, Text: what}
}

// haStatus answers mqadmin haStatus: the leader tells of all other copies, any other replica of itself.
func (p *Processors) haStatus(ctx context.Context, _ *remoting.Request, _ *none) (answer, error) {
	if p.Replication == nil {
		return noReplication("Can not get HARuntimeInfo: this replica knows of no group")
	}
	state := p.Replication()
	if !p.leads() {
		info := protocol.HARuntimeInfo{HAConnectionInfo: []protocol.HAConnectionInfo{}}
		own := &info.HAClientRuntimeInfo
		if leader, ok := state.leader(); ok {
			own.MasterAddr, own.Activated = leader.Address, true
		}
		own.MaxOffset = state.End
		own.LastReadTimestamp = p.broker.Store().LastStoreTime()
		own.LastWriteTimestamp = own.LastReadTimestamp
		return encoded(info)
	}
	info := protocol.HARuntimeInfo{Master: true, MasterCommitLogMaxOffset: state.End, HAConnectionInfo: []protocol.HAConnectionInfo{}}
	for _, s := range state.data() {
		if s.Role == RoleLeader {
			continue
		}
		held := max(state.End-s.LagBytes, 0)
		inSync := s.InSync && s.Connected && !s.Filling
		info.HAConnectionInfo = append(info.HAConnectionInfo, protocol.HAConnectionInfo{
			Addr: s.addr(), SlaveAckOffset: held, Diff: state.End - held, InSync: inSync, TransferFromWhere: held,
		})
		if inSync {
			info.InSyncSlaveNums++
		}
	}
	return encoded(info)
}

// controllerMetadata names the leader of the group, which is what stands for a controller.
func (p *Processors) controllerMetadata(context.Context, *remoting.Request, *none) (answer, error) {
	if p.Replication == nil {
		return noReplication("this replica knows of no group")
	}
	state, id := p.Replication(), p.Identity()
	header := &protocol.GetMetaDataResponseHeader{Group: id.BrokerName, Leader: p.leads(), ControllerLeaderAddress: id.Addr}
	var peers []string
	for _, s := range state.Replicas {
		name := "n" + strconv.Itoa(s.Number)
		if s.Role == RoleArbiter {
			name = RoleArbiter
		}
		if s.Role == RoleLeader {
			header.ControllerLeaderID = name
		}
		peers = append(peers, name+":"+s.addr())
	}
	header.Peers = strings.Join(peers, ";")
	return answer{header: header}, nil
}

// syncState answers mqadmin getSyncStateSet for this group; it knows of no other.
func (p *Processors) syncState(_ context.Context, r *remoting.Request, _ *none) (answer, error) {
	if p.Replication == nil {
		return noReplication("this replica knows of no group")
	}
	var names []string
	if err := fastjson.Unmarshal(r.Cmd.Body, &names); err != nil {
		return answer{}, badBody("list of broker names", err)
	}
	body := protocol.BrokerReplicasInfo{ReplicasInfoTable: map[string]protocol.ReplicasInfo{}}
	id, state := p.Identity(), p.Replication()
	if !slices.Contains(names, id.BrokerName) {
		return encoded(body)
	}
	info := protocol.ReplicasInfo{
		MasterEpoch: epoch(state.Term), SyncStateSetEpoch: epoch(state.ConfigurationIndex),
		InSyncReplicas: []protocol.ReplicaIdentity{}, NotInSyncReplicas: []protocol.ReplicaIdentity{},
	}
	for _, s := range state.data() {
		member := protocol.ReplicaIdentity{BrokerName: id.BrokerName, BrokerID: int64(s.Number), BrokerAddress: s.addr(), Alive: s.Connected || s.Role == RoleLeader}
		switch {
		case s.Role == RoleLeader:
			info.MasterBrokerID, info.MasterAddress = int64(s.Number), s.addr()
			info.InSyncReplicas = append(info.InSyncReplicas, member)
		case s.InSync && s.Connected && !s.Filling:
			info.InSyncReplicas = append(info.InSyncReplicas, member)
		default:
			info.NotInSyncReplicas = append(info.NotInSyncReplicas, member)
		}
	}
	body.ReplicasInfoTable[id.BrokerName] = info
	return encoded(body)
}

// electMaster hands the lead over to the replica that the request names by its number; with none named it tells who leads.
func (p *Processors) electMaster(ctx context.Context, _ *remoting.Request, h *protocol.ElectMasterRequestHeader) (answer, error) {
	if p.Replication == nil || p.ElectMaster == nil {
		return noReplication("this replica knows of no group whose lead it could hand over")
	}
	id := p.Identity()
	refuse := func(format string, args ...any) (answer, error) {
		return answer{}, &broker.Refusal{Reason: broker.InvalidParameter, Text: fmt.Sprintf(format, args...)}
	}
	if h.BrokerName != id.BrokerName || h.ClusterName != id.Cluster && h.ClusterName != "" {
		return refuse("this is group %s of cluster %s, not %s of %s", id.BrokerName, id.Cluster, h.BrokerName, h.ClusterName)
	}
	state := p.Replication()
	master, ok := state.leader()
	if h.DesignateElect || h.BrokerID >= 0 {
		target := slices.IndexFunc(state.Replicas, func(s ReplicaState) bool { return s.Role != RoleArbiter && int64(s.Number) == h.BrokerID })
		if target < 0 {
			return refuse("group %s has no replica %d", id.BrokerName, h.BrokerID)
		}
		next := state.Replicas[target]
		switch next.Role {
		case RoleLeader:
		case RoleVoter:
			if err := p.ElectMaster(ctx, next.Number); err != nil {
				return answer{}, fmt.Errorf("replica %d of group %s does not lead: %w", next.Number, id.BrokerName, err)
			}
			if p.Leadership != nil {
				if _, err := p.Leadership.LeaderAddr(ctx); err != nil {
					return answer{}, err
				}
			}
			state.Term = max(p.Replication().Term, state.Term+1)
		default:
			return refuse("replica %d of group %s is a %s, which cannot lead", next.Number, id.BrokerName, next.Role)
		}
		master, ok = next, true
	}
	if !ok {
		return answer{}, errors.New("the group has no leader now")
	}
	number, term, set := int64(master.Number), epoch(state.Term), epoch(state.ConfigurationIndex)
	a, err := encoded(p.memberGroup(state.data()))
	a.header = &protocol.ElectMasterResponseHeader{
		MasterBrokerID: number, HasMasterBrokerID: true, MasterAddress: master.addr(),
		MasterEpoch: term, HasMasterEpoch: true, SyncStateSetEpoch: set, HasSyncStateSetEpoch: true,
	}
	return a, err
}

func (p *Processors) memberGroup(replicas []ReplicaState) protocol.BrokerMemberGroup {
	id := p.Identity()
	g := protocol.BrokerMemberGroup{Cluster: id.Cluster, BrokerName: id.BrokerName, BrokerAddrs: map[int64]string{}}
	for _, s := range replicas {
		g.BrokerAddrs[int64(s.Number)] = s.addr()
	}
	return g
}

// epochs answers mqadmin getBrokerEpoch: an epoch is a Raft term.
func (p *Processors) epochs(context.Context, *remoting.Request, *none) (answer, error) {
	if p.Epochs == nil {
		return noReplication("this replica does not know which term wrote which part of its log")
	}
	id := p.Identity()
	body := protocol.EpochEntryCache{
		ClusterName: id.Cluster, BrokerName: id.BrokerName, BrokerID: id.BrokerID, EpochList: []protocol.EpochEntry{},
	}
	if p.Replication != nil {
		body.MaxOffset = p.Replication().End
	}
	for _, e := range p.Epochs() {
		if n := len(body.EpochList); n > 0 {
			body.EpochList[n-1].EndOffset = e.Start
		}
		body.EpochList = append(body.EpochList, protocol.EpochEntry{Epoch: epoch(e.Term), StartOffset: e.Start, EndOffset: math.MaxInt64})
	}
	return encoded(body)
}
