package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"

	"rmq/compat"
	"rmq/compat/broker"
	"rmq/controller"
	"rmq/raftlog"
	"rmq/remoting"
	"rmq/store"
	"rmq/store/message"
)

// groupOptions is what one replica of one broker group needs beyond its configuration.
type groupOptions struct {
	config *BrokerConfig
	client *remoting.Client // for the name servers; shared by the groups of a process
	node   *controller.Node // of the process; nil: leaders are not spread
	logger *slog.Logger
	fatal  func(code int, id string, err error)
	// refill is told that the leader no longer has what this replica needs: the group is to be closed and started again with
	// refilling set. It must not block.
	refill    func(*group)
	refilling bool
	// removed is told that the replica is out of its group: it is to be closed. It must not block.
	removed func(g *group, why error)
}

// group is one running replica of one broker group: log, state, requests, and its entry at the name servers.
type group struct {
	o          groupOptions
	config     *BrokerConfig
	addr       netip.AddrPort // that clients reach this replica at
	number     int            // of the replica; -1 until the leader has allocated it
	logger     *slog.Logger
	log        *raftlog.Log
	store      *store.Store
	broker     *broker.Broker
	processors *compat.Processors
	control    atomic.Pointer[controller.Group]
	registered atomic.Bool    // with the name servers, once
	tasks      sync.WaitGroup // registrations after a change of leader, reports of the members
	ended      context.CancelFunc
	server     *remoting.Server
	registrar  *compat.Registrar
	slaveRead  atomic.Bool // slaveReadEnable, which may be changed
	expel      context.CancelCauseFunc
	out        error // why this replica is out of its group; its groupSet's to guard
	stale      bool  // it is to be filled anew; likewise

	net      *raftlog.PeerNet
	calls    controller.Switchboard
	replicas *controller.Replicas
	peers    *remoting.Client // to where other replicas answer clients
}

// startGroup opens a replica's directory, brings it into its group, and serves clients once somebody leads that. It returns
// when the broker is registered with the name servers, or none of them answered in time: registration goes on by itself.
func startGroup(ctx context.Context, o groupOptions) (g *group, err error) {
	c := o.config
	host, err := netip.ParseAddr(c.BrokerIP1)
	if err != nil {
		return nil, fmt.Errorf("brokerIP1=%s is not an IP address: %w", c.BrokerIP1, err)
	}
	g = &group{o: o, config: c, logger: o.logger.With("group", c.BrokerName), addr: netip.AddrPortFrom(host, uint16(c.ListenPort))}
	g.slaveRead.Store(c.SlaveReadEnable)
	g.replicas = controller.NewReplicas(func() uint64 { return g.log.Status().LastIndex })
	running, ended := context.WithCancel(context.Background())
	g.ended = ended
	defer func() {
		if err != nil {
			g.close(context.Background())
		}
	}()
	ctx, g.expel = context.WithCancelCause(ctx)
	defer g.expel(nil)
	if err = refuseRemoved(c); err != nil {
		return g, err
	}
	if g.number, err = knownNumber(c); err != nil {
		return g, err
	}
	if err = g.openLog(); err != nil {
		return g, err
	}
	if err = g.openNet(); err != nil {
		return g, err
	}
	admission, err := g.admit(ctx)
	if err != nil {
		return g, err
	}
	if err = g.openState(); err != nil {
		return g, err
	}
	if err = g.openBroker(o.client); err != nil {
		return g, err
	}
	if err = g.lead(ctx, admission); err != nil {
		return g, err
	}
	if len(c.NamesrvAddr) > 0 {
		g.tasks.Go(func() { g.reportMembers(running) })
	}
	g.takeOverClients(ctx)
	return g, g.serve(ctx)
}

// electionStep is how long each follower of a leader that died waits for the one before it to call an election. Two that
// call at once split the votes, and then Raft's time-outs decide, which takes ten times as long.
const electionStep = 70 * time.Millisecond

