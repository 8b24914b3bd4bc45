package controller

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rmq/raftlog"
)

// toy is a state machine that counts records and keeps a checksum of them. A record "trim N" lets the bytes below N go.
type toy struct {
	path string

	mu    sync.Mutex
	state toyState
	floor int64 // as of the last snapshot
}

type toyState struct {
	Records int
	Sum     uint64
	End     int64
	Floor   int64
}

func openToy(dir string) (*toy, error) {
	t := &toy{path: filepath.Join(dir, "toy.json")}
	b, err := os.ReadFile(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &t.state)
	}
	t.floor = t.state.Floor
	return t, err
}

func (t *toy) Stamp([]byte, int64) error { return nil }
func (t *toy) Rewind() int64             { return t.AppliedOffset() }

func (t *toy) Apply(record []byte, offset int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if offset < t.state.End {
		return
	}
	t.state.Records++
	for _, c := range record {
		t.state.Sum = t.state.Sum*31 + uint64(c)
	}
	fmt.Sscanf(string(record), "trim %d", &t.state.Floor) //nolint:errcheck // most records are not
	t.state.End = offset + int64(len(record))
}

func (t *toy) Applied(end int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state.End = max(t.state.End, end)
}

func (t *toy) AppliedOffset() int64 { return t.get().End }

func (t *toy) get() toyState {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state
}

func (t *toy) Floor() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.floor
}

func (t *toy) Snapshot() (raftlog.Snapshot, error) { return &toySnapshot{t, t.get()}, nil }

type toySnapshot struct {
	t     *toy
	state toyState
}

func (s *toySnapshot) Persist() error {
	b, err := json.Marshal(s.state)
	if err == nil {
		err = os.WriteFile(s.t.path, b, 0o600)
	}
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	s.t.floor = s.state.Floor
	return err
}

func (*toySnapshot) Release() {}

// export pins the newest checkpoint of a toy.
func (t *toy) export() (Export, error) {
	b, err := os.ReadFile(t.path)
	if err != nil {
		return Export{}, err
	}
	var s toyState
	if err := json.Unmarshal(b, &s); err != nil {
		return Export{}, err
	}
	return Export{
		Applied: s.End, Files: []FillFile{{Name: "toy.json", Size: int64(len(b))}},
		ReadAt: func(_ string, p []byte, off int64) (int, error) { return bytes.NewReader(b).ReadAt(p, off) },
		Close:  func() error { return nil },
	}, nil
}

// toyFiles takes a toy's checkpoint.
type toyFiles struct {
	dir string
	b   []byte
}

func (f *toyFiles) Have(string) int64 { return int64(len(f.b)) }
func (f *toyFiles) WriteAt(_ string, b []byte, off int64) error {
	f.b = append(f.b[:off], b...)
	return nil
}
func (f *toyFiles) Commit() error { return os.WriteFile(filepath.Join(f.dir, "toy.json"), f.b, 0o600) }
func (f *toyFiles) Close() error  { return nil }

// testTimings leave room for a machine that does much else.
var testTimings = raftlog.Timings{Heartbeat: 600 * time.Millisecond, Election: 600 * time.Millisecond, Lease: 500 * time.Millisecond, Commit: 5 * time.Millisecond}

var testPace = Pace{
	Look: 20 * time.Millisecond, Poll: 100 * time.Millisecond, Contact: 600 * time.Millisecond, Gone: 1500 * time.Millisecond,
	Retry: 200 * time.Millisecond, Moves: time.Hour, Petition: Petition{Ask: 30 * time.Millisecond, Known: 2 * time.Second},
}

// site is a group of replicas of one process, over TCP.
type site struct {
	t       *testing.T
	log     raftlog.Options
	all     map[int]*rep
	adapt   func(o *Options)
	arbiter ArbiterSource
	dir     string

	mu    sync.Mutex
	addrs map[*rep]string // that the name servers know
}

func (s *site) register(r *rep) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addrs[r] = r.addr
}

func (s *site) find(context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.addrs)), nil
}

// rep is one replica, running or not.
type rep struct {
	s        *site
	number   int
	dir      string
	addr     string // of its port, once it has one
	boot     string // of its machine
	log      *raftlog.Log
	toy      *toy
	net      *raftlog.PeerNet
	calls    *Switchboard
	replicas *Replicas
	group    *Group
	control  atomic.Pointer[Group] // group, for the port
	filled   bool
	refill   chan struct{}
}

func newSite(t *testing.T, adapt func(o *Options)) *site {
	s := &site{t: t, all: make(map[int]*rep), adapt: adapt, dir: t.TempDir(), addrs: make(map[*rep]string)}
	s.log = raftlog.Options{SegmentBytes: 64 << 10, FlushInterval: 5 * time.Millisecond, TailCacheBytes: 32 << 10, RecordBytesMax: 16 << 10}
	t.Cleanup(func() {
		for _, r := range s.all {
			r.stop()
		}
	})
	return s
}

