package broker

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"rmq/raftlog"
)

// SendStatus says how safely a message is stored that a SendResult without an error speaks of.
type SendStatus uint8

const (
	// SendOK: as safely as the group's settings ask.
	SendOK SendStatus = iota
	// SendSlaveNotAvailable: committed, on a leader that still leads; fewer data replicas than asked are in contact.
	SendSlaveNotAvailable
	// SendSlaveTimeout: committed, on a leader that still leads; not on as many data replicas as asked within slaveTimeout.
	SendSlaveTimeout
)

// acks decides when a send is answered that is not answered at its commit: it keeps those that are committed and wait for
// more data replicas, and the window of those that were answered before their commit. One goroutine, a duty of Lead,
// answers what waits.
type acks struct {
	woken   chan struct{} // there is something to look at
	windows atomic.Bool   // the window may hold something: tells the state machine to look

	mu     sync.Mutex
	active bool           // this replica leads
	held   fifo[heldSend] // in the order of the log
	window fifo[lagging]  // answered and not applied, in the order of the log
	lag    weight         // of the window
	flying weight         // of what was proposed and is not in the window yet
	waits  fifo[waitingSend]
	queued int // bytes in waits
}

// weight is what counts against the lag window.
type weight struct {
	messages int
	bytes    int64
}

func (w *weight) add(o weight) { w.messages, w.bytes = w.messages+o.messages, w.bytes+o.bytes }
func (w *weight) sub(o weight) { w.messages, w.bytes = w.messages-o.messages, w.bytes-o.bytes }

// heldSend is a committed send whose answer waits for more data replicas.
type heldSend struct {
	index    uint64
	deadline time.Time
	result   SendResult
	done     func(SendResult)
}

// lagging is a send that was answered when it was appended, until it is committed and applied.
type lagging struct {
	end    int64 // position in the log behind it
	since  time.Time
	weight weight
}

// waitingSend is a send that the lag window has no room for. Nothing of it is in the log.
type waitingSend struct {
	buf      *scratch // its record
	weight   weight
	deadline time.Time
	proposal proposal
}

const (
	// clientTimeout is how long stock clients wait for the answer to a send; answerReserve of it is left for the way back.
	clientTimeout = 3 * time.Second
	answerReserve = 300 * time.Millisecond
	// waitingSendsMax and waitingBytesMax bound what waits for room in the lag window.
	waitingSendsMax = 8192
	waitingBytesMax = 32 << 20
)

func (a *acks) init(wake func(func())) {
	a.woken = make(chan struct{}, 1)
	wake(a.wake)
}

// wake has the goroutine look again.
func (a *acks) wake() {
	select {
	case a.woken <- struct{}{}:
	default:
	}
}

// begin is called when this replica leads and everything before is applied: nothing lags any more.
func (a *acks) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.active = true
	a.window, a.lag = fifo[lagging]{}, weight{}
}

// endAcks answers everything that waits: this replica does not lead any more, or cannot tell.
func (b *Broker) endAcks() {
	a := &b.acks
	a.mu.Lock()
	a.active = false
	held, waits := a.held, a.waits
	a.held, a.waits, a.queued = fifo[heldSend]{}, fifo[waitingSend]{}, 0
	a.mu.Unlock()
	for held.len() > 0 {
		h := held.pop()
		b.answer(h.result, errNotHeld, h.done)
	}
	for waits.len() > 0 {
		w := waits.pop()
		b.turnedDown(&w, refuse(NotLeader, "this replica does not lead its group, nothing was stored"))
	}
	b.answered()
}

// errNotHeld is the outcome of a send whose wait for data replicas was cut short. It is most likely stored, but 11 and 12
// are for a leader that still leads.
var errNotHeld = refuse(NotAvailable, "leadership was lost while the message was waiting for another replica, it may or may not be stored")

// answer gives a result, which is one of a run.
func (b *Broker) answer(res SendResult, err error, done func(SendResult)) {
	if res.Err = err; err != nil {
		b.stats.sendRefused()
	}
	res.Batched = b.opts.CompletedBatch != nil
	done(res)
}

// answered ends a run of results.
func (b *Broker) answered() {
	if b.opts.CompletedBatch != nil {
		b.opts.CompletedBatch()
	}
}

// copies is how many data replicas have to hold a send before it is answered; 1 or less: its commit is enough.
func (b *Broker) copies(s *GroupSettings) int {
	if s.Role == RoleAsync {
		return 1
	}
	r := b.opts.Replicas
	data := r.Data()
	asked := max(s.InSync, s.MinInSync)
	if data <= 1 && asked <= 1 && s.Role == RoleUnset {
		return 1 // nobody asked for a second copy
	}
	n := max(data/2+1, asked, 2)
	if s.AllInSync {
		n = max(n, r.InSync())
	}
	return n
}