// leaderDown calls for an election at once when the leader's process is gone: its port refuses, so it cannot be leading.
// The followers take turns, by their numbers; whoever is asked for its vote meanwhile lets the other one try first.
func (g *group) leaderDown(addr string, refused bool) {
	if !refused || g.net.Muted() {
		return // it may be alive and cut off: Raft's own time-out decides
	}
	ctx, cancel := context.WithTimeout(context.Background(), electionTimeout)
	defer cancel()
	for wait := time.Duration(g.turn(addr)) * electionStep; ; wait = electionStep {
		term := g.log.Term()
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if leader := g.log.Status().LeaderAddr; leader != "" && leader != addr {
			return // another one leads already
		}
		if g.log.Term() == term {
			break
		}
		// Somebody asks for votes. It may lack entries that this replica has, and then it cannot win.
	}
	if err := g.net.TriggerElection(ctx); err != nil {
		g.logger.Info("no election was called at once", "error", err)
	}
}

// electionTimeout bounds a follower's call for an election; behind it Raft's own time-outs have decided long ago.
const electionTimeout = 2 * time.Second

// turn is this replica's place among the voters that may take the lead from the one at addr.
func (g *group) turn(addr string) int {
	self := g.number
	conf, err := g.log.Configuration()
	if err != nil {
		return self
	}
	turn := 0
	for _, s := range conf.Servers {
		number, _, _ := strings.Cut(string(s.ID), "-")
		n, err := strconv.Atoi(number)
		if err == nil && n < self && s.Suffrage == raft.Voter && string(s.Address) != addr {
			turn++
		}
	}
	return turn
}

func (g *group) logDir() string   { return filepath.Join(replicaDir(g.config), "log") }
func (g *group) stateDir() string { return filepath.Join(replicaDir(g.config), "state") }

func (g *group) logOptions() raftlog.Options {
	c := g.config
	return raftlog.Options{
		Logger: g.logger, SegmentBytes: c.MappedFileSizeCommitLog, Flush: flushMode(c.FlushDiskType == SyncFlush), FlushInterval: c.FlushIntervalCommitLog,
		Prepare:        func(record []byte) { g.broker.Prepare(record) },
		CompletedBatch: func() { g.processors.FlushReplies() },
		Fatal:          g.o.fatal,
	}
}

func flushMode(sync bool) raftlog.FlushMode {
	if sync {
		return raftlog.SyncFlush
	}
	return raftlog.AsyncFlush
}

// openLog recovers the log in the replica's directory, which it locks.
func (g *group) openLog() error {
	log, err := raftlog.Open(g.logDir(), g.logOptions())
	if err == nil {
		g.log = log
	}
	return err
}

// openState opens the state that belongs to the log.
func (g *group) openState() (err error) {
	g.store, err = store.Open(g.stateDir(), g.log, store.Options{
		FS: raftlog.OSFS(), Logger: g.logger, KeyIndex: g.config.MessageIndexEnable,
		Fatal: func(err error) {
			f := storeFault(err)
			g.o.fatal(f.Code, f.ID, f.Err)
		},
	})
	if err != nil {
		return storeFault(err)
	}
	return nil
}

// storeFault gives an error of the store the exit code and the name that it has in docs/operations.md.
func storeFault(err error) *raftlog.Fault {
	switch {
	case errors.Is(err, store.ErrVersion):
		return &raftlog.Fault{Code: raftlog.ExitConfigMismatch, ID: "CONFIG_MISMATCH", Err: err}
	case errors.Is(err, store.ErrCorrupt), errors.Is(err, store.ErrMismatch), errors.Is(err, store.ErrBadCommand), errors.Is(err, message.ErrMalformed):
		return &raftlog.Fault{Code: raftlog.ExitCorrupt, ID: "STORE_CORRUPT_UNREPAIRABLE", Err: err}
	}
	return &raftlog.Fault{Code: raftlog.ExitStoreFailed, ID: "STORE_WRITE_FAILED", Err: err}
}

