package compat

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"slices"
	"sync"
	"time"

	"rmq/compat/broker"
	"rmq/compat/namesrv"
	"rmq/remoting"
	"rmq/remoting/fastjson"
	"rmq/remoting/protocol"
	"rmq/store"
)

// Registration is what one replica tells the name servers about itself and its group's topics.
type Registration struct {
	Cluster    string
	BrokerName string
	BrokerID   int64 // 0 on the leader
	Address    string
	HAAddress  string
	// Permission is the broker's own; what it lacks is taken off every topic.
	Permission int32
	// ActingMaster asks name servers to show the smallest id as a leader for reads while the group has none for long
	// (enableSlaveActingMaster).
	ActingMaster bool
	// Version must differ whenever Topics or Permission do, and its StateVersion must be the Raft term: a name server takes
	// topics from a version that it does not know, and a leader only from a term that is not older than the one it knows.
	Version store.Version
	Topics  []store.TopicConfig // sorted by name; read only
}

// RegistrarOptions configures a Registrar. The zero value of a field means its default where one is named.
type RegistrarOptions struct {
	Client      *remoting.Client
	NameServers []string      // host:port of each
	Interval    time.Duration // between registrations without a reason; default 30 s, kept between 10 s and 60 s
	Timeout     time.Duration // of one registration with one name server; default 24 s
	Logger      *slog.Logger  // default: none
	Clock       broker.Clock  // default: the real one
	// Source tells the present state; it has to read Version before Topics, so that it never names a version newer than
	// the topics beside it. It is called from several goroutines, one at a time, and must not call the registrar.
	Source func() Registration
	// OrderConfig takes the order configuration of all topics (topic -> "brokerA:4;brokerB:4") as a name server returned it.
	// Called one at a time; nil if nobody wants it.
	OrderConfig func(map[string]string)
}

// Bounds of RegistrarOptions.Interval: name servers forget a broker after 120 s, and must not be flooded.
const (
	registerIntervalMin = 10 * time.Second
	registerIntervalMax = 60 * time.Second
)

// A name server that does not answer is tried again after retryMin, then after twice that, up to retryMax.
const (
	retryMin = time.Second
	retryMax = 8 * time.Second
)

// topicsPerRequest keeps a registration below 4 MiB, a quarter of what a frame holds: a topic takes 200 to 400 bytes. The
// compressed form would hold more, but it leaves out the topics' system flags, and 4.x name servers cannot read one with
// attributes.
const topicsPerRequest = 8_000

// unregisterTimeout bounds how long Close waits for name servers.
const unregisterTimeout = 3 * time.Second

func (o *RegistrarOptions) setDefaults() error {
	if o.Client == nil || o.Source == nil {
		return errors.New("registrar: Client and Source are needed")
	}
	if o.Interval == 0 {
		o.Interval = 30 * time.Second
	}
	o.Interval = min(max(o.Interval, registerIntervalMin), registerIntervalMax)
	if o.Timeout == 0 {
		o.Timeout = 24 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = broker.SystemClock{}
	}
	return nil
}

// Registrar keeps all name servers told of one replica of one group. Each name server has a connection and a goroutine of
// its own, so that one which hangs holds up no other. Between full registrations it is told only of what changed since
// the last one that it acknowledged; one that comes back after an absence is told everything.
//
// Nothing is sent before the first call of Register. All methods are safe for concurrent use.
type Registrar struct {
	opts   RegistrarOptions
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	peers  []*registrarPeer
	wg     sync.WaitGroup

	mu      sync.Mutex
	demands uint64 // how often something was to be told
	full    uint64 // the newest demand for a full registration; 0 before the first
	current *Registration
	taken   uint64 // current answers the demands up to this one

	orderMu sync.Mutex // serialises OrderConfig
}

// registrarPeer is one name server. Its unguarded fields belong to its goroutine.
type registrarPeer struct {
	r       *Registrar
	address string
	wake    chan struct{} // holds one token when there is a new demand

	conn     *remoting.Conn
	sent     *Registration // what was sent last over conn
	acked    *Registration // sent, if it was acknowledged; nil: the name server has to be told everything
	failures int           // registrations that failed since one that succeeded
	known    bool          // a registration has succeeded or failed before

	mu       sync.Mutex
	tried    uint64        // demands up to this one were told, or could not be
	told     uint64        // demands up to this one were acknowledged
	progress chan struct{} // closed and replaced when tried grows
}

