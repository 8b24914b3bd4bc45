package namesrv

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"rmq/remoting"
	"rmq/remoting/protocol"
)

// Clock is the name server's only source of time.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f in its own goroutine after d; stop reports whether the call was prevented.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

// systemClock is the real clock.
type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }
func (systemClock) AfterFunc(d time.Duration, f func()) func() bool {
	return time.AfterFunc(d, f).Stop
}

// Options configures a NameServer. The zero value of a field means its default where one is named.
type Options struct {
	// KVConfigPath is the file of the KV configuration; needed. Its directory is made if it is not there.
	KVConfigPath string
	// OverridesPath is the file that settings changed at run time are kept in; they win over Settings at the next start.
	// Default: override.properties beside KVConfigPath.
	OverridesPath string
	// GroupsPath is the file that remembers who has founded which group. Default: groups.json beside KVConfigPath.
	GroupsPath string
	// Arbiters gives groups their third vote. Nil: this name server offers no arbiters. It is its owner's to close, afterwards.
	Arbiters ArbiterHost
	// Settings are those of the start; nil means DefaultSettings.
	Settings *Settings
	// FixedKeys are further configuration keys with their values: they are shown to whoever asks for the configuration,
	// and a request to change one is refused.
	FixedKeys map[string]string
	// RouteRequestsMax and RequestsMax bound how many requests for routes, and how many others, are in flight at a time.
	// Defaults 50,000 and 10,000.
	RouteRequestsMax int
	RequestsMax      int
	// HeldRoutesMax bounds the route requests that wait for a group's next leader; one more is answered at once. Default 10,000.
	HeldRoutesMax int
	// ActingMasterDelay is how long a group has to be without a leader before an acting master is shown. Default 10 s.
	ActingMasterDelay time.Duration
	Limits            Limits
	// Client reaches brokers: for notices of their group's smallest id (Settings.NotifyMinID), and to pass requests of admin tools
	// to a group's leader. Nil: neither.
	Client *remoting.Client
	Clock  Clock        // default: the real one
	Logger *slog.Logger // default: none
}

// overridesName is the default file of changed settings.
const overridesName = "override.properties"

// groupsName is the default file of the groups that are known.
const groupsName = "groups.json"

func (o *Options) setDefaults() error {
	if o.KVConfigPath == "" {
		return errors.New("name server: no path for the KV configuration")
	}
	if o.OverridesPath == "" {
		o.OverridesPath = filepath.Join(filepath.Dir(o.KVConfigPath), overridesName)
	}
	if o.GroupsPath == "" {
		o.GroupsPath = filepath.Join(filepath.Dir(o.KVConfigPath), groupsName)
	}
	if o.Settings == nil {
		settings := DefaultSettings()
		o.Settings = &settings
	}
	if o.RouteRequestsMax == 0 {
		o.RouteRequestsMax = 50_000
	}
	if o.RequestsMax == 0 {
		o.RequestsMax = 10_000
	}
	if o.HeldRoutesMax == 0 {
		o.HeldRoutesMax = 10_000
	}
	if o.ActingMasterDelay == 0 {
		o.ActingMasterDelay = 10 * time.Second
	}
	if o.Clock == nil {
		o.Clock = systemClock{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.RouteRequestsMax < 1 || o.RequestsMax < 1 || o.HeldRoutesMax < 1 || o.ActingMasterDelay < 0 {
		return errors.New("name server: limits must be at least 1, delays at least 0")
	}
	return nil
}

// NameServer answers the requests of brokers, clients and admin tools. It owns one goroutine that takes silent replicas out
// of the table, and one that tells brokers of a new smallest id, if there is a client for that. All methods are safe for concurrent use.
type NameServer struct {
	opts     Options
	clock    Clock
	logger   *slog.Logger
	started  time.Time
	table    *RouteTable
	kv       *KVConfig
	settings *settings
	groups   *groupMemory
	minIDs   *minIDNotifier // nil without a client
	held     *heldRoutes

	wipesMu sync.Mutex // held while the remembered wipes are brought up to date

	quit chan struct{}
	done chan struct{}
}

// New reads what is kept on disk and starts looking for silent replicas. Register connects the name server to requests.
// The caller calls Close in the end.
func New(opts Options) (*NameServer, error) {
	if err := opts.setDefaults(); err != nil {
		return nil, err
	}
	kv, err := OpenKVConfig(opts.KVConfigPath)
	if err != nil {
		return nil, fmt.Errorf("name server: %w", err)
	}
	changed, err := openSettings(opts.OverridesPath, *opts.Settings, opts.FixedKeys)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("name server: %w", err), kv.Close())
	}
	opts.Limits.setDefaults()
	groups, err := openGroupMemory(opts.GroupsPath, opts.Clock.Now, opts.Limits.Brokers)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("name server: %w", err), changed.close(), kv.Close())
	}
	s := &NameServer{
		opts:     opts,
		clock:    opts.Clock,
		logger:   opts.Logger,
		started:  opts.Clock.Now(),
		table:    NewRouteTable(opts.Clock.Now, opts.Limits),
		kv:       kv,
		settings: changed,
		groups:   groups,
		held:     newHeldRoutes(opts.Clock, opts.HeldRoutesMax),
		quit:     make(chan struct{}),
		done:     make(chan struct{}),
	}
	s.table.RestoreWipes(s.rememberedWipes())
	if opts.Client != nil {
		s.minIDs = newMinIDNotifier(opts.Client, s.table, s.logger)
	}
	go s.scan()
	return s, nil
}