// enoughInSync refuses a send, before anything is stored, if fewer data replicas are in sync than the settings ask for.
func (b *Broker) enoughInSync(s *GroupSettings) error {
	asked := max(s.InSync, s.MinInSync)
	if s.Role == RoleAsync || asked <= 1 {
		return nil
	}
	if n := b.opts.Replicas.InSync(); n < asked {
		return refuse(NotEnoughReplicas, "in-sync replicas not enough: %d are in sync, inSyncReplicas asks for %d", n, asked)
	}
	return nil
}

// heldBy looks how a committed send stands that n data replicas have to hold. decided is false if it has to wait.
func (b *Broker) heldBy(n int, index uint64) (status SendStatus, decided bool) {
	r := b.opts.Replicas
	switch {
	case n <= 1 || r.Held(n) >= index:
		return SendOK, true
	case r.Connected() < n:
		return SendSlaveNotAvailable, true
	}
	return SendOK, false
}

// committed answers a send that is committed, at once or when enough data replicas hold it.
func (b *Broker) committed(index uint64, began time.Time, res SendResult, done func(SendResult)) {
	s := b.settings.Load()
	n := b.copies(s)
	if n <= 1 {
		done(res)
		return
	}
	status, decided := b.heldBy(n, index)
	if decided && status == SendOK {
		done(res)
		return
	}
	a := &b.acks
	a.mu.Lock()
	leads := a.active && b.log.IsLeader()
	if leads && !decided {
		if a.held.len() == 0 {
			a.wake()
		}
		a.held.push(heldSend{index, began.Add(s.SlaveTimeout), res, done})
	}
	a.mu.Unlock()
	switch {
	case !leads:
		res.Err = errNotHeld
		b.stats.sendRefused()
		done(res)
	case decided:
		res.Status = status
		done(res)
	}
}

// fits reports whether the lag window takes another send of that weight. a.mu is held.
func (a *acks) fits(w weight, s *GroupSettings, now time.Time) bool {
	total := a.lag
	total.add(a.flying)
	if total.messages == 0 {
		return true // one that is larger than the window must get through, too
	}
	if a.window.len() > 0 && now.Sub(a.window.front().since) > s.LagAge {
		return false
	}
	return total.messages+w.messages <= s.LagMessages && total.bytes+w.bytes <= s.LagBytes
}

// proposeLagging proposes a send that is answered when it is appended, or lets it wait for room in the lag window: then the
// buffer is kept until it is proposed.
func (b *Broker) proposeLagging(buf *scratch, p proposal, s *GroupSettings) (kept bool, err error) {
	a, w := &b.acks, weight{p.messages, int64(len(buf.record))}
	a.mu.Lock()
	if a.waits.len() > 0 || !a.fits(w, s, p.began) {
		defer a.mu.Unlock()
		if !a.active || !b.log.IsLeader() {
			return false, refuse(NotLeader, "this replica does not lead its group, nothing was stored")
		}
		if a.waits.len() >= waitingSendsMax || a.queued+len(buf.record) > waitingBytesMax {
			return false, b.lagRefusal(s)
		}
		if a.waits.len() == 0 {
			a.wake()
		}
		a.queued += len(buf.record)
		a.waits.push(waitingSend{buf, w, p.began.Add(min(s.SlaveTimeout, clientTimeout-answerReserve)), p})
		return true, nil
	}
	a.flying.add(w)
	a.mu.Unlock()
	a.windows.Store(true)
	return false, b.appendLagging(buf.record, w, p)
}

func (b *Broker) lagRefusal(s *GroupSettings) error {
	return refuse(Busy, "[FOLLOWER_LAG]system busy, start flow control for a while: the group commits later than messages come, asyncLagMessages=%d asyncLagBytes=%d asyncLagMillis=%d",
		s.LagMessages, s.LagBytes, s.LagAge.Milliseconds())
}

// appendLagging appends a send whose weight is counted as flying. It is answered as the group's settings ask now.
func (b *Broker) appendLagging(record []byte, w weight, p proposal) error {
	a, ack := &b.acks, b.settings.Load().ack() // the settings may have changed while it waited for room
	err := b.log.Append(record, ack, func(res raftlog.AppendResult) {
		p := p
		p.waits = p.waits && ack == raftlog.AckCommitted // else it is answered at once, whatever the settings are by now
		a.mu.Lock()
		a.flying.sub(w)
		// One that is applied already does not lag; and whoever applies it from here on finds it in the window.
		if end := res.Offset + int64(len(res.Record)); res.Err == nil && b.store.AppliedOffset() < end {
			a.window.push(lagging{end, b.clock.Now(), w})
			a.lag.add(w)
		}
		if a.waits.len() > 0 {
			a.wake()
		}
		a.mu.Unlock()
		b.stored(p, res)
	})
	if err != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.flying.sub(w)
	}
	return err
}

