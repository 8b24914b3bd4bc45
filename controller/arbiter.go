package controller

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"rmq/raftlog"
)

const (
	arbiterTick  = 200 * time.Millisecond // how often an arbiter looks at itself
	handOnPause  = 20 * time.Millisecond  // between attempts to hand the lead on
	transferTime = time.Second            // for one attempt
)

// arbiter is one of Arbiters. Its goroutine owns the log; calls that change something are handed to it.
type arbiter struct {
	host *Arbiters
	dir  string
	log  *slog.Logger

	ops       chan arbiterOp
	fatal     chan error // from the log; at most one is kept
	ctx       context.Context
	cancel    context.CancelFunc
	tasks     sync.WaitGroup // the goroutine
	done      chan struct{}  // closed when it ends
	closeOnce func() error

	mu       sync.Mutex
	file     arbiterFile
	id       string           // ServerID, once the directory was read
	net      *raftlog.PeerNet // once it listens
	running  *raftlog.Log     // while Raft runs
	state    ArbiterState
	why      string
	muted    time.Time // since when
	retrying bool      // the port could not be opened yet
	removed  bool      // the goroutine does nothing any more
	lacks    bool      // a leader's log begins behind what the arbiter needs next
	ended    error     // what stopping at the end came to
}

// arbiterOp is a call that waits for the goroutine.
type arbiterOp struct {
	kind Kind
	call ArbiterCall
	done chan error // takes one
}

func newArbiter(h *Arbiters, dir string, f arbiterFile) *arbiter {
	a := &arbiter{host: h, dir: dir, file: f, log: h.o.Logger.With("group", f.Group, "arbiter", true),
		ops: make(chan arbiterOp), fatal: make(chan error, 1), done: make(chan struct{}), state: ArbiterEmpty}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.closeOnce = sync.OnceValue(a.end)
	return a
}

func (a *arbiter) logDir() string { return filepath.Join(a.dir, "log") }

func (a *arbiter) serverID() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.id
}

func (a *arbiter) seeded() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.file.Seeded
}

// options are the log's. It keeps little in memory: nobody reads from it but a replica that was away.
func (a *arbiter) options() raftlog.Options {
	return raftlog.Options{
		Logger: a.log, SegmentBytes: a.file.SegmentBytes, Flush: raftlog.SyncFlush, TailCacheBytes: 1 << 20,
		QueueBytesMax: 1 << 20, QueueRecordsMax: 1024, VerifyBytes: 16 << 20,
		Fatal: func(code int, id string, err error) {
			select {
			case a.fatal <- fmt.Errorf("%s (%d): %w", id, code, err):
			default:
			}
		},
	}
}

// identify reads who the directory is, or makes it somebody.
func (a *arbiter) identify() error {
	l, err := raftlog.Open(a.logDir(), a.options())
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.id = arbiterPrefix + l.Identity().Incarnation
	a.mu.Unlock()
	return l.Close()
}

// listen opens the Raft port.
func (a *arbiter) listen() error {
	o := &a.host.o
	n, err := raftlog.ListenPeers(raftlog.PeerNetOptions{
		Listen: net.JoinHostPort(o.Listen, strconv.Itoa(a.file.Port)), Advertise: a.file.address(o.Advertise),
		ClusterID: a.file.Cluster, Group: a.file.Group, ServerID: a.id, Logger: a.log,
		MaxConns: 64, CallsMax: 64, CallsOutMax: 64, Handler: a.answer,
		OnSnapshotOffered: func(string, string, uint64, uint64) { a.setLacks(true) },
	})
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.net = n
	return nil
}

func (a *arbiter) setLacks(lacks bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lacks = lacks
}

// found makes a new arbiter: it listens when this returns.
func (a *arbiter) found(ctx context.Context) error {
	if err := a.identify(); err != nil {
		return err
	}
	port, err := freePort(ctx, a.host.o.Listen, a.file.Port)
	if err != nil {
		return err
	}
	a.file.Port = port
	if err := a.listen(); err != nil {
		return err
	}
	if err := a.file.write(a.dir); err != nil {
		return errors.Join(err, a.net.Close())
	}
	return nil
}