// NewRegistrar starts a registrar that waits for its first demand. The caller calls Close in the end.
func NewRegistrar(o RegistrarOptions) (*Registrar, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	r := &Registrar{opts: o}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	for _, address := range o.NameServers {
		p := &registrarPeer{r: r, address: address, wake: make(chan struct{}, 1), progress: make(chan struct{})}
		r.peers = append(r.peers, p)
		r.wg.Go(p.run)
	}
	return r, nil
}

// Close takes the replica off all name servers that it is registered with, waiting no longer than three seconds for their
// answers, and ends the registrar.
func (r *Registrar) Close() error {
	r.cancel()
	r.wg.Wait()
	return nil
}

// Register has all name servers told everything at once, in parallel, and waits until each has answered or failed, or ctx
// ends. It returns those that acknowledged. The caller calls it at the start and when the replica's role changes.
func (r *Registrar) Register(ctx context.Context) []string {
	r.mu.Lock()
	r.demands++
	r.full = r.demands
	demand := r.demands
	r.mu.Unlock()
	return r.await(ctx, demand)
}

// Announce has all name servers told what changed, in one request for all changes since the last, and waits as Register
// does. A name server that did not answer lately is not waited for.
func (r *Registrar) Announce(ctx context.Context) []string {
	demand, ok := r.demand()
	if !ok {
		return nil
	}
	return r.await(ctx, demand)
}

// Changed is Announce without waiting.
func (r *Registrar) Changed() {
	if _, ok := r.demand(); ok {
		r.wakeAll()
	}
}

func (r *Registrar) demand() (uint64, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.full == 0 {
		return 0, false
	}
	r.demands++
	return r.demands, true
}