// replica returns replica n, which is made if there is none.
func (s *site) replica(n int) *rep {
	r := s.all[n]
	if r == nil {
		r = &rep{s: s, number: n, dir: filepath.Join(s.dir, fmt.Sprint(n)), boot: "one"}
		if err := os.Mkdir(r.dir, 0o700); err != nil {
			s.t.Fatal(err)
		}
		s.all[n] = r
	}
	return r
}

func (r *rep) openLog() (err error) {
	o := r.s.log
	o.BootID = func() string { return r.boot }
	r.log, err = raftlog.Open(filepath.Join(r.dir, "log"), o)
	return err
}

// listen opens the log and the port.
func (r *rep) listen() {
	r.s.t.Helper()
	if err := r.openLog(); err != nil {
		r.s.t.Fatal(err)
	}
	r.calls, r.refill = &Switchboard{}, make(chan struct{})
	r.replicas = NewReplicas(func() uint64 { return r.log.Status().LastIndex })
	listen := r.addr
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	id := Hello{Number: r.number, Incarnation: r.log.Identity().Incarnation}.ServerID()
	net, err := raftlog.ListenPeers(raftlog.PeerNetOptions{
		Listen: listen, ServerID: string(id), ClusterID: "c", Group: "g", Handler: r.calls.Handle, OnProgress: r.replicas.Progress,
		DialTimeout: 300 * time.Millisecond,
		OnSnapshotOffered: func(addr, id string, term, index uint64) {
			if g := r.control.Load(); g != nil {
				g.SnapshotOffered(addr, id, term, index)
			}
		},
	})
	if err != nil {
		r.s.t.Fatal(err)
	}
	r.net, r.addr = net, net.Addr().String()
	r.s.register(r)
}

func (r *rep) options(change func(o *Options)) Options {
	o := Options{
		Name: "g", Cluster: "c", Replica: r.number, Address: r.addr, ClientAddr: "client-" + r.addr, Net: r.net, Calls: r.calls, Log: r.log, Pace: testPace, Timings: testTimings,
		Replicas: r.replicas, Founding: Join, Arbiters: r.s.arbiter,
		TakeOver: func(context.Context) error { return nil },
		Lead:     func(ctx context.Context) error { <-ctx.Done(); return nil },
		Refill:   func() { close(r.refill) },
		Find:     r.s.find,
		Sink: func(o FillOffer) (LogSink, FileSink, error) {
			if err := r.log.Close(); err != nil {
				return nil, nil, err
			}
			seeder, err := raftlog.OpenSeeder(filepath.Join(r.dir, "log"), r.s.log, o.Point)
			return seeder, &toyFiles{dir: r.dir}, err
		},
	}
	if r.number == 0 {
		o.Founding = First
	}
	if r.s.adapt != nil {
		r.s.adapt(&o)
	}
	if change != nil {
		change(&o)
	}
	return o
}

// try starts the replica, as a program does.
func (r *rep) try(ctx context.Context, change func(o *Options)) error {
	r.s.t.Helper()
	r.listen()
	return r.run(ctx, change)
}

// run is try behind listen.
func (r *rep) run(ctx context.Context, change func(o *Options)) error {
	o := r.options(change)
	a, err := Admit(ctx, o)
	if err != nil {
		return err
	}
	if r.filled = a.Filled; r.filled {
		if err := r.openLog(); err != nil {
			return err
		}
	}
	if r.toy, err = openToy(r.dir); err != nil {
		return err
	}
	o.Log, o.State, o.Replica, o.Servers, o.Export = r.log, r.toy, a.Number, a.Servers, r.toy.export
	r.number = a.Number
	r.group, err = Start(ctx, o)
	r.control.Store(r.group)
	return err
}

func (r *rep) start() { r.startWith(nil) }

func (r *rep) startWith(change func(o *Options)) {
	r.s.t.Helper()
	ctx, cancel := context.WithTimeout(r.s.t.Context(), 20*time.Second)
	defer cancel()
	if err := r.try(ctx, change); err != nil {
		r.s.t.Fatal(err)
	}
}

// stop ends the replica if it runs.
func (r *rep) stop() {
	if r.net != nil {
		if err := r.net.Close(); err != nil {
			r.s.t.Error(err)
		}
	}
	if r.group != nil {
		r.group.Close()
	}
	if r.log != nil {
		if err := r.log.Close(); err != nil {
			r.s.t.Error(err)
		}
	}
	r.net, r.group, r.log = nil, nil, nil
	r.control.Store(nil)
}

// wipe empties the stopped replica's directory.
func (r *rep) wipe() {
	r.s.t.Helper()
	names, err := os.ReadDir(r.dir)
	if err != nil {
		r.s.t.Fatal(err)
	}
	for _, n := range names {
		if err := os.RemoveAll(filepath.Join(r.dir, n.Name())); err != nil {
			r.s.t.Fatal(err)
		}
	}
}

