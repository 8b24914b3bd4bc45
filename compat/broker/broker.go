// Package broker gives requests their meaning: what may be sent and read, where a message goes, who consumes what, when a
// parked message comes back. It speaks of groups, topics and queues, never of response codes or wire headers (package
// compat translates those), and it keeps only what dies with a connection or with a term of leadership. All that must
// outlive a leader is in package store and changes through the log alone.
//
// Locks, each taken alone unless said otherwise: ClientTable.mu, offsetTable.mu, lockTable.mu, dedup.mu, creations.mu, waitSet.mu, wait.mu, waiters inside
// store. Only Broker.refiling is held while a log append is waited for.
package broker

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"rmq/raftlog"
	"rmq/store"
	"rmq/store/message"
)

// Log is what the broker needs of its group's log. *raftlog.Log is one.
type Log interface {
	// Append proposes a record; see raftlog.Log.Append.
	Append(record []byte, ack raftlog.Ack, done func(raftlog.AppendResult)) error
	MinOffset() int64
	EndOffset() int64
	IsLeader() bool
	Term() uint64
}

// Broker is one replica of one broker group, seen from the requests' side. All methods are safe for concurrent use.
type Broker struct {
	opts    Options
	log     Log
	store   *store.Store
	clock   Clock
	logger  *slog.Logger
	started time.Time

	clients  *ClientTable
	offsets  offsetTable
	locks    lockTable
	retries  dedup
	creating creations
	stats    *Stats
	backlog  sendBacklog
	settings atomic.Pointer[GroupSettings]
	acks     acks

	proved        atomic.Int64           // when the newest change was proposed that is known to be committed, ns of the clock
	readOnly      atomic.Pointer[string] // why writes are refused (disk full), nil when they are not
	lastStoreTime int64                  // touched by Prepare only, which has one caller
	parked        atomic.Int64
	waits         waitSet
	scratch       sync.Pool // *scratch
	unique        uniqueIDs
	tasks         sync.WaitGroup          // goroutines of spawn
	background    sync.WaitGroup          // goroutines that New has started
	stop          context.CancelFunc      // ends those
	refiling      sync.Mutex              // held across an append: see refile
	endDuties     context.CancelCauseFunc // of Lead; guarded by refiling
}

// New returns a broker over the group's log and state. What every replica does, whether it leads or not, begins at once:
// silent clients are forgotten and the counters sampled until Close. Lead runs the leader's duties.
func New(log Log, st *store.Store, opts Options) (*Broker, error) {
	if err := opts.setDefaults(); err != nil {
		return nil, err
	}
	b := &Broker{opts: opts, log: log, store: st, clock: opts.Clock, logger: opts.Logger, started: opts.Clock.Now()}
	b.clients = newClientTable(b)
	b.offsets.init()
	b.locks.init()
	b.retries.init()
	b.waits.init()
	b.stats = newStats(b.clock)
	b.scratch.New = func() any { return &scratch{record: make([]byte, 0, 4096), properties: make([]byte, 0, 512)} }
	b.unique.init(opts.Host.Addr(), b.started)
	b.acks.init(opts.Replicas.OnHeld)
	b.loadSettings()
	st.Watch(store.Watcher{Applied: b.applied, ConfigChanged: b.loadSettings})
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	b.background.Go(func() { b.runClientExpiry(ctx) })
	b.background.Go(func() { b.stats.run(ctx) })
	return b, nil
}

// scratch holds the buffers of one message being encoded; the log copies what it is given.
type scratch struct {
	record     []byte
	properties []byte
}

// scratchBytesMax bounds what a pooled buffer may keep: a rare 4 MiB message must not pin its buffer for ever.
const scratchBytesMax = 64 << 10

func (b *Broker) release(s *scratch) {
	if cap(s.record) > scratchBytesMax {
		return
	}
	s.record, s.properties = s.record[:0], s.properties[:0]
	b.scratch.Put(s)
}

// Store is the group's replicated state, for queries that need no judgement.
func (b *Broker) Store() *store.Store { return b.store }

// Clients is the table of connected producers and consumers.
func (b *Broker) Clients() *ClientTable { return b.clients }

// Stats counts what went in and out.
func (b *Broker) Stats() *Stats { return b.stats }

// Options returns the broker's effective options.
func (b *Broker) Options() Options { return b.opts }