func (r *Registrar) wakeAll() {
	for _, p := range r.peers {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

func (r *Registrar) await(ctx context.Context, demand uint64) []string {
	r.wakeAll()
	var told []string
	for _, p := range r.peers {
		if p.await(ctx, demand) {
			told = append(told, p.address)
		}
	}
	return told
}

func (p *registrarPeer) await(ctx context.Context, demand uint64) bool {
	for {
		p.mu.Lock()
		tried, told, progress := p.tried >= demand, p.told >= demand, p.progress
		p.mu.Unlock()
		if tried {
			return told
		}
		select {
		case <-progress:
		case <-ctx.Done():
			return false
		case <-p.r.ctx.Done():
			return false
		}
	}
}

// settle notes that the demands up to the one given were told, or could not be.
func (p *registrarPeer) settle(demand uint64, told bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tried = max(p.tried, demand)
	if told {
		p.told = max(p.told, demand)
	}
	close(p.progress)
	p.progress = make(chan struct{})
}

// pending returns the newest demand, the newest one for a full registration, and whether the peer has settled them.
func (p *registrarPeer) pending() (demand, full uint64, settled, settledFull bool) {
	p.r.mu.Lock()
	demand, full = p.r.demands, p.r.full
	p.r.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	return demand, full, p.tried >= demand, p.tried >= full
}

// snapshot returns a state that was taken after the demand was made. Peers share it.
func (r *Registrar) snapshot(demand uint64) *Registration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current == nil || r.taken < demand {
		taken := r.opts.Source()
		r.current, r.taken = &taken, r.demands
	}
	return r.current
}

// refresh makes the next snapshot a new one, though nobody said that anything changed.
func (r *Registrar) refresh() {
	r.mu.Lock()
	r.current = nil
	r.mu.Unlock()
}

// run tells one name server what it has to know, until the registrar is closed.
func (p *registrarPeer) run() {
	ctx := p.r.ctx
	defer p.unregister()
	var due <-chan struct{} // the next registration without a reason, or the next attempt after a failure
	stop := func() bool { return true }
	for {
		everything := false
		select {
		case <-ctx.Done():
			stop()
			return
		case <-p.wake:
		case <-due:
			p.r.refresh()
			everything = true
		case <-p.lost():
			p.disconnect()
			everything = true
		}
		demand, full, settled, settledFull := p.pending()
		if full == 0 || (settled && !everything) {
			continue
		}
		everything = everything || !settledFull
		if p.failures > 0 && !everything {
			p.settle(demand, false) // the next attempt is due soon and will tell it
			continue
		}
		err := p.tell(ctx, demand, everything)
		p.note(err)
		p.settle(demand, err == nil)
		stop()
		due, stop = p.after(p.pause())
	}
}

// after is a channel that is closed in d, unless it is stopped.
func (p *registrarPeer) after(d time.Duration) (<-chan struct{}, func() bool) {
	c := make(chan struct{})
	return c, p.r.opts.Clock.AfterFunc(d, func() { close(c) })
}

func (p *registrarPeer) pause() time.Duration {
	if p.failures == 0 {
		return p.r.opts.Interval
	}
	return min(retryMin<<min(p.failures-1, 8), retryMax)
}

// note counts and logs the outcome of a registration: each change from failing to succeeding and back.
func (p *registrarPeer) note(err error) {
	log := p.r.opts.Logger
	switch {
	case err == nil:
		if p.failures > 0 || !p.known {
			// Operators search for this text.
			log.Info("Registering current broker to name server completed. TargetHost=" + p.address)
		}
		p.failures = 0
	case p.failures == 0 || !p.known:
		log.Warn("registering with a name server failed", "name server", p.address, "error", err)
		p.failures++
	default:
		log.Debug("registering with a name server failed again", "name server", p.address, "error", err)
		p.failures++
	}
	p.known = true
}

// lost is closed when the connection is; nil without one.
func (p *registrarPeer) lost() <-chan struct{} {
	if p.conn == nil {
		return nil
	}
	return p.conn.Done()
}

func (p *registrarPeer) disconnect() {
	if p.conn != nil {
		p.conn.Close()
	}
	p.conn, p.sent, p.acked = nil, nil, nil
}

// tell registers: with all topics if everything is set or the name server's knowledge is in doubt, else with those that
// changed since the last registration, or not at all if none did.
func (p *registrarPeer) tell(ctx context.Context, demand uint64, everything bool) error {
	ctx, cancel := context.WithTimeout(ctx, p.r.opts.Timeout)
	defer cancel()
	now := p.r.snapshot(demand)
	if p.conn == nil {
		conn, err := p.r.opts.Client.Dial(ctx, p.address)
		if err != nil {
			return err
		}
		p.conn = conn
	}
	if !everything && p.acked != nil {
		changed, all := changedTopics(p.acked, now)
		if !all && len(changed) == 0 {
			return nil
		}
		if !all {
			if err := p.send(ctx, now, changed, true); err == nil || ctx.Err() != nil || p.conn == nil {
				return err
			}
			// The name server has forgotten this replica, or never took it in: it is told everything.
		}
	}
	return p.send(ctx, now, now.Topics, false)
}

// send registers topics in as few requests as their number allows.
func (p *registrarPeer) send(ctx context.Context, now *Registration, topics []store.TopicConfig, incremental bool) error {
	known := p.acked != nil && p.acked.Version == now.Version
	p.sent, p.acked = now, nil
	parts := slices.Collect(slices.Chunk(topics, topicsPerRequest))
	if len(parts) == 0 {
		parts = append(parts, nil)
	}
	for i, part := range parts {
		version := now.Version
		if i < len(parts)-1 && !known {
			// A name server takes changed topics from a version that differs from the one before. The last part has the
			// true one.
			version.Counter = int64(-1 - i)
		}
		if err := p.sendPart(ctx, now, part, version, incremental || len(parts) > 1); err != nil {
			return err
		}
	}
	p.acked = now
	return nil
}

func (p *registrarPeer) sendPart(ctx context.Context, now *Registration, topics []store.TopicConfig, version store.Version, incremental bool) error {
	request, err := registerRequest(now, topics, version, incremental)
	if err != nil {
		return err
	}
	answer, err := p.conn.Call(ctx, request)
	if err != nil {
		p.disconnect()
		return err
	}
	if answer.Code != protocol.Success {
		return fmt.Errorf("name server answered code %d: %s", answer.Code, answer.Remark)
	}
	return p.takeAnswer(now, answer)
}

func (p *registrarPeer) takeAnswer(now *Registration, answer *protocol.Command) error {
	var h protocol.RegisterBrokerResponseHeader
	if err := h.Decode(answer.Ext); err != nil {
		return fmt.Errorf("answer to registration: %w", err)
	}
	if now.BrokerID == namesrv.LeaderID && h.MasterAddr != "" && h.MasterAddr != now.Address {
		p.r.opts.Logger.Warn("a name server knows a newer leader", "name server", p.address, "leader", h.MasterAddr)
	}
	if p.r.opts.OrderConfig == nil || len(answer.Body) == 0 {
		return nil
	}
	var order protocol.KVTable
	if err := fastjson.Unmarshal(answer.Body, &order); err != nil {
		return fmt.Errorf("answer to registration: %w", err)
	}
	p.r.orderMu.Lock()
	defer p.r.orderMu.Unlock()
	p.r.opts.OrderConfig(order.Table)
	return nil
}

// unregister takes the replica off the name server, if there is a connection on which it may be registered.
func (p *registrarPeer) unregister() {
	defer p.disconnect()
	last := p.sent
	if last == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), unregisterTimeout)
	defer cancel()
	request := protocol.NewRequest(protocol.UnregisterBroker, &protocol.UnRegisterBrokerRequestHeader{
		BrokerName: last.BrokerName, BrokerAddr: last.Address, ClusterName: last.Cluster, BrokerID: last.BrokerID,
	})
	if _, err := p.conn.Call(ctx, request); err != nil {
		p.r.opts.Logger.Warn("unregistering from a name server failed", "name server", p.address, "error", err)
	}
}

