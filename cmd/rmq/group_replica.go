package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"rmq/compat/namesrv"
	"rmq/controller"
	"rmq/raftlog"
	"rmq/remoting/protocol"
	"rmq/store"
)

// What makes a broker one replica among several: its Raft port, its way into the group, who leads.

// replicaDir is where a replica keeps everything: one directory per group and replica below storePathRootDir, so that
// several groups of a process can share that.
func replicaDir(c *BrokerConfig) string {
	number := "auto"
	if n := replicaNumber(c); n >= 0 {
		number = strconv.Itoa(n)
	}
	return filepath.Join(c.StorePathRootDir, c.BrokerName+"-"+number)
}

// replicaNumber is a replica's number in its group by its file: its place in the list of members, or its brokerId. -1 is to
// be allocated by the group's leader.
func replicaNumber(c *BrokerConfig) int {
	if c.EnableDLegerCommitLog && c.DLegerSelfID >= 0 {
		return int(c.DLegerSelfID)
	}
	return int(c.BrokerID)
}

// numberFile keeps a number that was allocated.
const numberFile = "number"

// knownNumber returns the replica's number, -1 if it has none yet.
func knownNumber(c *BrokerConfig) (int, error) {
	if n := replicaNumber(c); n >= 0 {
		return n, nil
	}
	text, err := os.ReadFile(filepath.Join(replicaDir(c), numberFile))
	if errors.Is(err, os.ErrNotExist) {
		return -1, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s holds %q, which is no replica number", filepath.Join(replicaDir(c), numberFile), text)
	}
	return n, nil
}

// keepNumber makes an allocated number durable.
func keepNumber(c *BrokerConfig, n int) error {
	path := filepath.Join(replicaDir(c), numberFile)
	f, err := os.Create(path + ".tmp")
	if err != nil {
		return err
	}
	if _, err = fmt.Fprintln(f, n); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	return raftlog.OSFS().SyncDir(replicaDir(c))
}

// founding is how a replica with an empty directory comes into its group.
func founding(c *BrokerConfig) controller.Founding {
	switch {
	case c.EnableDLegerCommitLog:
		return controller.Listed
	case c.EnableControllerMode || c.BrokerID < 0:
		return controller.Either
	case c.BrokerRole == Slave:
		return controller.Join
	}
	return controller.First
}

// raftAddress is where the other replicas reach this one.
func raftAddress(c *BrokerConfig) string {
	if c.EnableDLegerCommitLog {
		for _, p := range c.DLegerPeers {
			if p.Number == c.DLegerSelfID {
				return p.Address
			}
		}
	}
	return net.JoinHostPort(c.BrokerIP2, strconv.Itoa(c.HaListenPort))
}

func (g *group) serverID(number int) string {
	return string(controller.Hello{Number: number, Incarnation: g.log.Identity().Incarnation}.ServerID())
}

// openNet opens the Raft port.
func (g *group) openNet() (err error) {
	c := g.config
	self := raftAddress(c)
	_, port, err := net.SplitHostPort(self)
	if err != nil {
		return fmt.Errorf("dLegerPeers: %w", err)
	}
	g.net, err = raftlog.ListenPeers(raftlog.PeerNetOptions{
		Listen: net.JoinHostPort(c.BindAddress, port), Advertise: self, ClusterID: c.BrokerClusterName, Group: c.BrokerName,
		ServerID: g.serverID(g.number), Logger: g.logger, Handler: g.calls.Handle,
		OnProgress: g.replicas.Progress, OnPeerDown: g.leaderDown,
		OnSnapshotOffered: func(addr, serverID string, term, index uint64) {
			if control := g.control.Load(); control != nil {
				control.SnapshotOffered(addr, serverID, term, index)
			}
		},
	})
	return err
}

