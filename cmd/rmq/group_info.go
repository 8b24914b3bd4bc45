package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"

	"rmq/compat"
	"rmq/compat/broker"
	"rmq/controller"
)

// What requests and name servers are told of a replica and its group, and what they may change.

// groupSettings is what a file says of the settings that all replicas of a group share. SLAVE, and the words of files that
// list their members or ask for a controller, say nothing of acknowledgement.
func groupSettings(c *BrokerConfig) broker.GroupSettings {
	s := broker.GroupSettings{
		SyncFlush: c.FlushDiskType == SyncFlush, InSync: c.InSyncReplicas, MinInSync: c.MinInSyncReplicas, AllInSync: c.AllAckInSyncStateSet,
		SlaveTimeout: c.SlaveTimeout, LagMessages: c.AsyncLagMessages, LagBytes: c.AsyncLagBytes, LagAge: c.AsyncLagMillis,
	}
	if c.EnableDLegerCommitLog || c.EnableControllerMode || !c.keys.isSet("brokerRole") {
		return s
	}
	switch c.BrokerRole {
	case SyncMaster:
		s.Role = broker.RoleSync
	case AsyncMaster:
		s.Role = broker.RoleAsync
	}
	return s
}

// slowReadBytes is how far behind a consumer may be before it is sent to a follower.
func slowReadBytes(c *BrokerConfig) int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return int64(info.Totalram) * int64(info.Unit) / 100 * int64(c.AccessMessageInMemoryMaxRatio)
}

// leading reports whether this replica leads its group and is ready to answer. Raft's word counts too: the leader's duties end a
// moment after the lead.
func (g *group) leading() bool {
	control := g.control.Load()
	return control != nil && control.Leading() && g.log.IsLeader()
}

// others reports whether another replica could lead.
func (g *group) others() bool {
	for _, r := range g.control.Load().Replication() {
		if r.Role == controller.RoleVoter {
			return true
		}
	}
	return false
}

// leaderView tells whether anybody leads, without waiting.
func (g *group) leaderView() compat.LeaderView {
	v := compat.LeaderView{Term: g.log.Status().Term}
	if control := g.control.Load(); control != nil {
		_, v.Known = control.LeaderNumber()
	}
	if g.leading() {
		v.Known = true
	}
	return v
}

// raftServers is the members of the group as this replica's log has them, sorted: "0-ID=voter 1-ID=learner arbiter-ID=voter".
func (g *group) raftServers() string {
	conf, err := g.log.Configuration()
	if err != nil {
		return ""
	}
	var words []string
	for _, s := range conf.Servers {
		word := "learner"
		if s.Suffrage == raft.Voter {
			word = "voter"
		}
		words = append(words, string(s.ID)+"="+word)
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

type groupLeadership struct{ g *group }

func (l groupLeadership) Leading() bool { return l.g.leading() }

func (l groupLeadership) LeaderAddr(ctx context.Context) (string, error) {
	return l.g.control.Load().LeaderAddr(ctx)
}

func (l groupLeadership) LeaderAddrOrHere(ctx context.Context) (string, error) {
	return l.g.control.Load().LeaderAddrOrHere(ctx)
}

func (g *group) identity() compat.Identity {
	return compat.Identity{Cluster: g.config.BrokerClusterName, BrokerName: g.config.BrokerName, BrokerID: g.shownID(), Addr: g.addr.String()}
}

// shownID is the broker id that clients see. They take 0 for the master, so the leader is always 0; replica 0 shows under
// the leader's number meanwhile.
func (g *group) shownID() int64 {
	control := g.control.Load()
	if control == nil || g.leading() {
		return 0
	}
	if g.number != 0 {
		return int64(g.number)
	}
	if leader, ok := control.LeaderNumber(); ok && leader > 0 {
		return int64(leader)
	}
	// Nobody leads: a number that no replica has.
	number := 0
	for _, r := range control.Replication() {
		number = max(number, r.Number)
	}
	return int64(number + 1)
}

// replication is what this replica knows of the group's copies.
func (g *group) replication() compat.Replication {
	r := compat.Replication{Term: g.log.Term(), ConfigurationIndex: g.log.ConfigurationIndex(), End: g.log.CommittedOffset()}
	control := g.control.Load()
	if control == nil {
		return r
	}
	for _, s := range control.Replication() {
		r.Replicas = append(r.Replicas, compat.ReplicaState{
			Number: s.Number, ServerID: s.ServerID, Address: s.Address, ClientAddr: s.ClientAddr, Role: string(s.Role), Match: s.Match,
			LagBytes: s.LagBytes, InSync: s.InSync && s.LagBytes <= g.config.HaMaxGapNotInSync, Connected: s.Connected, Muted: s.Muted, Filling: s.Filling,
			Filled: s.Filled, FillBytes: s.FillBytes, Node: s.Node,
		})
	}
	return r
}

// electMaster hands the lead over to a replica.
func (g *group) electMaster(ctx context.Context, number int) error {
	return g.control.Load().ElectMaster(ctx, number)
}

// updateConfig changes keys of this replica that take effect while it runs.
func (g *group) updateConfig(_ context.Context, changes map[string]string) (restart []string, err error) {
	for key, value := range changes {
		if _, _, known := g.config.keys.table.find(key); !known {
			return nil, &broker.Refusal{Reason: broker.InvalidParameter, Text: fmt.Sprintf("%.100q is not a key of a broker", key)}
		}
		if key != "slaveReadEnable" {
			return nil, &broker.Refusal{Reason: broker.InvalidParameter, Text: key + " cannot be changed while the broker runs: change its file and start it again"}
		}
		if _, err := parseBoolean(value); err != nil {
			return nil, &broker.Refusal{Reason: broker.InvalidParameter, Text: fmt.Sprintf("%s=%.100s: %v", key, value, err)}
		}
	}
	for _, value := range changes {
		on, err := parseBoolean(value)
		if err != nil {
			return nil, err // cannot be: it was checked
		}
		g.slaveRead.Store(on)
	}
	return nil, nil
}

// properties is the effective configuration: the file's, but for what the group shares.
func (g *group) properties() []compat.Property {
	shared := g.broker.GroupConfig()
	var list []compat.Property
	for _, item := range g.config.Items() {
		value := item.Value
		if v, ok := shared[item.Key]; ok && (item.Key != "brokerRole" || g.config.BrokerRole != Slave) {
			value = v
		}
		if item.Key == "slaveReadEnable" {
			value = fmt.Sprint(g.slaveRead.Load())
		}
		list = append(list, compat.Property{Key: item.Key, Value: value})
	}
	return list
}