// changedTopics returns the topics of now that before lacks or holds otherwise. all says that they do not tell the whole
// difference, or are so many that everything may as well be told.
func changedTopics(before, now *Registration) (changed []store.TopicConfig, all bool) {
	if before.Cluster != now.Cluster || before.BrokerName != now.BrokerName || before.BrokerID != now.BrokerID ||
		before.Address != now.Address || before.HAAddress != now.HAAddress || before.Permission != now.Permission || before.ActingMaster != now.ActingMaster {
		return nil, true
	}
	old := before.Topics
	for i := range now.Topics {
		topic := &now.Topics[i]
		if len(old) == 0 || old[0].Name > topic.Name {
			changed = append(changed, *topic)
			continue
		}
		if old[0].Name < topic.Name {
			return nil, true // a topic is gone
		}
		if !old[0].Equal(topic) {
			changed = append(changed, *topic)
		}
		old = old[1:]
	}
	all = len(old) > 0 || 2*len(changed) > len(now.Topics) || (len(changed) == 0 && before.Version != now.Version)
	return changed, all
}

func registerRequest(now *Registration, topics []store.TopicConfig, version store.Version, incremental bool) (*protocol.Command, error) {
	text, err := protocol.EncodeBody(registerBody(now.Permission, topics, version))
	if err != nil {
		return nil, fmt.Errorf("registration: %w", err)
	}
	request := protocol.NewRequest(protocol.RegisterBroker, &protocol.RegisterBrokerRequestHeader{
		BrokerName:   now.BrokerName,
		BrokerAddr:   now.Address,
		ClusterName:  now.Cluster,
		HAServerAddr: now.HAAddress,
		BrokerID:     now.BrokerID,
		// Says that this is a 5.x broker: without a leader, the smallest id may report the topics.
		HasEnableActingMaster: true,
		EnableActingMaster:    now.ActingMaster,
		BodyCrc32:             int32(crc32.ChecksumIEEE(text) & 0x7fffffff),
	})
	if incremental {
		request.Ext.Set(namesrv.IncrementalField, "true")
	}
	request.Body = text
	return request, nil
}

func registerBody(permission int32, topics []store.TopicConfig, version store.Version) *protocol.RegisterBrokerBody {
	body := &protocol.RegisterBrokerBody{FilterServerList: []string{}}
	wrapper := &body.TopicConfigSerializeWrapper
	wrapper.DataVersion = protocol.DataVersion{StateVersion: version.StateVersion, Timestamp: version.Timestamp, Counter: version.Counter}
	const readWrite = broker.PermRead | broker.PermWrite
	mask := int32(-1)
	if permission&readWrite != readWrite {
		mask = permission
	}
	wrapper.TopicConfigTable = make(map[string]protocol.TopicConfig, len(topics))
	for i := range topics {
		t := &topics[i]
		filter := t.FilterType
		if filter == "" {
			filter = protocol.SingleTag
		}
		wrapper.TopicConfigTable[t.Name] = protocol.TopicConfig{
			TopicName:       t.Name,
			ReadQueueNums:   t.ReadQueues,
			WriteQueueNums:  t.WriteQueues,
			Perm:            t.Perm & mask,
			TopicFilterType: filter,
			TopicSysFlag:    t.SysFlag,
			Order:           t.Order,
			Attributes:      t.Attributes,
		}
	}
	return body
}