// controllerOptions is what the life of this replica in its group depends on.
func (g *group) controllerOptions() controller.Options {
	c := g.config
	find := finder{client: g.o.client, nameServers: c.NamesrvAddr, cluster: c.BrokerClusterName, group: c.BrokerName, self: g.addr.String()}
	o := controller.Options{
		Name: c.BrokerName, Cluster: c.BrokerClusterName, Replica: g.number, Address: raftAddress(c), Net: g.net, Calls: &g.calls,
		ClientAddr: g.addr.String(), Log: g.log, Founding: founding(c), Refilling: g.o.refilling, Sink: g.sink,
		Listed: c.EnableDLegerCommitLog, Async: c.AsyncLearner, Replicas: g.replicas, FillBytesPerSecond: c.MaxHaTransferByteInSecond,
		Node: g.o.node, Refill: func() { g.o.refill(g) }, Removed: g.removed, Removals: groupRemovals{g},
		Pace:   controller.Pace{InSync: c.HaMaxTimeSlaveNotCatchup, Moves: c.LeaderBalanceInterval, Petition: controller.Petition{Known: leaderlessMax}},
		Export: g.export, Led: g.led, LeaderChanged: g.reregister, Logger: g.logger,
		Balance: func() bool { return c.LeaderBalance },
	}
	if c.BrokerElectionPriority != noPriority {
		o.Priority = c.BrokerElectionPriority + 1 // 0 is no wish
	}
	if c.EnableDLegerCommitLog {
		for _, p := range c.DLegerPeers {
			if p.Number != c.DLegerSelfID {
				o.Peers = append(o.Peers, controller.Peer{Number: int(p.Number), Address: p.Address})
			}
		}
	}
	if len(c.NamesrvAddr) > 0 {
		o.Find, o.Grant = find.find, g.grant
		if c.Arbiter == arbiterOn && !c.EnableDLegerCommitLog {
			o.Arbiters = g
		}
	}
	return o
}

// leaderlessMax is how long a replica whose directory was emptied waits for a leader of its group to fill it.
const leaderlessMax = 15 * time.Second

// noPriority is the default of brokerElectionPriority.
const noPriority = 1<<31 - 1

// admit brings the directory to where the group can be started: founded, filled, or as it is. It runs before the state is
// opened.
func (g *group) admit(ctx context.Context) (controller.Admission, error) {
	a, err := controller.Admit(ctx, g.controllerOptions())
	if err != nil {
		return a, err
	}
	if a.Number != g.number {
		if err := keepNumber(g.config, a.Number); err != nil {
			return a, fmt.Errorf("keep the replica's number: %w", err)
		}
		g.number = a.Number
		if err := g.net.SetServerID(g.serverID(a.Number)); err != nil {
			return a, err
		}
	}
	if a.Filled {
		return a, g.openLog()
	}
	return a, nil
}

// sink opens this replica's directory for being filled. Only the log is open at that time.
func (g *group) sink(offer controller.FillOffer) (controller.LogSink, controller.FileSink, error) {
	if err := g.log.Close(); err != nil {
		return nil, nil, err
	}
	log, err := raftlog.OpenSeeder(g.logDir(), g.logOptions(), offer.Point)
	if err != nil {
		return nil, nil, err
	}
	manifest := store.ExportManifest{Applied: offer.Applied}
	for _, f := range offer.Files {
		manifest.Files = append(manifest.Files, store.ExportFile{Name: f.Name, Size: f.Size})
	}
	files, err := store.NewImporter(g.stateDir(), raftlog.OSFS(), manifest)
	if err != nil {
		return nil, nil, errors.Join(err, log.Close())
	}
	return log, files, nil
}

// export pins the state's newest checkpoint, for another replica to be filled with.
func (g *group) export() (controller.Export, error) {
	e, err := g.store.Export()
	if err != nil {
		return controller.Export{}, err
	}
	out := controller.Export{Applied: e.Applied, ReadAt: e.ReadAt, Close: func() error { e.Close(); return nil }}
	for _, f := range e.Files {
		out.Files = append(out.Files, controller.FillFile{Name: f.Name, Size: f.Size})
	}
	return out, nil
}

// asker asks the name servers what only rmq's know.
func (g *group) asker() *namesrv.Asker {
	return &namesrv.Asker{Client: g.o.client, Servers: func() []string { return g.config.NamesrvAddr }}
}

// grant asks the name servers whether this replica may found the group.
func (g *group) grant(ctx context.Context, r controller.GrantRequest) error {
	until, err := g.asker().FoundGroup(ctx, protocol.FoundGroupBody{
		Cluster: r.Cluster, Group: r.Group, Number: controller.NumberOf(r.ServerID), ServerID: r.ServerID, RaftAddr: raftAddress(g.config), ClientAddr: g.addr.String(),
	})
	if errors.Is(err, namesrv.ErrGroupHeld) {
		return fmt.Errorf("%w: %w", controller.ErrDenied, err)
	}
	if err == nil && until.IsZero() && founding(g.config) == controller.Either {
		return errNobodyChooses
	}
	return err
}

