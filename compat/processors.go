// Package compat lets RocketMQ's clients and tools talk to a broker group: it decodes requests, calls package broker, and
// encodes the answers. It holds no rule of messaging. The words brokerName, brokerId and response code end here.
package compat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"rmq/compat/broker"
	"rmq/remoting"
	"rmq/remoting/protocol"
)

// Identity is how a replica presents itself to clients and name servers.
type Identity struct {
	Cluster    string
	BrokerName string
	BrokerID   int64
	Addr       string // host:port that clients reach this replica at
}

// Options configures Processors.
type Options struct {
	Broker   *broker.Broker
	Identity func() Identity
	// Properties is the effective configuration in the order in which it is shown, with the classic key names.
	Properties func() []Property
	// RuntimeInfo adds the process's own facts (log positions, disk, Raft) to the answer to GET_BROKER_RUNTIME_INFO.
	RuntimeInfo func() map[string]string
	// Leadership tells who leads; nil stands for a group of one replica. Peers carries what is passed on to the leader.
	Leadership Leadership
	Peers      *remoting.Client
	// LeaderView tells whether anybody leads, without waiting. With nil a replica that does not lead takes it that another
	// one does, or will soon: it waits for every leader as long as it may, and never stands in for one.
	LeaderView func() LeaderView
	// SlaveRead says that a replica which does not lead answers reads of messages and offsets from its copy
	// (slaveReadEnable, which may change at any time); nil: never.
	SlaveRead func() bool
	// ActingMaster says that such a replica stands in for a leader which the group has not had for ten seconds
	// (enableSlaveActingMaster); nil: never. ActingChanged, if not nil, is told when Acting has changed; it must not block.
	ActingMaster  func() bool
	ActingChanged func()
	// Replication tells what this replica knows of the group's copies; nil: nothing.
	Replication func() Replication
	// Epochs lists the terms whose entries are in the log, oldest first; nil: not supported.
	Epochs func() []Epoch
	// ElectMaster hands the lead over to a replica, by its number; it is called on the leader only. nil: not supported.
	ElectMaster func(ctx context.Context, number int) error
	// RemoveReplica takes a replica out of the group, by its number: living says that it may be in contact. It is called on the
	// leader only, which may be the one that is removed. An error that is a *broker.Refusal goes to the client as it is. nil: not
	// supported.
	RemoveReplica func(ctx context.Context, number int, living bool) error
	// UpdateConfig changes keys of the configuration, all or none, and tells which of them take effect at the next start
	// only. An error that is a *broker.Refusal goes to the client as it is. nil: not supported.
	UpdateConfig func(ctx context.Context, changes map[string]string) (restart []string, err error)
	Logger       *slog.Logger
	VersionDesc  string // what runtime information calls the version
	RaftAddress  string // of the Raft port, for replicas that want to join; "" if there is none
}

// Property is one line of a configuration.
type Property struct{ Key, Value string }

// Processors answers the requests of one broker group.
type Processors struct {
	Options
	broker *broker.Broker
	ctx    context.Context
	cancel context.CancelFunc

	// replies gathers the answers to sends that one commit completes, so that each connection gets one write.
	batching sync.Mutex
	replies  *remoting.Batch

	routes    map[int32]route // of requests that are the leader's; filled by Register
	leader    leaderWatch
	acting    atomic.Bool
	led       atomic.Bool    // at the last look
	passing   sync.Mutex     // no request starts on its way when ctx has ended
	forwards  sync.WaitGroup // requests on their way to the leader, and watchLeader
	forwarded atomic.Int64   // how many there were
	leaving   departure

	mu       sync.Mutex
	attempts map[*attempt]struct{} // requests that a leader was asked to answer
}