// ack is when the log answers a message that may lag.
func (s *GroupSettings) ack() raftlog.Ack {
	if s.Role == RoleAsync {
		return raftlog.AckAppended
	}
	return raftlog.AckCommitted
}

// applied is told by the store how far the log is applied.
func (b *Broker) applied(end int64) {
	a := &b.acks
	if !a.windows.Load() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.window.len() > 0 && a.window.front().end <= end {
		l := a.window.pop()
		a.lag.sub(l.weight)
	}
	if a.waits.len() > 0 {
		a.wake()
	}
}

// runAcks answers what waits, until ctx ends.
func (b *Broker) runAcks(ctx context.Context) {
	defer b.endAcks()
	for {
		next := b.lookAtAcks()
		alarm, stop := make(<-chan struct{}), func() bool { return true }
		if !next.IsZero() {
			rung := make(chan struct{})
			alarm, stop = rung, b.clock.AfterFunc(next.Sub(b.clock.Now()), func() { close(rung) })
		}
		select {
		case <-ctx.Done():
			stop()
			return
		case <-b.acks.woken:
		case <-alarm:
		}
		stop()
	}
}

// lookAtAcks answers and proposes what can be now, and returns when to look again at the latest; zero: when woken.
func (b *Broker) lookAtAcks() (next time.Time) {
	s := b.settings.Load()
	b.answerHeld(s)
	b.proposeWaiting(s)
	a := &b.acks
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.held.len() > 0 {
		next = a.held.front().deadline
	}
	if a.waits.len() > 0 {
		if d := a.waits.front().deadline; next.IsZero() || d.Before(next) {
			next = d
		}
	}
	return next
}

// answerHeld answers the committed sends that enough data replicas hold, or that have waited long enough.
func (b *Broker) answerHeld(s *GroupSettings) {
	a, some := &b.acks, false
	n, now := b.copies(s), b.clock.Now()
	for {
		h, status, ok := a.nextHeld(b, n, now)
		if !ok {
			break
		}
		var err error
		if h.result.Status = status; status != SendOK && !b.log.IsLeader() {
			err = errNotHeld
		}
		b.answer(h.result, err, h.done)
		some = true
	}
	if some {
		b.answered()
	}
}

// nextHeld takes out the oldest committed send, if it can be answered.
func (a *acks) nextHeld(b *Broker, n int, now time.Time) (h heldSend, status SendStatus, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.held.len() == 0 {
		return h, status, false
	}
	front := a.held.front()
	status, ok = b.heldBy(n, front.index)
	if !ok && !now.Before(front.deadline) {
		status, ok = SendSlaveTimeout, true
	}
	if ok {
		h = a.held.pop()
	}
	return h, status, ok
}

// proposeWaiting proposes the sends that the lag window has room for now, and turns down those that have waited too long.
func (b *Broker) proposeWaiting(s *GroupSettings) {
	a, some := &b.acks, false
	for {
		now := b.clock.Now()
		a.mu.Lock()
		if a.waits.len() == 0 {
			a.mu.Unlock()
			break
		}
		front := a.waits.front()
		late, fits := !now.Before(front.deadline), a.fits(front.weight, s, now)
		if !late && !fits {
			a.mu.Unlock()
			break
		}
		w := a.waits.pop()
		a.queued -= len(w.buf.record)
		if !late {
			a.flying.add(w.weight)
		}
		a.mu.Unlock()
		var err error
		if late {
			err = b.lagRefusal(s)
		} else {
			a.windows.Store(true)
			err = b.appendLagging(w.buf.record, w.weight, w.proposal)
		}
		if err != nil {
			b.turnedDown(&w, err)
			some = true
		} else {
			b.release(w.buf)
		}
	}
	if some {
		b.answered()
	}
}

// turnedDown answers a send that waited for room in the lag window and is not stored.
func (b *Broker) turnedDown(w *waitingSend, err error) {
	b.release(w.buf)
	b.backlog.pending.Add(-1)
	b.answer(SendResult{QueueID: w.proposal.queueID, UniqueKey: w.proposal.unique}, AsRefusal(err), w.proposal.done)
}
