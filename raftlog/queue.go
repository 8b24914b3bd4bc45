package raftlog

import (
	"context"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"github.com/hashicorp/raft"
)

const (
	flightMax       = 4         // entries proposed and not answered
	freeMax         = 16        // batches kept for reuse: those in flight, being filled and being answered
	flightEagerMin  = 32 << 10  // an entry of this size is proposed although another has not reached the log yet
	batchReuseBytes = 512 << 10 // a larger buffer is left to the garbage collector
)

// batch is the records of one Raft entry and who waits for them.
type batch struct {
	buf     []byte
	waiters []waiter
	off     int64  // position of buf[0] in the log, once it is there
	index   uint64 // of the entry, likewise
	stored  bool
}

// waiter is one Append.
type waiter struct {
	from, to int // its record in batch.buf
	ack      Ack
	done     func(AppendResult)
}

// queue turns Appends into Raft entries. Nothing waits on a timer: the first record of an idle queue is proposed by the caller
// itself, after a yield that lets those who are about to append as well get in; what arrives before that entry has reached the
// log makes up the next one.
//
// Raft answers in order, so each stage of a proposal's life is found by identity of its data at the head of flight: StoreLogs
// notes the offset, ApplyBatch answers. Raft's futures are not waited for; loss of leadership and Close answer what is left.
type queue struct {
	l *Log

	// answering serializes callbacks: it is taken before mu, so that they come in order whoever calls them.
	answering sync.Mutex

	mu      sync.Mutex
	leading bool
	closed  bool
	paused  bool     // nothing is proposed
	yielded bool     // the caller that opened the first batch lets others run before it proposes
	alone   bool     // there is one voter in the last configuration in the log, so on a leader appended is committed
	aloneAt uint64   // index of that configuration
	waiting []*batch // not proposed, in order
	flight  []*batch // proposed, in order
	storing int      // of flight, those that StoreLogs has not returned for
	bytes   int      // in waiting and flight
	records int
	free    []*batch
	done    []*batch // scratch of applied

	empty chan struct{} // tells pause that nothing is in flight
}

// append queues one record and proposes what may be proposed.
func (q *queue) append(record []byte, ack Ack, done func(AppendResult)) error {
	o := &q.l.o
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return ErrClosed
	case !q.leading:
		return ErrNotLeader
	case q.records >= o.QueueRecordsMax || q.bytes+len(record) > o.QueueBytesMax && q.records > 0:
		q.l.stats.busy.Add(1)
		return ErrBusy
	}
	idle := len(q.waiting) == 0 && len(q.flight) == 0
	var b *batch
	if n := len(q.waiting); n > 0 && len(q.waiting[n-1].buf)+len(record) <= o.CoalesceBytesMax {
		b = q.waiting[n-1]
	} else {
		b = q.newBatch(len(record))
		q.waiting = append(q.waiting, b)
	}
	from := len(b.buf)
	b.buf = append(b.buf, record...)
	b.waiters = append(b.waiters, waiter{from, len(b.buf), ack, done})
	q.bytes += len(record)
	q.records++
	switch {
	case idle:
		// One goroutine switch per entry is the price for far fewer entries when many callers have one request each.
		q.yielded = true
		q.mu.Unlock()
		runtime.Gosched()
		q.mu.Lock()
		q.yielded = false
		q.propose()
	case !q.yielded:
		q.propose()
	}
	return nil
}

// newBatch returns an empty batch whose buffer has an address even if nothing is put into it.
func (q *queue) newBatch(size int) *batch {
	if n := len(q.free); n > 0 {
		b := q.free[n-1]
		q.free = q.free[:n-1]
		return b
	}
	return &batch{buf: make([]byte, 0, max(size, 4096))}
}

// propose hands waiting batches to Raft. It never blocks: Raft's queue has room for more than flightMax entries and nobody else
// uses it.
func (q *queue) propose() {
	for q.leading && !q.paused && len(q.waiting) > 0 && len(q.flight) < flightMax && (q.storing == 0 || len(q.waiting[0].buf) >= flightEagerMin) {
		b := q.waiting[0]
		q.waiting = popFront(q.waiting)
		if prepare := q.l.o.Prepare; prepare != nil {
			for i := range b.waiters {
				if w := &b.waiters[i]; w.from < w.to {
					prepare(b.buf[w.from:w.to:w.to])
				}
			}
		}
		q.flight = append(q.flight, b)
		q.storing++
		q.l.raft.Load().ApplyLog(raft.Log{Data: b.buf}, 0)
	}
}

// stored is called by storeLogs: the entries are in the log.
func (q *queue) stored(logs []*raft.Log, spots []spot) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.storing == 0 {
		return
	}
	var appended bool
	for i, e := range logs {
		if e.Type != raft.LogCommand {
			continue
		}
		for k := len(q.flight) - q.storing; k < len(q.flight); k++ {
			if b := q.flight[k]; sameData(b.buf, e.Data) {
				b.off, b.index, b.stored = spots[i].off+frameHeaderBytes, e.Index, true
				q.storing = len(q.flight) - k - 1
				appended = true
				break
			}
		}
	}
	if appended {
		q.propose()
		if !q.alone {
			notify(q.l.appendedWanted)
		}
	}
}