// New returns the processors of a group; Close ends what they wait for.
func New(o Options) *Processors {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Processors{
		Options: o, broker: o.Broker, replies: remoting.NewBatch(), routes: make(map[int32]route), attempts: make(map[*attempt]struct{}),
		leader: newLeaderWatch(time.Now()),
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	if o.Leadership != nil && o.LeaderView != nil {
		p.forwards.Go(func() { p.watchLeader(p.ctx) })
	} else {
		p.leader.view.Known, p.leader.reign = true, p.ctx
	}
	return p
}

// Close makes requests that wait for a commit or for a client answer with what they have.
func (p *Processors) Close() {
	p.passing.Lock()
	p.cancel()
	p.passing.Unlock()
	p.forwards.Wait()
	// A stop does not wait for messages that another replica may have some day.
	for _, a := range p.takeAll(func(a *attempt) bool { return a.pull != nil }) {
		a.r.Reply(unavailable(errStopping))
	}
}

var errStopping = errors.New("this replica is stopping, nothing was stored")

// FlushReplies writes the answers gathered so far; it is raftlog's CompletedBatch.
func (p *Processors) FlushReplies() {
	p.batching.Lock()
	defer p.batching.Unlock()
	p.replies.Flush()
}

func (p *Processors) replyBatched(r *remoting.Request, resp *protocol.Command) {
	p.batching.Lock()
	defer p.batching.Unlock()
	p.replies.Reply(r, resp)
}

// Limits of requests in flight, over all connections of a group. Sends are bounded by the log's own queue too.
const (
	sendsMax   = 100_000
	pullsMax   = 60_000 // parked ones included, which the broker bounds at 50,000
	clientsMax = 10_000
	queriesMax = 256
	adminMax   = 64
	// replicasMax is for other replicas, each of which has one request waiting.
	replicasMax = 64
)

// requestTimeout bounds how long a request that waits for a commit may take: clients give up after 3 s (mqadmin 5 s).
const requestTimeout = 5 * time.Second

// Register adds the handlers of every request that a broker answers.
func (p *Processors) Register(mux *remoting.Mux) {
	send := &remoting.Class{Name: "send", Limit: sendsMax, Mode: remoting.Inline}
	changes := p.changes(mux)
	changes.handle(protocol.SendMessage, send, p.send)
	changes.handle(protocol.SendMessageV2, send, p.sendV2)
	changes.handle(protocol.SendBatchMessage, send, p.sendV2)

	pull := &remoting.Class{Name: "pull", Limit: pullsMax, Mode: remoting.Spawn}
	pulls := p.copied(mux, p.pullCopy)
	pulls.handle(protocol.PullMessage, pull, p.pull)
	pulls.handle(protocol.LitePullMessage, pull, p.pull)

	consumer := &remoting.Class{Name: "client", Limit: clientsMax, Mode: remoting.Spawn}
	p.registerConsumer(mux, consumer)
	query := &remoting.Class{Name: "query", Limit: queriesMax, Mode: remoting.Spawn}
	p.registerQueries(mux, query)
	admin := &remoting.Class{Name: "admin", Limit: adminMax, Mode: remoting.Spawn}
	p.registerAdmin(mux, admin)
	p.registerReplication(mux, admin)
	p.registerClientTable(mux)
}

// answer is what a handler has to say; the zero value is a plain success.
type answer struct {
	code   int32
	remark string
	header protocol.Header
	body   []byte
}

// none is the header of requests that have none.
type none struct{}

// Decode accepts anything.
func (*none) Decode(protocol.Fields) error { return nil }

// decoder is a typed request header.
type decoder[H any] interface {
	*H
	Decode(protocol.Fields) error
}

// handle makes a handler out of a function from a typed header to an answer.
func handle[H any, D decoder[H]](p *Processors, f func(ctx context.Context, r *remoting.Request, h *H) (answer, error)) remoting.HandlerFunc {
	return func(r *remoting.Request) {
		h := new(H)
		if err := D(h).Decode(r.Cmd.Ext); err != nil {
			r.Reply(&protocol.Command{Code: protocol.SystemError, Remark: err.Error()})
			return
		}
		ctx, cancel := context.WithTimeout(p.ctx, requestTimeout)
		defer cancel()
		a, err := f(ctx, r, h)
		if err != nil {
			p.refuse(r, broker.AsRefusal(err))
			return
		}
		a.to(r)
	}
}

func (a *answer) to(r *remoting.Request) {
	resp := &protocol.Command{Code: a.code, Remark: a.remark, Body: a.body}
	if a.header != nil {
		resp.Ext = a.header.AppendFields(nil)
	}
	r.Reply(resp)
}

// badBody is the error of a body that does not decode.
func badBody(what string, err error) error {
	return &broker.Refusal{Reason: broker.Internal, Text: fmt.Sprintf("the body is not a %s: %v", what, err)}
}