// launch starts the goroutine.
func (a *arbiter) launch() {
	a.tasks.Go(func() {
		defer close(a.done)
		a.run()
	})
}

// close ends the arbiter and waits; a second call returns the same.
func (a *arbiter) close() error { return a.closeOnce() }

func (a *arbiter) end() error {
	a.cancel()
	a.tasks.Wait()
	a.mu.Lock()
	n, err := a.net, a.ended
	a.mu.Unlock()
	if n != nil {
		err = errors.Join(err, n.Close())
	}
	return err
}

func (a *arbiter) run() {
	tick := time.NewTicker(arbiterTick)
	defer tick.Stop()
	a.begin()
	for {
		var leads <-chan bool
		if l := a.raft(); l != nil {
			leads = l.Leadership()
		}
		select {
		case <-a.ctx.Done():
			err := a.stop()
			a.mu.Lock()
			a.ended = err
			a.mu.Unlock()
			return
		case op := <-a.ops:
			op.done <- a.perform(&op)
		case led := <-leads:
			if led {
				a.handOver()
			}
		case err := <-a.fatal:
			a.fail(err)
		case <-tick.C:
			a.look()
		}
	}
}

// raft returns the log while Raft runs.
func (a *arbiter) raft() *raftlog.Log {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.running
}

// become notes what the arbiter does now.
func (a *arbiter) become(state ArbiterState, why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state, a.why = state, why
}

// begin opens what an arbiter has that was there before.
func (a *arbiter) begin() {
	if a.serverID() == "" {
		if err := a.identify(); err != nil {
			a.fail(err)
			return
		}
	}
	a.mu.Lock()
	listening := a.net != nil
	a.mu.Unlock()
	if !listening {
		if err := a.listen(); err != nil {
			if !a.retrying {
				a.fail(fmt.Errorf("its port, which its group knows, cannot be opened now: %w", err))
			}
			a.retrying = true
			return
		}
		a.retrying = false
	}
	if err := a.start(); err != nil {
		a.fail(err)
	}
}

// start runs Raft if the arbiter was ever seeded.
func (a *arbiter) start() error {
	l, err := raftlog.Open(a.logDir(), a.options())
	if err != nil {
		return err
	}
	if has, err := l.HasState(); err != nil || !has {
		a.become(ArbiterEmpty, "")
		return errors.Join(err, l.Close())
	}
	if err := a.noteSeeded(); err != nil {
		return errors.Join(err, l.Close())
	}
	err = l.Start(raftlog.Discard(l), raftlog.Member{
		ServerID: a.id, Address: a.file.address(a.host.o.Advertise), Transport: a.net.Transport(), Timings: a.host.o.Timings,
	})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.running, a.state, a.why = l, ArbiterRunning, ""
	return nil
}

// noteSeeded writes down that there is a group that this arbiter has been a part of.
func (a *arbiter) noteSeeded() error {
	a.mu.Lock()
	file := a.file
	a.mu.Unlock()
	if file.Seeded {
		return nil
	}
	file.Seeded = true
	if err := file.write(a.dir); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.file.Seeded = true
	return nil
}

// stop ends Raft. The port stays open.
func (a *arbiter) stop() error {
	a.mu.Lock()
	l := a.running
	a.running = nil
	a.mu.Unlock()
	if l == nil {
		return nil
	}
	err := l.Close()
	select {
	case <-a.fatal: // it is over
	default:
	}
	return err
}

// fail gives up until the process starts anew or the leader seeds the arbiter again.
func (a *arbiter) fail(err error) {
	a.log.Error("the arbiter does not run", "error", err)
	if err := a.stop(); err != nil {
		a.log.Warn("the arbiter's log was not closed in order", "error", err)
	}
	a.become(ArbiterFailed, err.Error())
}

// look is done again and again.
func (a *arbiter) look() {
	if a.retrying {
		a.begin()
		return
	}
	l := a.raft()
	if l == nil {
		return
	}
	if size := l.SizeBytes(); size > a.host.o.BytesLimit {
		a.fail(fmt.Errorf("it keeps %d bytes, was not relieved at %d, and may keep %d", size, a.host.o.BytesMax, a.host.o.BytesLimit))
		return
	}
	a.mu.Lock()
	muted, since := a.state == ArbiterMuted, a.muted
	a.mu.Unlock()
	if leader := l.Status().LeaderID; muted && (leader != "" && leader != a.id || time.Since(since) >= a.host.o.MutedFor) {
		a.log.Info("the arbiter takes part in elections again", "leader", leader)
		a.net.SetMuted(false)
		a.become(ArbiterRunning, "")
	}
}