func (g *group) openBroker(client *remoting.Client) (err error) {
	c := g.config
	o := broker.Options{
		Cluster: c.BrokerClusterName, Group: c.BrokerName, Host: g.addr,
		Permission: c.BrokerPermission, AutoCreateTopic: c.AutoCreateTopicEnable, AutoCreateGroup: c.AutoCreateSubscriptionGroup,
		DefaultTopicQueues: c.DefaultTopicQueueNums, MessageBytesMax: c.MaxMessageSize, DelayLevels: c.MessageDelayLevel,
		LongPolling: c.LongPollingEnable, ShortPolling: c.ShortPollingTimeMills, SendWaitMax: c.WaitTimeMillsInSendQueue,
		PullMessagesMax: c.MaxTransferCountOnMessageInMemory, PullBytesMax: c.MaxTransferBytesOnMessageInMemory,
		LitePull: c.LitePullMessageEnable, Region: c.RegionID, AcceptSendAfter: c.StartAcceptSendRequestTimeStamp,
		ClientExpiry: c.ChannelExpiredTimeout, RetentionAge: c.FileReservedTime, RetentionHours: c.DeleteWhen,
		RetentionCheckEvery: c.CleanResourceInterval, SegmentBytes: c.MappedFileSizeCommitLog,
		DiskUsedRatioMax: float64(c.DiskMaxUsedSpaceRatio) / 100, DiskForceRatio: float64(c.DiskSpaceCleanForciblyRatio) / 100,
		DiskWarningRatio: float64(c.DiskSpaceWarningLevelRatio) / 100,
		DiskUsage:        func() (float64, error) { return diskUsage(c.StorePathRootDir) },
		TrimLimit: func() int64 {
			if control := g.control.Load(); control != nil {
				return control.TrimLimit()
			}
			return 0 // it does not lead yet
		},
		Replicas: g.replicas, Settings: groupSettings(c), SlaveRead: g.slaveRead.Load, SlowReadBytes: slowReadBytes(c),
		SettingsChanged:  func(s broker.GroupSettings) { g.log.SetFlush(flushMode(s.SyncFlush)) },
		CompletedBatch:   func() { g.processors.FlushReplies() },
		NotifyMembership: compat.NotifyMembership,
		TopicsChanged:    g.topicsChanged,
		Logger:           g.logger,
	}
	if c.TraceTopicEnable {
		o.TraceTopic = c.MsgTraceTopicName
	}
	if g.broker, err = broker.New(g.log, g.store, o); err != nil {
		return err
	}
	g.peers = remoting.NewClient(remoting.ClientOptions{Logger: g.logger})
	g.processors = compat.New(compat.Options{
		Broker: g.broker, Identity: g.identity, Leadership: groupLeadership{g}, LeaderView: g.leaderView, Peers: g.peers,
		SlaveRead: g.slaveRead.Load, ActingMaster: func() bool { return c.EnableSlaveActingMaster }, ActingChanged: g.reregister,
		Replication: g.replication, ElectMaster: g.electMaster, RemoveReplica: g.removeReplica, UpdateConfig: g.updateConfig,
		Properties: g.properties, RuntimeInfo: g.runtimeInfo, Logger: g.logger, VersionDesc: versionDesc, RaftAddress: raftAddress(c),
	})
	g.registrar, err = compat.NewRegistrar(compat.RegistrarOptions{
		Client: client, NameServers: c.NamesrvAddr, Interval: c.RegisterNameServerPeriod, Timeout: c.RegisterBrokerTimeoutMills,
		Logger: g.logger, Source: g.registration,
	})
	return err
}

// leadTimeout bounds how long a group of one voter may take to lead itself at start, its replay included.
const leadTimeout = 5 * time.Minute

func (g *group) lead(ctx context.Context, a controller.Admission) error {
	o := g.controllerOptions()
	o.State, o.Servers, o.TakeOver, o.Lead = g.store, a.Servers, g.broker.TakeOver, g.broker.Lead
	control, err := controller.Start(ctx, o)
	if err != nil {
		return err
	}
	g.control.Store(control)
	ctx, cancel := context.WithTimeout(ctx, leadTimeout)
	defer cancel()
	return control.WaitLeader(ctx)
}

// clientsTimeout bounds how long a start waits for what the leader knows of consumers.
const clientsTimeout = 3 * time.Second

// takeOverClients takes over what the leader knows of consumers. Some of them will not tell this replica of themselves
// within the next minute, and expect it to know them if it leads by then.
func (g *group) takeOverClients(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, clientsTimeout)
	defer cancel()
	if err := g.processors.TakeOverClients(ctx); err != nil {
		g.logger.Info("the leader has not told of its consumers yet", "error", err)
	}
}

// leave hands the lead over, where there is somebody to take it, and lingers until the clients have followed.
func (g *group) leave() {
	if g.leading() && g.others() && g.handOver() {
		g.processors.GoAway()
		g.linger()
	}
}

