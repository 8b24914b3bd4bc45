package broker

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rmq/raftlog"
	"rmq/store"
	"rmq/store/message"
)

// memoryLog is a log in memory that commits and applies each record as it is appended, on the appender's goroutine,
// unless the test has it do otherwise.
type memoryLog struct {
	broker *Broker
	store  *store.Store

	deposed atomic.Bool
	term    atomic.Uint64

	append sync.Mutex // one at a time
	mu     sync.RWMutex
	data   []byte
	// outcome, unless nil, is asked before each record: refuse it at once, or apply it and say that its outcome is unknown.
	outcome func(record []byte) (refused error, uncertain bool)
	index   uint64
	behind  bool // records are appended, and committed when the test says so
	open    []uncommitted
	appends map[raftlog.Ack]int
}

// uncommitted is a record in the log that is not committed yet.
type uncommitted struct {
	result raftlog.AppendResult
	done   func(raftlog.AppendResult) // nil if it is answered
}

// commit commits and applies what is in the log, up to n records.
func (l *memoryLog) commit(n int) {
	l.append.Lock()
	defer l.append.Unlock()
	n = min(n, len(l.open))
	for _, u := range l.open[:n] {
		l.apply(u)
	}
	l.open = l.open[n:]
}

func (l *memoryLog) apply(u uncommitted) {
	l.store.Apply(u.result.Record, u.result.Offset)
	l.store.Applied(u.result.Offset + int64(len(u.result.Record)))
	if u.done != nil {
		u.done(u.result)
	}
}

// lose gives up the lead: what is not committed is uncertain, and gone.
func (l *memoryLog) lose() {
	l.append.Lock()
	defer l.append.Unlock()
	l.deposed.Store(true)
	open := l.open
	l.open = nil
	if len(open) > 0 {
		l.mu.Lock()
		l.data = l.data[:open[0].result.Offset]
		l.mu.Unlock()
		l.store.Rewind()
	}
	for _, u := range open {
		if u.done != nil {
			u.done(raftlog.AppendResult{Err: raftlog.ErrUncertain})
		}
	}
}

func (l *memoryLog) ReadAt(p []byte, off int64) (int, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if off >= int64(len(l.data)) {
		return 0, io.EOF
	}
	if n := copy(p, l.data[off:]); n < len(p) {
		return n, io.EOF
	}
	return len(p), nil
}

func (l *memoryLog) MinOffset() int64 { return 0 }
func (l *memoryLog) IsLeader() bool   { return !l.deposed.Load() }
func (l *memoryLog) Term() uint64     { return l.term.Load() }

func (l *memoryLog) EndOffset() int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return int64(len(l.data))
}

func (l *memoryLog) Append(record []byte, ack raftlog.Ack, done func(raftlog.AppendResult)) error {
	l.append.Lock()
	defer l.append.Unlock()
	if l.deposed.Load() {
		return raftlog.ErrNotLeader
	}
	if l.appends == nil {
		l.appends = make(map[raftlog.Ack]int)
	}
	l.appends[ack]++
	var uncertain bool
	if l.outcome != nil {
		var refused error
		if refused, uncertain = l.outcome(record); refused != nil {
			return refused
		}
	}
	if uncertain {
		done(raftlog.AppendResult{Err: raftlog.ErrUncertain})
		return nil
	}
	record = slices.Clone(record)
	l.broker.Prepare(record)
	offset := l.EndOffset()
	if err := l.store.Stamp(record, offset); err != nil {
		return err
	}
	l.mu.Lock()
	l.data = append(l.data, record...)
	l.mu.Unlock()
	l.index++
	u := uncommitted{raftlog.AppendResult{Offset: offset, Index: l.index, Record: record}, done}
	if !l.behind {
		l.apply(u)
		return nil
	}
	if ack == raftlog.AckAppended {
		done(u.result)
		u.done = nil
	}
	l.open = append(l.open, u)
	return nil
}

// fakeClock goes on only when it is told to.
type fakeClock struct {
	mu     sync.Mutex
	now    time.Time
	alarms map[*alarm]struct{}
}

type alarm struct {
	at time.Time
	f  func()
}

func newFakeClock() *fakeClock {
	return &fakeClock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), alarms: map[*alarm]struct{}{}}
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) AfterFunc(d time.Duration, f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := &alarm{c.now.Add(d), f}
	c.alarms[a] = struct{}{}
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, pending := c.alarms[a]
		delete(c.alarms, a)
		return pending
	}
}

// advance moves the time on and sets off what is due by then.
func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	c.now = c.now.Add(d)
	var due []func()
	for a := range c.alarms {
		if !a.at.After(c.now) {
			due = append(due, a.f)
			delete(c.alarms, a)
		}
	}
	c.mu.Unlock()
	for _, f := range due {
		go f()
	}
}

// bench is a broker over memory that has taken over.
type bench struct {
	*Broker
	log   *memoryLog
	clock *fakeClock
}

func newBench(t *testing.T, change ...func(*Options)) *bench {
	t.Helper()
	return newBenchOver(t, store.Options{}, change...)
}

func newBenchOver(t *testing.T, so store.Options, change ...func(*Options)) *bench {
	t.Helper()
	log := &memoryLog{}
	so.FS, so.Fatal = raftlog.OSFS(), func(err error) { t.Errorf("store: %v", err) }
	st, err := store.Open(t.TempDir(), log, so)
	if err != nil {
		t.Fatal(err)
	}
	clock := newFakeClock()
	o := Options{
		Cluster: "C", Group: "b", Host: netip.MustParseAddrPort("127.0.0.1:10911"), Permission: PermRead | PermWrite,
		AutoCreateTopic: true, AutoCreateGroup: true, LongPolling: true, LitePull: true, Clock: clock,
	}
	for _, f := range change {
		f(&o)
	}
	b, err := New(log, st, o)
	if err != nil {
		t.Fatal(err)
	}
	log.broker, log.store = b, st
	if err := b.TakeOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.EndParking()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
		b.Close()
	})
	return &bench{b, log, clock}
}

// put sends a message and returns what became of it.
func (b *bench) put(t *testing.T, topic string, properties ...string) SendResult {
	t.Helper()
	var p []byte
	for i := 0; i < len(properties); i += 2 {
		p = message.AppendProperty(p, properties[i], properties[i+1])
	}
	return b.send(t, &SendRequest{Topic: topic, DefaultTopic: AutoCreateTopic, DefaultTopicQueues: 1, Properties: string(p), MaxReconsumeTimes: -1, Body: []byte("x")})
}

func (b *bench) send(t *testing.T, r *SendRequest) (res SendResult) {
	t.Helper()
	if err := b.Send(r, func(got SendResult) { res = got }); err != nil {
		t.Fatal(err)
	}
	if res.Err != nil {
		t.Fatal(res.Err)
	}
	return res
}

// settle waits for a condition that other goroutines bring about.
func settle(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline:
			t.Fatal("not within 20 s: " + what)
		case <-tick.C:
		}
	}
}

// reason is why an error refuses.
func reason(err error) string {
	if err == nil {
		return "none"
	}
	return fmt.Sprint(AsRefusal(err).Reason)
}

// lead runs the leader's duties until the returned function is called, which gives their error.
func (b *bench) lead(t *testing.T) (end func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Lead(ctx) }()
	return func() error {
		cancel()
		return <-ended
	}
}