// handOver is what an arbiter leads for: it completes a data replica from what it holds, and gives the lead to it. If it cannot, it
// must not lead.
func (a *arbiter) handOver() {
	l := a.raft()
	a.log.Info("the arbiter was elected and completes a data replica", "term", l.Term())
	ctx, cancel := context.WithTimeout(a.ctx, a.host.o.HandOver)
	defer cancel()
	err := a.handOn(ctx, l)
	if err == nil || a.ctx.Err() != nil {
		return
	}
	a.log.Warn("the arbiter cannot complete a data replica, and stays out of elections for a while", "error", err)
	a.net.SetMuted(true)
	if err := a.stop(); err != nil {
		a.fail(err)
		return
	}
	if err := a.start(); err != nil {
		a.fail(err)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state, a.why, a.muted = ArbiterMuted, err.Error(), time.Now()
}

// handOn returns nil once the arbiter leads no more.
func (a *arbiter) handOn(ctx context.Context, l *raftlog.Log) error {
	for {
		err := l.Barrier(ctx)
		if err == nil {
			err = a.transfer(ctx, l)
		}
		if !l.IsLeader() {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no data replica took the lead: %w", errors.Join(err, context.Cause(ctx)))
		case <-time.After(handOnPause):
		}
	}
}

var errNoDataVoter = errors.New("no data replica of the group votes")

// transfer gives the lead to the data replica that holds most, or another one.
func (a *arbiter) transfer(ctx context.Context, l *raftlog.Log) error {
	conf, err := l.Configuration()
	if err != nil {
		return err
	}
	heirs := slices.DeleteFunc(slices.Clone(conf.Servers), func(s raft.Server) bool {
		return s.Suffrage != raft.Voter || IsArbiter(string(s.ID))
	})
	match := func(s raft.Server) uint64 { return a.net.MatchIndex(string(s.Address)) }
	slices.SortStableFunc(heirs, func(x, y raft.Server) int { return cmp.Compare(match(y), match(x)) })
	err = errNoDataVoter
	for _, s := range heirs {
		attempt, cancel := context.WithTimeout(ctx, transferTime)
		err = l.TransferLeadershipTo(attempt, string(s.ID), string(s.Address))
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// answer is the Handler of the Raft port.
func (a *arbiter) answer(ctx context.Context, from string, request []byte) []byte {
	m, err := DecodeMessage(request)
	if err != nil {
		return EncodeAnswer(nil, refuse(CodeRefused, "%v", err))
	}
	kind := Kind(m.Head)
	switch kind {
	case CallHello:
		return EncodeAnswer(a.hello(), nil)
	case CallArbiterStatus, CallArbiterSeed, CallArbiterDrop, CallArbiterRemove:
	default:
		return EncodeAnswer(nil, refuse(CodeRefused, "an arbiter does not answer call %d", kind))
	}
	var call ArbiterCall
	if err := json.Unmarshal(m.Body, &call); err != nil {
		return EncodeAnswer(nil, refuse(CodeRefused, "%v", err))
	}
	if id := a.serverID(); call.ServerID != id {
		return EncodeAnswer(nil, refuse(CodeRefused, "%s is here, not %s", id, call.ServerID))
	}
	if kind != CallArbiterStatus {
		err = a.hand(ctx, arbiterOp{kind, call, make(chan error, 1)})
	}
	if err != nil {
		a.log.Warn("a call of the leader was not carried out", "call", kind, "from", from, "error", err)
	}
	return EncodeAnswer(a.status(), err)
}

// hand gives an op to the goroutine and waits for it.
func (a *arbiter) hand(ctx context.Context, op arbiterOp) error {
	select {
	case a.ops <- op:
	case <-ctx.Done():
		return refuse(CodeNotNow, "the arbiter is busy")
	case <-a.done:
		return refuse(CodeNotNow, "the arbiter is going down")
	}
	select {
	case err := <-op.done:
		return err
	case <-ctx.Done():
		return refuse(CodeNotNow, "it takes longer than the call may")
	}
}

func (a *arbiter) perform(op *arbiterOp) error {
	l := a.raft()
	if a.removed {
		if op.kind == CallArbiterRemove {
			return nil
		}
		return refuse(CodeRefused, "the arbiter was removed")
	}
	if l != nil && op.kind != CallArbiterSeed && l.Term() > op.call.Term {
		return refuse(CodeRefused, "the arbiter follows a leader of term %d, the call is of term %d", l.Term(), op.call.Term)
	}
	switch op.kind {
	case CallArbiterSeed:
		return a.seed(op.call.Point)
	case CallArbiterDrop:
		if l == nil {
			return refuse(CodeNotNow, "the arbiter does not run")
		}
		return l.DropBelow(op.call.Below)
	default:
		return a.remove()
	}
}

// seed makes the log begin behind p.
func (a *arbiter) seed(p *raftlog.FillPoint) error {
	if p == nil {
		return refuse(CodeRefused, "there is no point to begin behind")
	}
	a.mu.Lock()
	l, lacks := a.running, a.lacks
	a.mu.Unlock()
	if l != nil && !lacks && l.Status().LastIndex+1 >= p.First {
		return nil // the leader has what it lacks, and what it has may be what another replica lacks
	}
	if err := a.stop(); err != nil {
		a.log.Warn("the arbiter's log was not closed in order", "error", err)
	}
	seeder, err := raftlog.OpenSeeder(a.logDir(), a.options(), p.WithoutBytes())
	if err == nil {
		err = errors.Join(seeder.Commit(), seeder.Close())
	}
	if err != nil {
		a.begin() // with what there is
		if errors.Is(err, raftlog.ErrFillBehind) {
			return refuse(CodeRefused, "%v", err)
		}
		return err
	}
	a.setLacks(false)
	if err := a.start(); err != nil {
		a.fail(err)
		return err
	}
	a.log.Info("the arbiter was seeded", "behind", p.EndIndex, "term", p.EndTerm)
	return nil
}

// remove ends the arbiter for good.
func (a *arbiter) remove() error {
	if err := a.stop(); err != nil {
		a.log.Warn("the arbiter's log was not closed in order", "error", err)
	}
	if err := removeArbiterFile(a.dir); err != nil {
		a.fail(err)
		return err
	}
	a.removed = true
	a.become(ArbiterEmpty, "removed")
	a.log.Info("the arbiter was removed by its group's leader")
	a.host.retire(a)
	return nil
}

// status tells where the arbiter stands.
func (a *arbiter) status() ArbiterStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := ArbiterStatus{Cluster: a.file.Cluster, Group: a.file.Group, ServerID: a.id, State: a.state, Why: a.why, Lacks: a.lacks, BytesMax: a.host.o.BytesMax}
	if l := a.running; l != nil {
		at := l.Status()
		s.Term, s.LastIndex, s.Bytes = at.Term, at.LastIndex, l.SizeBytes()
	}
	return s
}

// hello tells who this is.
func (a *arbiter) hello() Hello {
	a.mu.Lock()
	l, n, id := a.running, a.net, a.id
	a.mu.Unlock()
	h := Hello{Number: -1, Arbiter: true, Incarnation: strings.TrimPrefix(id, arbiterPrefix), Address: a.file.address(a.host.o.Advertise), Muted: n != nil && n.Muted()}
	if l == nil {
		return h
	}
	at := l.Status()
	h.Leader, h.LeaderAddr, h.Term, h.LastIndex, h.LastTerm = at.LeaderID, at.LeaderAddr, at.Term, at.LastIndex, at.LastTerm
	conf, err := l.Configuration()
	if err != nil {
		return h // it is going down
	}
	for _, s := range conf.Servers {
		h.Members = append(h.Members, string(s.ID))
		h.Servers = append(h.Servers, Server{ID: string(s.ID), Address: string(s.Address), Voter: s.Suffrage == raft.Voter})
	}
	return h
}