// handOverTimeout bounds how long a stop waits for another replica to take over the lead.
const handOverTimeout = 3 * time.Second

// handOver makes another replica the leader before this one stops, so that clients are passed on to it and notice nothing.
// It reports whether one has taken over.
func (g *group) handOver() bool {
	ctx, cancel := context.WithTimeout(context.Background(), handOverTimeout)
	defer cancel()
	g.flushOffsets(ctx)
	err := g.log.TransferLeadership(ctx)
	if err == nil {
		_, err = g.control.Load().LeaderAddr(ctx)
	}
	if err != nil {
		g.logger.Warn("no other replica has taken over yet", "error", err)
		return false
	}
	g.net.SetMuted(true) // the lead must not come back to a replica that is about to go
	return true
}

const (
	// lingerMax bounds how long a stopping leader passes requests on after it has handed over: stock clients ask for
	// routes every 30 s.
	lingerMax = time.Minute
	// lingerQuiet without a request to pass on ends it: every client has found the new leader.
	lingerQuiet = 2 * time.Second
	lingerPoll  = 50 * time.Millisecond
)

// linger passes requests on to the new leader until the clients have found it themselves.
func (g *group) linger() {
	tick := time.NewTicker(lingerPoll)
	defer tick.Stop()
	began, quietSince, seen := time.Now(), time.Now(), int64(-1)
	for now := range tick.C {
		if n := g.processors.Forwarded(); n != seen {
			seen, quietSince = n, now
		}
		if now.Sub(quietSince) > lingerQuiet || now.Sub(began) > lingerMax {
			return
		}
	}
}

// led is told when this replica begins or ceases to lead.
func (g *group) led(leads bool) {
	if !leads {
		g.broker.StepDown() // the clients ask again, and are passed on to who leads then
	}
	g.reregister()
}

// reregister tells the name servers at once which number this replica shows under.
func (g *group) reregister() {
	if g.registered.Load() {
		g.tasks.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), registerTimeout)
			defer cancel()
			g.registrar.Register(ctx)
		})
	}
}

// serve opens the ports and registers the broker with the name servers. It returns when one of them has it, or when
// registerTimeout is over: registration goes on by itself.
func (g *group) serve(ctx context.Context) (err error) {
	mux := remoting.NewMux()
	g.processors.Register(mux)
	c := g.config
	g.server, err = remoting.Listen(remoting.ServerOptions{
		Addrs:  []string{net.JoinHostPort(c.BindAddress, strconv.Itoa(c.ListenPort)), net.JoinHostPort(c.BindAddress, strconv.Itoa(c.ListenPort-2))},
		Mux:    mux,
		Logger: g.logger, IdleTimeout: c.ServerChannelMaxIdleTimeSeconds,
	})
	if err != nil {
		return err
	}
	g.registered.Store(true)
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	if told := g.registrar.Register(ctx); len(told) == 0 && len(c.NamesrvAddr) > 0 {
		g.logger.Warn("no name server knows this broker yet; registering goes on", "nameServers", c.NamesrvAddr)
	}
	return nil
}

const (
	// registerTimeout bounds how long the start waits for name servers.
	registerTimeout = 5 * time.Second
	// announceTimeout bounds how long a change of topics waits for name servers: less than a tool waits for its answer.
	announceTimeout = 2 * time.Second
	// flushTimeout bounds the last write of consumer offsets.
	flushTimeout = 2 * time.Second
)

// topicsChanged tells the name servers of changed topics; with wait it returns when they know or do not answer.
func (g *group) topicsChanged(wait bool) {
	if !wait {
		g.registrar.Changed()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), announceTimeout)
	defer cancel()
	g.registrar.Announce(ctx)
}

// flushOffsets writes the progress of consumers that has been reported and is not in the log yet.
func (g *group) flushOffsets(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	if err := g.broker.FlushOffsets(ctx); err != nil {
		g.logger.Warn("consumer offsets of the last moments are lost, those messages come again", "error", err)
	}
}