// errNobodyChooses: of replicas that all may found the group, only a name server of rmq can choose one.
var errNobodyChooses = errors.New("no name server is rmq's, so that none can say which replica without a number founds the group: give one of them brokerId=0 without controller mode, the others brokerRole=SLAVE")

// Offer finds an arbiter for the group among the name servers.
func (g *group) Offer(ctx context.Context, r controller.ArbiterRequest) (controller.ArbiterOffer, error) {
	q := protocol.ArbiterRequest{Cluster: r.Cluster, Group: r.Group, Exclude: r.Exclude}
	conf, err := g.log.Configuration()
	if err != nil {
		return controller.ArbiterOffer{}, err
	}
	for _, s := range conf.Servers {
		if !controller.IsArbiter(string(s.ID)) {
			q.DataAddrs = append(q.DataAddrs, string(s.Address))
		}
	}
	offer, err := g.asker().OfferArbiter(ctx, q)
	if err == nil && offer.SharesHost {
		g.logger.Warn("the arbiter is on the machine of a data replica: losing that machine stops the group", "arbiter", offer.Address)
	}
	return controller.ArbiterOffer{ServerID: offer.ServerID, Address: offer.Address}, err
}

// reportPeriod is how often the name servers are told who is in the group when nothing has changed, reportPoll how often the leader
// looks whether something has.
const (
	reportPeriod = 30 * time.Second
	reportPoll   = time.Second
)

// reportMembers tells the name servers who is in the group, while this replica leads: they remember it, so that an emptied
// replica does not found the group a second time.
func (g *group) reportMembers(ctx context.Context) {
	tick := time.NewTicker(reportPoll)
	defer tick.Stop()
	var told time.Time
	var last string
	var pair pairWatch
	for {
		if g.leading() && pair.unsafe(g.control.Load().Replication(), time.Now()) {
			g.logger.Warn("the group has 2 replicas and no arbiter: no automatic fail-over. Name servers of rmq give one (arbiter=on)")
		}
		if report, text := g.membersReport(); g.leading() && (text != last || time.Since(told) > reportPeriod) {
			if taken, err := g.asker().ReportMembers(ctx, report); err != nil {
				g.logger.Debug("a name server was not told who is in the group", "taken", taken, "error", err)
			}
			last, told = text, time.Now()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (g *group) membersReport() (protocol.GroupMembersBody, string) {
	status := g.log.Status()
	report := protocol.GroupMembersBody{Cluster: g.config.BrokerClusterName, Group: g.config.BrokerName, Leader: status.LeaderID, Term: status.Term, ConfigurationIndex: g.log.ConfigurationIndex()}
	conf, err := g.log.Configuration()
	if err != nil {
		return report, "" // Raft ends
	}
	clients := make(map[string]string)
	for _, r := range g.control.Load().Replication() {
		clients[r.ServerID] = r.ClientAddr
	}
	for _, s := range conf.Servers {
		id := string(s.ID)
		report.Members = append(report.Members, protocol.GroupMember{
			ServerID: id, RaftAddr: string(s.Address), ClientAddr: clients[id], Voter: s.Suffrage == raft.Voter, Arbiter: controller.IsArbiter(id),
		})
	}
	return report, fmt.Sprint(report)
}

// pairWatch finds out that a group of two replicas stays without a third vote.
type pairWatch struct {
	since time.Time // zero: it does not
	said  bool
}

// pairPatience is how long a new pair may take to have its arbiter.
const pairPatience = 15 * time.Second

// unsafe reports, once each time it comes to that, that two data replicas have one vote between them.
func (w *pairWatch) unsafe(members []controller.ReplicaState, now time.Time) bool {
	data, votes := 0, 0
	for _, r := range members {
		switch {
		case r.Filling:
		case r.Role == controller.RoleLeader || r.Role == controller.RoleVoter:
			data, votes = data+1, votes+1
		case r.Role == controller.RoleLearner:
			data++
		}
	}
	switch {
	case data != 2 || votes != 1:
		*w = pairWatch{}
	case w.since.IsZero():
		w.since = now
	case now.Sub(w.since) > pairPatience && !w.said:
		w.said = true
		return true
	}
	return false
}
