package compat_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"testing"

	"rmq/compat"
	"rmq/remoting/protocol"
)

// replicated is a leader of a group of which the test says what it looks like.
func startReplicated(t *testing.T, state *compat.Replication, elect func(number int) error) *replica {
	t.Helper()
	r := *startReplica(t, t.TempDir())
	serveBeside(t, &r, compat.Options{
		Identity: func() compat.Identity {
			return compat.Identity{Cluster: "C", BrokerName: "broker-a", Addr: "10.0.0.1:10911"}
		},
		Replication: func() compat.Replication { return *state },
		ElectMaster: func(_ context.Context, number int) error { return elect(number) },
		Epochs:      func() []compat.Epoch { return []compat.Epoch{{Term: 2, Start: 0}, {Term: 7, Start: 400}} },
	})
	return &r
}

func someReplication() *compat.Replication {
	return &compat.Replication{Term: 7, ConfigurationIndex: 12, End: 1000, Replicas: []compat.ReplicaState{
		{Number: 0, ServerID: "0-x", Address: "10.0.0.1:10912", ClientAddr: "10.0.0.1:10911", Role: compat.RoleLeader, InSync: true, Connected: true},
		{Number: 1, ServerID: "1-x", Address: "10.0.0.2:10912", ClientAddr: "10.0.0.2:10911", Role: compat.RoleVoter, LagBytes: 100, InSync: true, Connected: true},
		{Number: 2, ServerID: "2-x", Address: "10.0.0.3:10912", ClientAddr: "10.0.0.3:10911", Role: compat.RoleLearner, LagBytes: 5000, Connected: true, Filling: true},
		{Number: 0, ServerID: "arbiter-x", Address: "10.0.0.9:9877", Role: compat.RoleArbiter, InSync: true, Connected: true},
	}}
}

// What haStatus, getSyncStateSet, getControllerMetaData and getBrokerEpoch show of a group.
func TestReplicationIsShown(t *testing.T) {
	r := startReplicated(t, someReplication(), nil)
	var ha protocol.HARuntimeInfo
	r.ask(protocol.GetBrokerHaStatus, nil, nil, &ha)
	want := protocol.HARuntimeInfo{Master: true, MasterCommitLogMaxOffset: 1000, InSyncSlaveNums: 1, HAConnectionInfo: []protocol.HAConnectionInfo{
		{Addr: "10.0.0.2:10911", SlaveAckOffset: 900, Diff: 100, InSync: true, TransferFromWhere: 900},
		{Addr: "10.0.0.3:10911", SlaveAckOffset: 0, Diff: 1000},
	}}
	if !reflect.DeepEqual(ha, want) {
		t.Errorf("HA status %+v", ha)
	}

	var sync protocol.BrokerReplicasInfo
	r.ask(protocol.ControllerGetSyncStateData, nil, []byte(`["broker-a","broker-b"]`), &sync)
	one := func(id int64, addr string) []protocol.ReplicaIdentity {
		return []protocol.ReplicaIdentity{{BrokerName: "broker-a", BrokerID: id, BrokerAddress: addr, Alive: true}}
	}
	in := append(one(0, "10.0.0.1:10911"), one(1, "10.0.0.2:10911")...)
	if got := fmt.Sprint(sync); got != fmt.Sprint(protocol.BrokerReplicasInfo{ReplicasInfoTable: map[string]protocol.ReplicasInfo{"broker-a": {
		MasterAddress: "10.0.0.1:10911", MasterEpoch: 7, SyncStateSetEpoch: 12, InSyncReplicas: in, NotInSyncReplicas: one(2, "10.0.0.3:10911"),
	}}}) {
		t.Errorf("in-sync replicas %s", got)
	}

	var meta protocol.GetMetaDataResponseHeader
	if err := meta.Decode(r.ask(protocol.ControllerGetMetadataInfo, nil, nil, nil).Ext); err != nil {
		t.Fatal(err)
	}
	if meta != (protocol.GetMetaDataResponseHeader{Group: "broker-a", ControllerLeaderID: "n0", ControllerLeaderAddress: "10.0.0.1:10911", Leader: true,
		Peers: "n0:10.0.0.1:10911;n1:10.0.0.2:10911;n2:10.0.0.3:10911;arbiter:10.0.0.9:9877"}) {
		t.Errorf("metadata %+v", meta)
	}

	var epochs protocol.EpochEntryCache
	r.ask(protocol.GetBrokerEpochCache, nil, nil, &epochs)
	if got, want := fmt.Sprint(epochs), fmt.Sprint(protocol.EpochEntryCache{ClusterName: "C", BrokerName: "broker-a", MaxOffset: 1000,
		EpochList: []protocol.EpochEntry{{Epoch: 2, EndOffset: 400}, {Epoch: 7, StartOffset: 400, EndOffset: math.MaxInt64}}}); got != want {
		t.Errorf("epochs %s, want %s", got, want)
	}
}