// Close stops what runs by itself, brings what is on disk up to date and waits for both. The server that requests come from
// must be closed before, Options.Client after.
func (s *NameServer) Close() error {
	close(s.quit)
	<-s.done
	s.held.close()
	if s.minIDs != nil {
		s.minIDs.close()
	}
	return errors.Join(s.rememberWipes(), s.settings.close(), s.groups.close(), s.kv.Close())
}

// Table is the name server's view of the brokers.
func (s *NameServer) Table() *RouteTable { return s.table }

// Register adds the handlers of all name server requests to mux.
func (s *NameServer) Register(mux *remoting.Mux) {
	routes := &remoting.Class{Name: "route", Limit: s.opts.RouteRequestsMax, Mode: remoting.Inline, Key: "clientRequestThreadPoolQueueCapacity"}
	// Registrations of one connection must be taken in the order in which they were sent, so they run inline too.
	table := &remoting.Class{Name: "table", Limit: s.opts.RequestsMax, Mode: remoting.Inline, Key: "defaultThreadPoolQueueCapacity"}
	disk := &remoting.Class{Name: "configuration", Limit: s.opts.RequestsMax, Mode: remoting.Spawn, Key: "defaultThreadPoolQueueCapacity"}

	handle := func(code protocol.RequestCode, class *remoting.Class, answer func(*remoting.Request) *protocol.Command) {
		mux.Handle(code, class, func(r *remoting.Request) { r.Reply(answer(r)) })
	}
	mux.Handle(protocol.GetRouteinfoByTopic, routes, s.getRoute)

	handle(protocol.RegisterBroker, table, s.registerBroker)
	handle(protocol.UnregisterBroker, table, s.unregisterBroker)
	handle(protocol.BrokerHeartbeat, table, s.heartbeat)
	handle(protocol.QueryDataVersion, table, s.queryDataVersion)
	handle(protocol.RegisterTopicInNamesrv, table, s.registerTopic)
	handle(protocol.GetBrokerMemberGroup, table, s.getMemberGroup)
	handle(protocol.GetBrokerClusterInfo, table, s.getClusterInfo)
	handle(protocol.DeleteTopicInNamesrv, table, s.deleteTopic)
	handle(protocol.GetAllTopicListFromNameserver, table, s.getAllTopics)
	handle(protocol.GetTopicsByCluster, table, s.getTopicsOfCluster)
	handle(protocol.GetSystemTopicListFromNs, table, s.getSystemTopics)
	handle(protocol.GetUnitTopicList, table, s.topicList(s.table.UnitTopics))
	handle(protocol.GetHasUnitSubTopicList, table, s.topicList(s.table.UnitSubTopics))
	handle(protocol.GetHasUnitSubUnunitTopicList, table, s.topicList(s.table.UnitSubUnunitTopics))
	handle(protocol.GetKvConfig, table, s.getKV)
	handle(protocol.GetKvlistByNamespace, table, s.getKVNamespace)
	handle(protocol.GetNamesrvConfig, table, s.getConfig)

	handle(protocol.PutKvConfig, disk, s.putKV)
	handle(protocol.DeleteKvConfig, disk, s.deleteKV)
	handle(protocol.UpdateNamesrvConfig, disk, s.updateConfig)
	handle(protocol.WipeWritePermOfBroker, disk, s.wipeWritePerm)
	handle(protocol.AddWritePermOfBroker, disk, s.addWritePerm)

	handle(protocol.FoundGroup, disk, s.foundGroup)
	handle(protocol.GroupMembers, disk, s.groupMembers)
	handle(protocol.OfferArbiter, disk, s.offerArbiter)
	handle(protocol.ForgetGroup, disk, s.forgetGroup)

	handle(protocol.ControllerGetMetadataInfo, table, s.controllerMetadata)
	handle(protocol.ControllerElectMaster, disk, s.electMaster)
	handle(protocol.CleanBrokerData, disk, s.cleanBroker)
	handle(protocol.ControllerGetSyncStateData, disk, s.syncState)
}

