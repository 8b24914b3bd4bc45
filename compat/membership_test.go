package compat_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"rmq/compat"
	"rmq/remoting/protocol"
)

// cleanBrokerMetadata removes the replicas that it names, or else those that are not in contact.
func TestReplicasAreRemoved(t *testing.T) {
	state := someReplication()
	r := *startReplica(t, t.TempDir())
	var asked []string
	var fails error
	serveBeside(t, &r, compat.Options{
		Identity: func() compat.Identity {
			return compat.Identity{Cluster: "C", BrokerName: "broker-a", Addr: "10.0.0.1:10911"}
		},
		Replication: func() compat.Replication { return *state },
		RemoveReplica: func(_ context.Context, number int, living bool) error {
			asked = append(asked, fmt.Sprint(number, living))
			if number == 2 {
				return fails
			}
			return nil
		},
	})
	h := func(ids string, living bool) *protocol.CleanBrokerDataRequestHeader {
		return &protocol.CleanBrokerDataRequestHeader{ClusterName: "C", BrokerName: "broker-a", IDs: ids, Living: living}
	}
	removed := func(want ...string) {
		t.Helper()
		if got := strings.Join(asked, " "); got != strings.Join(want, " ") {
			t.Errorf("removed %s, want %s", got, want)
		}
		asked = nil
	}
	r.ask(protocol.CleanBrokerData, h("1", false), nil, nil)
	removed("1 false")
	r.ask(protocol.CleanBrokerData, h("2;1;1", true), nil, nil)
	removed("2 true", "1 true")
	for _, ids := range []string{"x", "-1", "1;3", "1;;x"} {
		r.refused(protocol.InvalidParameter, protocol.CleanBrokerData, h(ids, false), nil)
	}
	r.refused(protocol.InvalidParameter, protocol.CleanBrokerData, h("", false), nil) // all are in contact
	r.refused(protocol.InvalidParameter, protocol.CleanBrokerData, h("", true), nil)
	r.refused(protocol.InvalidParameter, protocol.CleanBrokerData, &protocol.CleanBrokerDataRequestHeader{BrokerName: "broker-b", IDs: "1"}, nil)
	r.refused(protocol.InvalidParameter, protocol.CleanBrokerData, &protocol.CleanBrokerDataRequestHeader{ClusterName: "D", BrokerName: "broker-a", IDs: "1"}, nil)
	removed()
	state.Replicas[0].Connected = false // a leader says nothing of itself
	state.Replicas[1].Connected, state.Replicas[2].Connected, state.Replicas[3].Connected = false, false, false
	r.ask(protocol.CleanBrokerData, h("", false), nil, nil)
	removed("1 false", "2 false")
	fails = errors.New("it would be no majority")
	r.refused(protocol.SystemError, protocol.CleanBrokerData, h("", false), nil)
	removed("1 false", "2 false")
}

// rmq group status shows every member, the arbiter too, as far as this replica knows it.
func TestGroupStatus(t *testing.T) {
	state := someReplication()
	state.Replicas[2].Filled, state.Replicas[2].FillBytes = 3, 10
	state.Replicas[1].Muted, state.Replicas[1].Node = true, "n1"
	r := startReplicated(t, state, nil)
	var got protocol.GroupStatusBody
	r.ask(protocol.GroupStatus, nil, nil, &got)
	want := protocol.GroupStatusBody{Cluster: "C", BrokerName: "broker-a", Leads: true, Term: 7, Replicas: []protocol.ReplicaStatus{
		{Number: 0, ServerID: "0-x", Role: "leader", Address: "10.0.0.1:10911", RaftAddr: "10.0.0.1:10912", Connected: true, InSync: true},
		{Number: 1, ServerID: "1-x", Role: "voter", Address: "10.0.0.2:10911", RaftAddr: "10.0.0.2:10912", Node: "n1", Connected: true, InSync: true, LagBytes: 100, Muted: true},
		{Number: 2, ServerID: "2-x", Role: "learner", Address: "10.0.0.3:10911", RaftAddr: "10.0.0.3:10912", Connected: true, LagBytes: 5000, Filling: true, FilledSize: 3, FillSize: 10},
		{Number: -1, ServerID: "arbiter-x", Role: "arbiter", RaftAddr: "10.0.0.9:9877", Connected: true, InSync: true},
	}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("status %+v\nwant   %+v", got, want)
	}
}