// electMaster hands the lead to the replica of that number, if it is one that can lead.
func TestElectMaster(t *testing.T) {
	state := someReplication()
	var asked []int
	var fails error
	r := startReplicated(t, state, func(number int) error { asked = append(asked, number); return fails })
	h := &protocol.ElectMasterRequestHeader{ClusterName: "C", BrokerName: "broker-a", BrokerID: 1, DesignateElect: true}
	elected := func() (e protocol.ElectMasterResponseHeader, group protocol.BrokerMemberGroup) {
		t.Helper()
		if err := e.Decode(r.ask(protocol.ControllerElectMaster, h, nil, &group).Ext); err != nil {
			t.Fatal(err)
		}
		return e, group
	}
	e, group := elected()
	if e.MasterBrokerID != 1 || e.MasterAddress != "10.0.0.2:10911" || e.MasterEpoch != 8 || e.SyncStateSetEpoch != 12 || len(group.BrokerAddrs) != 3 {
		t.Errorf("%+v %+v", e, group)
	}
	h.BrokerID = 0
	if e, _ := elected(); e.MasterBrokerID != 0 || e.MasterEpoch != 7 { // it leads already
		t.Errorf("%+v", e)
	}
	if fmt.Sprint(asked) != "[1]" {
		t.Errorf("the lead was handed to %v", asked)
	}
	for _, id := range []int64{2, 3} { // a learner, nobody
		h.BrokerID = id
		r.refused(protocol.InvalidParameter, protocol.ControllerElectMaster, h, nil)
	}
	h.BrokerID, h.BrokerName = 1, "broker-b"
	r.refused(protocol.InvalidParameter, protocol.ControllerElectMaster, h, nil)
	h.BrokerName, fails = "broker-a", errors.New("it lags behind")
	r.refused(protocol.SystemError, protocol.ControllerElectMaster, h, nil)
}

// A follower shows its own part of the replication, and has the leader answer for the group.
func TestReplicationOnAFollower(t *testing.T) {
	leader := startReplicated(t, someReplication(), nil)
	state := &compat.Replication{Term: 7, End: 900, Replicas: []compat.ReplicaState{{Address: "10.0.0.1:10912", Role: compat.RoleLeader}}}
	own := *leader
	f := &follower{replica: &own, leaderAt: leader.addr}
	serveBeside(t, &own, compat.Options{
		Leadership:  f,
		Identity:    func() compat.Identity { return compat.Identity{Cluster: "C", BrokerName: "broker-a", BrokerID: 1} },
		Replication: func() compat.Replication { return *state },
	})
	var ha protocol.HARuntimeInfo
	f.ask(protocol.GetBrokerHaStatus, nil, nil, &ha)
	if own := ha.HAClientRuntimeInfo; ha.Master || own.MasterAddr != "10.0.0.1:10912" || own.MaxOffset != 900 || !own.Activated {
		t.Errorf("%+v", ha)
	}
	var meta protocol.GetMetaDataResponseHeader
	if err := meta.Decode(f.ask(protocol.ControllerGetMetadataInfo, nil, nil, nil).Ext); err != nil || meta.ControllerLeaderAddress != "10.0.0.1:10911" {
		t.Errorf("%+v %v", meta, err)
	}
	f.refused(protocol.SystemError, protocol.GetBrokerEpochCache, nil, nil)
}