// applied is called after a batch of committed entries has been applied: it answers the proposals among them.
func (q *queue) applied(logs []*raft.Log) {
	q.answering.Lock()
	defer q.answering.Unlock()
	q.mu.Lock()
	done := q.done[:0]
	for _, e := range logs {
		for k, b := range q.flight {
			if sameData(b.buf, e.Data) {
				done = append(done, q.flight[:k+1]...)
				q.flight = popN(q.flight, k+1)
				q.storing = min(q.storing, len(q.flight))
				break
			}
		}
	}
	if len(done) == 0 {
		q.mu.Unlock()
		return
	}
	for _, b := range done {
		q.bytes -= len(b.buf)
		q.records -= len(b.waiters)
	}
	q.propose()
	q.landed()
	q.mu.Unlock()

	for _, b := range done {
		err := error(nil)
		if !b.stored {
			err = ErrNotLeader // Raft refused it and took a later one
		}
		b.answer(err, AckCommitted)
	}
	q.l.completedBatch()

	q.mu.Lock()
	defer q.mu.Unlock()
	for i, b := range done {
		if b.stored && cap(b.buf) <= batchReuseBytes && len(q.free) < freeMax {
			clear(b.waiters)
			*b = batch{buf: b.buf[:0], waiters: b.waiters[:0]}
			q.free = append(q.free, b)
		}
		done[i] = nil
	}
	q.done = done[:0]
}

// answerAppended answers the AckAppended waiters of entries that are in the log.
func (q *queue) answerAppended() {
	q.answering.Lock()
	defer q.answering.Unlock()
	q.mu.Lock()
	var stored []*batch
	for _, b := range q.flight {
		if b.stored {
			stored = append(stored, b)
		}
	}
	q.mu.Unlock()
	for _, b := range stored {
		b.answer(nil, AckAppended)
	}
	if len(stored) > 0 {
		q.l.completedBatch()
	}
}

// fail answers everything: what was proposed may yet commit, what was not will not.
func (q *queue) fail(proposed, unproposed error) {
	q.answering.Lock()
	defer q.answering.Unlock()
	q.mu.Lock()
	flight, waiting := q.flight, q.waiting
	q.flight, q.waiting, q.storing, q.bytes, q.records = nil, nil, 0, 0, 0
	q.landed()
	q.mu.Unlock()
	for _, b := range flight {
		b.answer(proposed, AckCommitted)
	}
	for _, b := range waiting {
		b.answer(unproposed, AckCommitted)
	}
	if len(flight)+len(waiting) > 0 {
		q.l.completedBatch()
	}
}

// landed wakes pause when nothing is in flight.
func (q *queue) landed() {
	if q.paused && len(q.flight) == 0 {
		notify(q.empty)
	}
}

// pause stops proposing and waits until nothing is in flight. Appends are still taken, and wait for resume.
func (q *queue) pause(ctx context.Context) error {
	q.mu.Lock()
	q.paused = true
	select {
	case <-q.empty: // of an earlier pause
	default:
	}
	q.landed()
	q.mu.Unlock()
	select {
	case <-q.empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (q *queue) resume() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.paused = false
	q.propose()
}

// setAlone says whether the last configuration in the log, that of entry index, has one voter. It counts from the moment it is in
// the log, as it does for Raft.
func (q *queue) setAlone(alone bool, index uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.alone, q.aloneAt = alone, index
	if !alone {
		notify(q.l.appendedWanted) // for what is in the log and was to be answered with the commit
	}
}

// configurationAt returns the index of the last configuration in the log.
func (q *queue) configurationAt() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.aloneAt
}

// setLeading opens or closes the queue for proposals.
func (q *queue) setLeading(leading bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.leading = leading && !q.closed
}

// followPoll is how often awaitFollowing looks: a transfer of leadership takes some milliseconds.
const followPoll = time.Millisecond

// awaitFollowing returns when the queue has been told that this replica no longer leads.
func (q *queue) awaitFollowing(ctx context.Context) error {
	tick := time.NewTicker(followPoll)
	defer tick.Stop()
	for {
		q.mu.Lock()
		leading := q.leading
		q.mu.Unlock()
		if !leading {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// close refuses further proposals.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed, q.leading = true, false
}

func (q *queue) size() (records, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.records, q.bytes
}

// answer calls the waiters that are not answered yet; upTo AckAppended leaves those that wait for the commit.
func (b *batch) answer(err error, upTo Ack) {
	for i := range b.waiters {
		w := &b.waiters[i]
		if w.done == nil || upTo == AckAppended && w.ack != AckAppended {
			continue
		}
		done := w.done
		w.done = nil
		if err != nil {
			done(AppendResult{Err: err})
			continue
		}
		done(AppendResult{Offset: b.off + int64(w.from), Index: b.index, Record: b.buf[w.from:w.to:w.to]})
	}
}

// sameData reports whether a and b are the same memory, not merely equal.
func sameData(a, b []byte) bool {
	return len(a) == len(b) && unsafe.SliceData(a) == unsafe.SliceData(b)
}

func popFront(q []*batch) []*batch { return popN(q, 1) }

// popN removes the first n elements in place: queues are short.
func popN(q []*batch, n int) []*batch {
	k := copy(q, q[n:])
	clear(q[k:])
	return q[:k]
}