// close stops the replica: name servers told, no new requests, progress written, log and state closed. It is safe on a
// group that started only in part.
func (g *group) close(ctx context.Context) {
	g.ended()
	if g.registrar != nil {
		if err := g.registrar.Close(); err != nil {
			g.logger.Warn("leaving the name servers", "error", err)
		}
	}
	if g.broker != nil {
		g.broker.EndParking()
	}
	if g.processors != nil {
		g.processors.Close()
	}
	if g.server != nil {
		if err := g.server.Close(ctx); err != nil {
			g.logger.Warn("closing connections", "error", err)
		}
	}
	if g.broker != nil && g.leading() {
		// Now that nobody reports progress any more; also when closing the connections has used up the time.
		g.flushOffsets(context.WithoutCancel(ctx))
	}
	if control := g.control.Load(); control != nil {
		control.Close()
		// The next start replays nothing.
		if err := g.log.Snapshot(); err != nil {
			g.logger.Info("no snapshot at the stop, the next start replays the end of the log", "error", err)
		}
	}
	if g.net != nil {
		if err := g.net.Close(); err != nil {
			g.logger.Warn("closing the Raft port", "error", err)
		}
	}
	if g.log != nil {
		if err := g.log.Close(); err != nil {
			g.logger.Error("closing the log", "error", err)
		}
	}
	if g.store != nil {
		if err := g.store.Close(); err != nil {
			g.logger.Error("closing the state", "error", err)
		}
	}
	if g.broker != nil {
		g.broker.Close()
	}
	g.tasks.Wait()
	if g.peers != nil {
		g.peers.Close()
	}
}

// versionDesc is the RocketMQ version whose protocol this broker speaks, in the form that tools print and parse.
const versionDesc = "V5_3_3-rmq"

// diskUsage is the used share of the file system that holds dir, as df counts it: space reserved for root is not free.
func diskUsage(dir string) (float64, error) {
	total, free, err := diskSpace(dir)
	if err != nil || total == 0 {
		return 0, err
	}
	return 1 - float64(free)/float64(total), nil
}

func diskSpace(dir string) (total, free uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, fmt.Errorf("disk space of %s: %w", dir, err)
	}
	used := (st.Blocks - st.Bfree) * uint64(st.Bsize)
	free = st.Bavail * uint64(st.Bsize)
	return used + free, free, nil
}

// runtimeInfo is what this process knows about the replica's log, disk and Raft.
func (g *group) runtimeInfo() map[string]string {
	status := g.log.Status()
	info := map[string]string{
		"commitLogMinOffset": fmt.Sprint(g.log.MinOffset()),
		"commitLogMaxOffset": fmt.Sprint(g.log.CommittedOffset()),
		"raftRole":           status.State,
		"raftTerm":           fmt.Sprint(status.Term),
		"raftCommitIndex":    fmt.Sprint(status.CommitIndex),
		"raftAppliedIndex":   fmt.Sprint(status.AppliedIndex),
		"raftServers":        g.raftServers(),
		"parkedPulls":        fmt.Sprint(g.broker.Parked()),
	}
	ratio := "-1"
	if total, free, err := diskSpace(g.config.StorePathRootDir); err == nil && total > 0 {
		ratio = fmt.Sprint(1 - float64(free)/float64(total))
		info["commitLogDirCapacity"] = fmt.Sprintf("Total : %s, Free : %s.", byteSize(total), byteSize(free))
	}
	info["commitLogDiskRatio"], info["consumeQueueDiskRatio"] = ratio, ratio
	info["commitLogDiskRatio_"+g.config.StorePathRootDir] = ratio
	return info
}

// byteSize writes a size as RocketMQ's tools do: "49.9 GiB".
func byteSize(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}

// registration is what the name servers are told of this broker.
func (g *group) registration() compat.Registration {
	// The term before the question who leads: a replica that has just lost the lead must not claim it with the term of the
	// next leader, whose own claim that would undo.
	term := g.log.Term()
	id := g.identity()
	version := g.store.TopicsVersion()
	version.StateVersion = int64(term) // fences off a leader of an older term
	return compat.Registration{
		Cluster: id.Cluster, BrokerName: id.BrokerName, BrokerID: id.BrokerID, Address: id.Addr,
		HAAddress: raftAddress(g.config), ActingMaster: g.config.EnableSlaveActingMaster,
		Permission: g.config.BrokerPermission, Version: version, Topics: g.store.Topics(),
	}
}

// errAddressInUse is a port that another program listens on.
var errAddressInUse error = unix.EADDRINUSE
