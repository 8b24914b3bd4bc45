package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// hits returns the bodies of a query's messages.
func hits(t testing.TB, res KeyQueryResult) []string {
	t.Helper()
	var out []string
	for _, b := range res.Messages {
		out = append(out, bodies(t, b)...)
	}
	return out
}

func TestQueryByKey(t *testing.T) {
	r := newRig(t)
	var last int64
	for i := range int64(5) {
		last = r.put(msg{topic: "T", body: fmt.Sprint(i), uniq: fmt.Sprint("u", i), keys: " shared  k" + fmt.Sprint(i) + " shared", time: 10 * i}.encode())
	}
	r.put(msg{topic: "U", body: "other topic", uniq: "u1", keys: "shared", time: 50}.encode())
	r.put(msg{topic: "T", body: "no key", time: 60}.encode())
	for range 2 {
		for _, c := range []struct {
			key        string
			unique     bool
			begin, end int64
			max        int
			want       []string
		}{
			{"u1", true, 0, 100, 9, []string{"1"}},
			{"u1", false, 0, 100, 9, []string{"1"}},
			{"k2", false, 0, 100, 9, []string{"2"}},
			{"k2", true, 0, 100, 9, nil},
			{"shared", false, 0, 100, 9, []string{"4", "3", "2", "1", "0"}},
			{"shared", false, 0, 100, 2, []string{"4", "3"}},
			{"shared", false, 10, 30, 9, []string{"3", "2", "1"}},
			{"shared", false, 11, 19, 9, nil},
			{"share", false, 0, 100, 9, nil},
			{"", false, 0, 100, 9, nil},
			{"shared", false, 0, 100, 0, nil},
		} {
			res, err := r.QueryByKey("T", c.key, c.unique, c.begin, c.end, c.max)
			if got := hits(t, res); err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%+v: %v, %v", c, got, err)
			}
			if res.LastTime != 60 || res.LastPhys <= last {
				t.Errorf("index reaches time %d, position %d", res.LastTime, res.LastPhys)
			}
		}
		r.checkpoint() // the second round reads from a file
	}
	r.put(Trim(last))
	if res := queryByKey(t, r.Store, "T", "shared", false); !slices.Equal(hits(t, res), []string{"4"}) {
		t.Fatalf("after a trim: %v", hits(t, res))
	}
}

func TestWithoutKeyIndex(t *testing.T) {
	r := newRig(t)
	r.o.KeyIndex = false
	r.reopen()
	r.put(msg{topic: "T", uniq: "u"}.encode())
	r.checkpoint()
	if res, err := r.QueryByKey("T", "u", true, 0, 1, 1); err != nil || len(res.Messages) != 0 {
		t.Fatalf("%d hits, %v", len(res.Messages), err)
	}
	if got := r.fs.files(rigDir, "keys-"); len(got) != 0 {
		t.Fatalf("files %v", got)
	}
}

// TestKeyRunsMerge: many small runs become few, and everything is found, once.
func TestKeyRunsMerge(t *testing.T) {
	r := newSmallRig(t)
	for i := range 9000 {
		r.put(msg{topic: "T", body: fmt.Sprint(i), uniq: fmt.Sprint("u", i), keys: fmt.Sprint("k", i%7), time: int64(i)}.encode())
		if i == 4000 {
			r.checkpoint()
			r.reopen()
		}
	}
	r.checkpoint()
	waitMerged(r.Store)
	if got := r.Stats().KeyRuns; got > 3*(mergeFanIn-1)+10 {
		t.Fatalf("%d runs", got)
	}
	check := func() {
		t.Helper()
		for i := 0; i < 9000; i += 331 {
			if got := hits(t, queryByKey(t, r.Store, "T", fmt.Sprint("u", i), true)); !slices.Equal(got, []string{fmt.Sprint(i)}) {
				t.Fatalf("u%d: %v", i, got)
			}
		}
		got := hits(t, queryByKey(t, r.Store, "T", "k3", false))
		if len(got) != (9000-3+6)/7 {
			t.Fatalf("k3: %d hits", len(got))
		}
		for i, body := range got {
			if want := fmt.Sprint(3 + 7*(len(got)-1-i)); body != want {
				t.Fatalf("hit %d is %s, want %s", i, body, want)
			}
		}
	}
	check()
	for range 2 { // the checkpoint before names the runs from before the merge
		r.put(PutConfig("k", "v"))
		r.checkpoint()
	}
	if got, live := len(r.fs.files(rigDir, "keys-")), r.Stats().KeyRuns; got != live {
		t.Fatalf("%d run files for %d runs", got, live)
	}
	r.reopen()
	check()

	// A trim drops the runs below it at the next checkpoint.
	runs := r.Stats().KeyRuns
	e, _ := r.Entry(QueueID{"T", 0}, 8900)
	r.put(Trim(e.Phys))
	r.checkpoint()
	if got := r.Stats().KeyRuns; got >= runs {
		t.Fatalf("%d runs after a trim, %d before", got, runs)
	}
	if got := hits(t, queryByKey(t, r.Store, "T", "u8950", true)); !slices.Equal(got, []string{"8950"}) {
		t.Fatalf("u8950: %v", got)
	}
}