// Started is when this broker was made.
func (b *Broker) Started() time.Time { return b.started }

// Parked is how many pulls wait for a message.
func (b *Broker) Parked() int64 { return b.parked.Load() }

// Prepare stamps the store time into the messages of a record; it is raftlog's Options.Prepare. The proposer calls it in
// the order of the log, so that store times never go back within a queue, which searches by time rely on.
func (b *Broker) Prepare(record []byte) {
	now := max(b.clock.Now().UnixMilli(), b.lastStoreTime, b.store.LastStoreTime()) // the store's is of an earlier run or leader
	b.lastStoreTime = now
	for rest := record; len(rest) > 0; {
		item, tail, magic, err := message.NextItem(rest)
		if err != nil {
			return // Stamp refuses the record with a better error
		}
		if magic == message.MagicV1 || magic == message.MagicV2 {
			message.View(item).SetStoreTimestamp(now)
		}
		rest = tail
	}
}

// TakeOver prepares for leading: the group's settings and the topics that clients expect of every broker exist, and whoever
// holds a queue lock has a fresh lease. The caller calls it when this replica leads and its term's barrier is applied.
func (b *Broker) TakeOver(ctx context.Context) error {
	b.locks.renewAll(b.clock.Now(), b.store)
	b.retries.takenOver(b.clock.Now())
	if err := b.writeSettings(ctx); err != nil {
		return err
	}
	if err := b.createSystemTopics(ctx); err != nil {
		return err
	}
	b.acks.begin()
	return nil
}

// Lead carries out the leader's duties until ctx ends: it answers sends that wait for other replicas, fires delayed
// messages, writes collected offsets and trims the log. The caller starts it after TakeOver and waits for it to return before it starts another. An
// error means that the duties need another barrier and TakeOver before they can go on.
func (b *Broker) Lead(term context.Context) error {
	ctx, end := context.WithCancelCause(term)
	defer end(nil)
	b.refiling.Lock()
	b.endDuties = end
	b.refiling.Unlock()
	var duties sync.WaitGroup
	for _, duty := range []func(context.Context){b.runAcks, b.runTimers, b.runOffsets, b.runRetention} {
		duties.Go(func() { duty(ctx) })
	}
	duties.Wait()
	if term.Err() != nil {
		return nil
	}
	return context.Cause(ctx)
}

// append proposes a record and waits until it is committed and applied, or ctx ends: then the outcome is unknown.
func (b *Broker) append(ctx context.Context, record []byte) (int64, error) {
	type outcome struct {
		offset int64
		err    error
	}
	done := make(chan outcome, 1)
	began := b.clock.Now()
	err := b.log.Append(record, raftlog.AckCommitted, func(r raftlog.AppendResult) { done <- outcome{r.Offset, r.Err} })
	if err != nil {
		return 0, err
	}
	select {
	case o := <-done:
		if o.err == nil {
			b.prove(began)
		}
		return o.offset, o.err
	case <-ctx.Done():
		return 0, refuse(NotAvailable, "the group did not commit the change in time (%v); it may still be applied", context.Cause(ctx))
	}
}

// prove notes that this replica was still leading at a time: what it proposed then was committed.
func (b *Broker) prove(at time.Time) {
	ns := at.UnixNano()
	for old := b.proved.Load(); ns > old && !b.proved.CompareAndSwap(old, ns); old = b.proved.Load() {
	}
}

// spawn runs f in a goroutine that Close waits for.
func (b *Broker) spawn(f func()) { b.tasks.Go(f) }

// Close ends the broker's own goroutines and waits for them, and for those that requests have left behind. The caller has
// ended Lead, stopped the requests and closed the store, which ends every parked pull.
func (b *Broker) Close() {
	b.stop()
	b.background.Wait()
	b.tasks.Wait()
}

// every calls f at the interval until ctx ends.
func every(ctx context.Context, clock Clock, interval time.Duration, f func()) {
	for {
		tick := make(chan struct{})
		stop := clock.AfterFunc(interval, func() { close(tick) })
		select {
		case <-ctx.Done():
			stop()
			return
		case <-tick:
			f()
		}
	}
}

// EarliestStoreTime is the store time of the oldest message still kept, ms; -1 if there is none.
func (b *Broker) EarliestStoreTime() int64 { return b.store.EarliestStoreTimeOfLog() }