// await waits until is, at most 20 s.
func (s *site) await(what string, is func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !is() {
		if time.Now().After(deadline) {
			s.t.Fatalf("waited in vain until %s; members %s", what, s.members())
		}
		<-time.After(5 * time.Millisecond)
	}
}

// leader waits for one and returns it.
func (s *site) leader() *rep {
	s.t.Helper()
	var leader *rep
	s.await("somebody leads", func() bool {
		for _, r := range s.all {
			if r.group != nil && r.group.Leading() && r.log.IsLeader() {
				leader = r
				return true
			}
		}
		return false
	})
	return leader
}

// members writes the group as its leader has it: "0 voter, 1 learner, arbiter voter".
func (s *site) members() string {
	for _, r := range s.all {
		if r.group == nil || !r.group.Leading() {
			continue
		}
		var list []string
		for _, m := range r.group.Replication() {
			word := string(m.Role)
			if m.Role == RoleLeader {
				word = string(RoleVoter)
			}
			if m.Filling {
				word = "filling"
			}
			if m.Role == RoleArbiter {
				voter := "learner"
				if conf, err := r.log.Configuration(); err == nil {
					for _, s := range conf.Servers {
						if string(s.ID) == m.ServerID && s.Suffrage == 0 {
							voter = "voter"
						}
					}
				}
				list = append(list, "arbiter "+voter)
				continue
			}
			list = append(list, fmt.Sprint(m.Number, " ", word))
		}
		slices.Sort(list)
		return strings.Join(list, ", ")
	}
	return "nobody leads"
}

func (s *site) awaitMembers(want string) {
	s.t.Helper()
	s.await("the group is "+want, func() bool { return s.members() == want })
}

// put has records committed; a change of leader is no excuse.
func (s *site) put(n, size int) {
	s.t.Helper()
	s.await("the records are committed", func() bool {
		leader := s.leader()
		answers, sent := make(chan error, n), 0
		for i := range n {
			record := fmt.Appendf(nil, "%d ", i)
			record = append(record, bytes.Repeat([]byte{'x'}, size)...)
			if leader.log.Append(record, raftlog.AckCommitted, func(r raftlog.AppendResult) { answers <- r.Err }) != nil {
				break
			}
			sent++
		}
		good := 0
		for range sent {
			if <-answers == nil { // it comes when the lead is lost, too
				good++
			}
		}
		return good == n
	})
}

// putOn has one record committed by a leader that stays it.
func putOn(t *testing.T, leader *rep, size int) {
	t.Helper()
	answer := make(chan error, 1)
	if err := leader.log.Append(bytes.Repeat([]byte{'y'}, size), raftlog.AckCommitted, func(r raftlog.AppendResult) { answer <- r.Err }); err != nil {
		t.Fatal(err)
	}
	if err := <-answer; err != nil {
		t.Fatal(err)
	}
}

// same waits until all running replicas have the same state, and compares the bytes of their logs where they overlap.
func (s *site) same() {
	s.t.Helper()
	leader := s.leader()
	for _, r := range s.all {
		if r.group == nil || r == leader {
			continue
		}
		s.await(fmt.Sprintf("replica %d has what the leader has", r.number), func() bool {
			return r.toy.get() == leader.toy.get() && r.log.EndOffset() == leader.log.EndOffset()
		})
		from, end := max(r.log.MinOffset(), leader.log.MinOffset()), leader.toy.get().End
		a, b := make([]byte, end-from), make([]byte, end-from)
		if _, err := leader.log.ReadAt(a, from); err != nil {
			s.t.Fatal(err)
		}
		if _, err := r.log.ReadAt(b, from); err != nil {
			s.t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			s.t.Fatalf("replica %d has other bytes than the leader from %d to %d", r.number, from, end)
		}
	}
}

// A group of one grows to three, each new one filled, and never stops.
func TestGroupGrows(t *testing.T) {
	s := newSite(t, nil)
	s.replica(0).start()
	s.put(50, 4000)
	s.replica(1).start()
	s.awaitMembers("0 voter, 1 learner")
	if !s.all[1].filled {
		t.Error("it joined without being filled")
	}
	s.put(10, 4000)
	s.same()
	s.replica(2).start()
	s.awaitMembers("0 voter, 1 voter, 2 voter")
	s.put(10, 4000)
	s.same()
	s.await("all are in sync", func() bool {
		n := 0
		for _, r := range s.leader().group.Replication() {
			if r.Connected && r.InSync && r.ClientAddr != "" {
				n++
			}
		}
		r := s.leader().replicas
		return n == 3 && r.Data() == 3 && r.Connected() == 3 && r.InSync() == 3 && r.Held(3) > 0 && r.Held(3) <= r.Held(1) && r.Held(4) == 0
	})
	// And it survives its first.
	s.all[0].stop()
	s.leader()
	s.put(10, 4000)
	s.all[0].start()
	s.same()
}