// scan takes silent replicas out, until Close.
func (s *NameServer) scan() {
	defer close(s.done)
	for {
		tick := make(chan struct{})
		stop := s.clock.AfterFunc(s.settings.get().ScanInterval, func() { close(tick) })
		select {
		case <-s.quit:
			stop()
			return
		case <-tick:
		}
		for _, gone := range s.table.Expire() {
			s.logger.Warn("The broker channel expired", "broker", gone.BrokerName, "id", gone.ID, "address", gone.Address)
			s.observe(gone.BrokerName, "")
		}
		if err := s.rememberWipes(); err != nil {
			s.logger.Error("withdrawn write permissions are not remembered", "error", err)
		}
	}
}

// disconnected takes out the replicas that registered over a connection which is gone.
func (s *NameServer) disconnected(conn uint64) {
	for _, gone := range s.table.Disconnect(conn) {
		s.logger.Warn("the broker's channel was closed", "broker", gone.BrokerName, "id", gone.ID, "address", gone.Address)
		s.observe(gone.BrokerName, "")
	}
}

// observe is called after each change of a group's replicas; see minIDNotifier.observe.
func (s *NameServer) observe(brokerName, haAddress string) {
	if s.minIDs != nil {
		s.minIDs.observe(brokerName, haAddress, s.settings.get().NotifyMinID)
	}
}

// wipeNamespace keeps withdrawn write permissions in the KV configuration, so that a restart of this name server does not
// undo them: broker name -> "stateVersion:timestamp:counter" of the broker's topics at that time.
const wipeNamespace = "RMQ_WITHDRAWN_WRITE_PERM"

// rememberWipes brings the KV configuration in line with the table.
func (s *NameServer) rememberWipes() error {
	s.wipesMu.Lock()
	defer s.wipesMu.Unlock()
	want := map[string]string{}
	for name, at := range s.table.Wipes() {
		want[name] = fmt.Sprintf("%d:%d:%d", at.StateVersion, at.Timestamp, at.Counter)
	}
	if have, _ := s.kv.Namespace(wipeNamespace); maps.Equal(have, want) {
		return nil
	}
	return s.kv.Replace(wipeNamespace, want)
}

func (s *NameServer) rememberedWipes() map[string]Version {
	out := map[string]Version{}
	entries, _ := s.kv.Namespace(wipeNamespace)
	for name, text := range entries {
		at, err := parseVersion(text)
		if err != nil {
			s.logger.Warn("a remembered withdrawal of write permission is ignored", "broker", name, "error", err)
			continue
		}
		out[name] = at
	}
	return out
}

func parseVersion(text string) (v Version, err error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return v, fmt.Errorf("version %.100q has not three parts", text)
	}
	for i, to := range []*int64{&v.StateVersion, &v.Timestamp, &v.Counter} {
		if *to, err = strconv.ParseInt(parts[i], 10, 64); err != nil {
			return v, fmt.Errorf("version %.100q: %w", text, err)
		}
	}
	return v, nil
}
