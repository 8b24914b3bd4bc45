package controller

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"rmq/raftlog"
)

// village is replicas that can be asked.
type village struct {
	mu    sync.Mutex
	there map[string]Hello // by address
	asked map[string]int
}

func (v *village) Call(_ context.Context, addr string, request []byte) ([]byte, error) {
	m, err := DecodeMessage(request)
	if err != nil || m.Head != byte(CallHello) {
		return nil, errors.Join(err, errors.New("no greeting"))
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.asked == nil {
		v.asked = map[string]int{}
	}
	v.asked[addr]++
	h, ok := v.there[addr]
	if !ok {
		return nil, errors.New("nobody there")
	}
	return EncodeAnswer(h, nil), nil
}

func (v *village) arrive(addr string, h Hello) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.there[addr] = h
}

var quiet = slog.New(slog.DiscardHandler)

// Every member writes the same first configuration, once all of them are there.
func TestFoundTakesEveryMember(t *testing.T) {
	v := &village{there: map[string]Hello{"b": {Number: 1, Incarnation: "y"}}}
	late := func() {
		for {
			v.mu.Lock()
			n := v.asked["c"]
			v.mu.Unlock()
			if n > 1 {
				v.arrive("c", Hello{Number: 2, Incarnation: "z"})
				return
			}
			select {
			case <-t.Context().Done():
				return
			case <-time.After(time.Millisecond):
			}
		}
	}
	go late()
	want := []raft.Server{{ID: "0-x", Address: "a"}, {ID: "1-y", Address: "b"}, {ID: "2-z", Address: "c"}}
	got, err := Found(t.Context(), Hello{Number: 0, Incarnation: "x"}, "a", []Peer{{2, "c"}, {1, "b"}}, v, quiet)
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("%v %v", got, err)
	}
	v.arrive("a", Hello{Number: 0, Incarnation: "x", Members: []string{"0-x", "1-y", "2-z"}}) // it was quicker, and is a member now
	got, err = Found(t.Context(), Hello{Number: 1, Incarnation: "y"}, "b", []Peer{{0, "a"}, {2, "nobody"}}, v, quiet)
	if err != nil || got != nil {
		t.Fatalf("founds %v though others have with it: %v", got, err)
	}
}

// A replica whose directory was emptied must not vote again as if it still held what it acknowledged.
func TestFoundRefusesAnEmptiedReplica(t *testing.T) {
	v := &village{there: map[string]Hello{"a": {Number: 0, Incarnation: "x", Members: []string{"0-x", "1-y", "2-z"}}}}
	_, err := Found(t.Context(), Hello{Number: 1, Incarnation: "new"}, "b", []Peer{{0, "a"}, {2, "c"}}, v, quiet)
	var f *raftlog.Fault
	if !errors.Is(err, ErrAmnesia) || !errors.As(err, &f) || f.Code != raftlog.ExitAmnesia {
		t.Fatalf("%v", err)
	}
}

func TestFoundRefusesAWrongNumber(t *testing.T) {
	v := &village{there: map[string]Hello{"a": {Number: 2, Incarnation: "x"}}}
	if _, err := Found(t.Context(), Hello{Number: 1, Incarnation: "y"}, "b", []Peer{{0, "a"}}, v, quiet); err == nil {
		t.Fatal("a member with another number than listed was taken")
	}
}

func TestFoundEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := Found(ctx, Hello{Incarnation: "x"}, "a", []Peer{{1, "b"}}, &village{}, quiet); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v", err)
	}
}

// A replica finds out where the leader answers clients, and tells when another one leads.
func TestLeaderAddr(t *testing.T) {
	log := newFakeLog()
	v := &village{there: map[string]Hello{"b": {Number: 1, Incarnation: "y", ClientAddr: "b:10911"}, "c": {Number: 2, Incarnation: "z", ClientAddr: "c:10911"}}}
	g, j := start(t, log, func(o *Options, j *journal) {
		o.Peers = []Peer{{1, "b"}, {2, "c"}}
		o.Net = netOf{v}
		o.LeaderChanged = func() { j.add("another leader") }
	})
	defer g.Close()
	for i, want := range []struct {
		raft, id, addr string
		number         int
	}{{"b", "1-y", "b:10911", 1}, {"c", "2-z", "c:10911", 2}} {
		log.status.Store(&raftlog.Status{LeaderID: want.id, LeaderAddr: want.raft})
		j.await(t, i+1)
		addr, err := g.LeaderAddr(t.Context())
		if n, ok := g.LeaderNumber(); err != nil || addr != want.addr || !ok || n != want.number {
			t.Fatalf("leader %s, number %d, %v", addr, n, err)
		}
		if err := g.WaitLeader(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	log.status.Store(&raftlog.Status{})
	j.await(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if addr, err := g.LeaderAddr(ctx); err == nil {
		t.Fatalf("nobody leads, and the leader is at %s", addr)
	}
}

// Who waits for a leader learns of it when this replica becomes it.
func TestLeaderIsHere(t *testing.T) {
	log := newFakeLog()
	g, _ := start(t, log, func(*Options, *journal) {})
	defer g.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	here := make(chan error, 1)
	go func() {
		addr, err := g.LeaderAddrOrHere(ctx)
		if addr != "" {
			err = errors.New("the leader is at " + addr)
		}
		here <- err
	}()
	log.leadership <- true
	if err := <-here; err != nil {
		t.Fatal(err)
	}
}

type netOf struct{ *village }

func (netOf) Transport() raft.Transport                     { return nil }
func (netOf) Progress(string) (raftlog.PeerProgress, bool)  { return raftlog.PeerProgress{}, false }
func (netOf) Probe(context.Context, string) (string, error) { return "", nil }
func (netOf) SetMuted(bool)                                 {}
func (netOf) SetServerID(string) error                      { return nil }
func (netOf) Muted() bool                                   { return false }