// waitMerged waits until no runs are left to merge.
func waitMerged(s *Store) {
	x := s.keys
	x.mu.Lock()
	defer x.mu.Unlock()
	for len(x.frozen) > 0 || x.mergeable() != nil {
		x.changed.Wait()
	}
}

// TestDamagedKeyRuns: a damaged run is rebuilt from the log, whether found at open, by a query or by a merge.
func TestDamagedKeyRuns(t *testing.T) {
	for name, change := range map[string]func(b []byte) []byte{
		"header":   func(b []byte) []byte { b[20] ^= 1; return b },
		"page":     func(b []byte) []byte { b[keyPageBytes+100] ^= 1; return b },
		"fences":   func(b []byte) []byte { b[len(b)-6] ^= 1; return b },
		"cut":      func(b []byte) []byte { return b[:len(b)-1] },
		"no pages": func(b []byte) []byte { return b[:keyPageBytes] },
		"empty":    func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			r := newSmallRig(t)
			r.fill(250)
			r.checkpoint()
			r.Close()
			for _, f := range r.fs.files(rigDir, "keys-") {
				r.fs.damage(f, change)
			}
			r.open()
			for i := range 250 {
				if got := hits(t, queryByKey(t, r.Store, "T", fmt.Sprint("u", i), true)); !slices.Equal(got, []string{fmt.Sprint(i)}) {
					t.Fatalf("u%d: %v", i, got)
				}
			}
			r.fill(2000)
			r.checkpoint()
			waitMerged(r.Store)
			r.reopen()
			if got := hits(t, queryByKey(t, r.Store, "T", "u7", true)); !slices.Equal(got, []string{"7"}) {
				t.Fatalf("u7: %v", got)
			}
		})
	}
}

func TestMergeMeetsDamage(t *testing.T) {
	r := newSmallRig(t)
	r.fill(350)
	r.checkpoint()
	waitMerged(r.Store)
	r.fs.damage(r.fs.files(rigDir, "keys-")[1], func(b []byte) []byte { b[keyPageBytes+100] ^= 1; return b })
	r.fill(2000)
	r.checkpoint()
	waitKeyIndex(r.Store)
	waitMerged(r.Store)
	for i := 0; i < 2350; i += 17 {
		if got := hits(t, queryByKey(t, r.Store, "T", fmt.Sprint("u", i), true)); !slices.Equal(got, []string{fmt.Sprint(i)}) {
			t.Fatalf("u%d: %v", i, got)
		}
	}
}

// TestFailedMergeStopsTheStore fails the creation and then the writing of a merge's output.
func TestFailedMergeStopsTheStore(t *testing.T) {
	for _, op := range []string{"create", "write"} {
		t.Run(op, func(t *testing.T) {
			boom, failed := errors.New("boom"), make(chan error, 1)
			r := newSmallRig(t)
			r.o.Fatal = func(err error) { failed <- err }
			r.reopen()
			r.fs.failWith(func(o, name string) error {
				if o == op && strings.HasPrefix(filepath.Base(name), "keys-") && strings.HasSuffix(name, "-1") {
					return boom
				}
				return nil
			})
			for i := range 100 * mergeFanIn {
				r.Apply(r.stamped(msg{topic: "T", uniq: fmt.Sprint(i)}.encode()))
			}
			if err := <-failed; !errors.Is(err, boom) {
				t.Fatalf("%v", err)
			}
		})
	}
}

// TestDamagedKeyRunWithoutScan: queries that need it fail, others do not.
func TestDamagedKeyRunWithoutScan(t *testing.T) {
	r := newSmallRig(t)
	r.fill(250)
	r.checkpoint()
	r.Close()
	r.fs.damage(r.fs.files(rigDir, "keys-")[0], func([]byte) []byte { return nil })
	s, err := Open(rigDir, &struct{ Log }{r.log}, r.o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.QueryByKey("T", "u1", true, 0, 10, 9); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("%v", err)
	}
	if res, err := s.QueryByKey("T", "u240", true, 240, 240, 9); err != nil || len(res.Messages) != 1 {
		t.Fatalf("%d hits, %v", len(res.Messages), err)
	}
	// A checkpoint goes on naming the damaged run, so that a later start may rebuild it.
	snap, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if err := snap.Persist(); err != nil {
		t.Fatal(err)
	}
	r.Store = s
	r.reopen()
	if got := hits(t, queryByKey(t, r.Store, "T", "u1", true)); !slices.Equal(got, []string{"1"}) {
		t.Fatalf("u1: %v", got)
	}
}

// TestKeyQueryIsBounded: a key that very many messages carry does not make one query read them all.
func TestKeyQueryIsBounded(t *testing.T) {
	r := newRig(t)
	r.put(msg{topic: "T", keys: "k", time: 1}.encode())
	one := msg{topic: "T", keys: "k", time: 2}.encode()
	for range 20 {
		r.put([]byte(strings.Repeat(string(one), 1000)))
	}
	if res, err := r.QueryByKey("T", "k", false, 0, 1, 9); err != nil || len(res.Messages) != 0 {
		t.Fatalf("%d hits, %v: the old message lies behind %d candidates", len(res.Messages), err, keyCandidatesMax)
	}
	if res, err := r.QueryByKey("T", "k", false, 0, 2, 64); err != nil || len(res.Messages) != 64 {
		t.Fatalf("%d hits, %v", len(res.Messages), err)
	}
}

// gateLog is a log whose scans repeat their first record until they are told to go on.
type gateLog struct {
	*memLog
	scanning chan struct{} // gets a value when a scan begins
	goOn     chan struct{} // closed to let it go on
}

func (l *gateLog) Scan(from int64, fn func(record []byte, offset int64) error) error {
	l.scanning <- struct{}{}
	return l.memLog.Scan(from, func(record []byte, offset int64) error {
		for {
			if err := fn(record, offset); err != nil {
				return err
			}
			select {
			case <-l.goOn:
				return nil
			default:
			}
		}
	})
}

// TestRebuildDoesNotHoldUpApply: while a run is rebuilt, new runs are written and checkpoints taken; closing ends it.
func TestRebuildDoesNotHoldUpApply(t *testing.T) {
	for _, closing := range []bool{false, true} {
		t.Run(fmt.Sprint("closing=", closing), func(t *testing.T) {
			r := newSmallRig(t)
			r.put(msg{topic: "T", queue: 9, body: "no key"}.encode()) // what the gate repeats
			r.fill(250)
			r.checkpoint()
			r.Close()
			r.fs.damage(r.fs.files(rigDir, "keys-")[0], func([]byte) []byte { return nil })
			gate := &gateLog{memLog: r.log, scanning: make(chan struct{}, 1), goOn: make(chan struct{})}
			s, err := Open(rigDir, gate, r.o)
			if err != nil {
				t.Fatal(err)
			}
			r.Store = s
			r.restamp()
			<-gate.scanning
			r.fill(100 * (frozenRunsMax + 3))
			r.checkpoint()
			if closing {
				r.Close()
				return
			}
			close(gate.goOn)
			waitKeyIndex(r.Store)
			if got := hits(t, queryByKey(t, r.Store, "T", "u7", true)); !slices.Equal(got, []string{"7"}) {
				t.Fatalf("u7: %v", got)
			}
		})
	}
}
