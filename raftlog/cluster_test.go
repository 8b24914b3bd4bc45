package raftlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"rmq/raftlog/crashfs"
)

// cluster is a group of replicas in one process, each with its own disk, joined by in-memory transports.
type cluster struct {
	t       testing.TB
	o       Options
	nodes   []*node
	disks   []*crashfs.FS
	trans   []*raft.InmemTransport
	servers []raft.Server
}

func startCluster(t testing.TB, size int, o Options) *cluster {
	c := &cluster{t: t, o: o, nodes: make([]*node, size), disks: make([]*crashfs.FS, size), trans: make([]*raft.InmemTransport, size)}
	for i := range size {
		c.servers = append(c.servers, raft.Server{ID: raft.ServerID(fmt.Sprint(i)), Address: raft.ServerAddress(fmt.Sprintf("node%d", i))})
		c.disks[i] = crashfs.New()
	}
	for i := range size {
		c.start(i)
	}
	t.Cleanup(func() {
		for i := range size {
			c.stop(i)
		}
	})
	return c
}

// start opens replica i and connects it to those that run.
func (c *cluster) start(i int) {
	c.t.Helper()
	o := c.o
	o.FS = c.disks[i]
	l, err := Open("/d/log", o)
	if err != nil {
		c.t.Fatal(err)
	}
	if has, err := l.HasState(); err != nil {
		c.t.Fatal(err)
	} else if !has {
		if err := l.Bootstrap(c.servers); err != nil {
			c.t.Fatal(err)
		}
	}
	sm, err := openToy(l.fs, filepath.Join("/d", "sm"))
	if err != nil {
		c.t.Fatal(err)
	}
	_, c.trans[i] = raft.NewInmemTransportWithTimeout(c.servers[i].Address, 200*time.Millisecond)
	c.nodes[i] = &node{c.t, l, sm}
	c.heal(i)
	if err := l.Start(sm, Member{ServerID: fmt.Sprint(i), Address: string(c.servers[i].Address), Transport: c.trans[i],
		Timings: Timings{50 * time.Millisecond, 50 * time.Millisecond, 40 * time.Millisecond, 2 * time.Millisecond}}); err != nil {
		c.t.Fatal(err)
	}
}

// stop closes replica i, which cuts its connections first, as the end of a process does.
func (c *cluster) stop(i int) {
	c.t.Helper()
	if c.nodes[i] == nil {
		return
	}
	c.cut(i)
	if err := c.nodes[i].log.Close(); err != nil && !errors.Is(err, ErrPoisoned) {
		c.t.Error(err)
	}
	c.nodes[i] = nil
}

// cut separates replica i from the others.
func (c *cluster) cut(i int) {
	c.trans[i].DisconnectAll()
	for j, other := range c.trans {
		if j != i && other != nil {
			other.Disconnect(c.servers[i].Address)
		}
	}
}

// heal joins replica i with every other that runs.
func (c *cluster) heal(i int) {
	for j, other := range c.trans {
		if j != i && other != nil && c.nodes[j] != nil {
			c.trans[i].Connect(c.servers[j].Address, other)
			other.Connect(c.servers[i].Address, c.trans[i])
		}
	}
}

// await waits until cond holds.
func (c *cluster) await(what string, cond func() bool) {
	c.t.Helper()
	awaitCond(c.t, what, cond)
}

func awaitCond(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline.C:
			t.Fatalf("not within 20 s: %s", what)
		case <-tick.C:
		}
	}
}

// leader waits for a replica that leads with an applied barrier; it is not the one called but.
func (c *cluster) leader(but int) int {
	c.t.Helper()
	at := -1
	c.await("a leader", func() bool {
		for i, n := range c.nodes {
			if n == nil || i == but || !n.log.IsLeader() {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			err := n.log.Barrier(ctx)
			cancel()
			if err == nil {
				at = i
				return true
			}
		}
		return false
	})
	return at
}

// load appends through whoever leads until stop is called, which returns what was answered. No replica is started or stopped
// meanwhile.
func (c *cluster) load(producers int) (stop func() map[uint64]ackedItem) {
	g := &ledger{acked: map[uint64]ackedItem{}}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for p := range producers {
		wg.Go(func() {
			payload := bytes.Repeat([]byte{byte('a' + p)}, 200+p*37)
			for {
				for _, n := range c.nodes {
					select {
					case <-done:
						return
					default:
					}
					if !n.log.IsLeader() {
						continue
					}
					answered := make(chan struct{})
					err := n.log.Append(toyItem(payload), AckCommitted, func(r AppendResult) {
						if r.Err == nil {
							g.add(r)
						}
						close(answered)
					})
					if err == nil {
						<-answered
					}
				}
				select {
				case <-done:
					return
				case <-time.After(time.Millisecond):
				}
			}
		})
	}
	return func() map[uint64]ackedItem {
		close(done)
		wg.Wait()
		return g.snapshot()
	}
}

// settle waits until all replicas have the same end and have applied it.
func (c *cluster) settle() {
	c.t.Helper()
	c.leader(-1)
	c.await("all replicas at the same end", func() bool {
		end := c.nodes[0].log.EndOffset()
		for _, n := range c.nodes {
			// A barrier is the last entry and not seen by the state machine, so compare by index.
			s := n.log.Status()
			if n.log.EndOffset() != end || s.AppliedIndex != s.LastIndex {
				return false
			}
		}
		return true
	})
}

// compare checks that all replicas hold the same bytes at the same offsets.
func (c *cluster) compare() {
	c.t.Helper()
	var low int64
	for _, n := range c.nodes {
		low = max(low, n.log.MinOffset())
	}
	size := c.nodes[0].log.EndOffset() - low
	var want []byte
	for i, n := range c.nodes {
		got := make([]byte, size)
		if _, err := n.log.ReadAt(got, low); err != nil {
			c.t.Fatalf("replica %d: %v", i, err)
		}
		if i == 0 {
			want = got
		}
		if !bytes.Equal(got, want) {
			at := 0
			for got[at] == want[at] {
				at++
			}
			c.t.Fatalf("replicas 0 and %d differ at offset %d", i, low+int64(at))
		}
		checkLog(c.t, n.log)
	}
}

// TestReplicasHoldTheSameBytes changes the leader by partition, by transfer and by restart, all under load, and then compares.
func TestReplicasHoldTheSameBytes(t *testing.T) {
	for _, flush := range []FlushMode{AsyncFlush, SyncFlush} {
		t.Run(flush.String(), func(t *testing.T) {
			c := startCluster(t, 3, Options{Flush: flush, SegmentBytes: 64 << 10, TailCacheBytes: 32 << 10, CoalesceBytesMax: 4 << 10,
				FlushInterval: 5 * time.Millisecond, SnapshotEveryBytes: 1 << 20, Logger: nil})
			c.leader(-1)
			stop := c.load(8)
			for round := range 6 {
				old := c.leader(-1)
				before := c.nodes[old].log.EndOffset()
				c.await("progress", func() bool { return c.nodes[old].log.EndOffset() > before+20<<10 || !c.nodes[old].log.IsLeader() })
				switch round % 3 {
				case 0: // the old leader goes on appending what will be cut off
					c.cut(old)
					c.leader(old)
					c.heal(old)
				case 1:
					ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
					if err := c.nodes[old].log.TransferLeadership(ctx); err != nil {
						t.Logf("transfer: %v", err) // it may be too late; the group goes on either way
					}
					cancel()
				case 2: // lose contact to one follower, which then has to catch up
					follower := (old + 1) % 3
					c.cut(follower)
					before := c.nodes[old].log.EndOffset()
					c.await("progress without a follower", func() bool {
						return c.nodes[old].log.EndOffset() > before+20<<10 || !c.nodes[old].log.IsLeader()
					})
					c.heal(follower)
				}
			}
			acked := stop()
			c.settle()
			c.compare()
			if len(acked) < 50 {
				t.Fatalf("only %d items answered", len(acked))
			}
			for _, n := range c.nodes {
				checkItems(t, n, acked)
			}
			for i := range c.nodes { // and once more after a restart of every replica
				c.stop(i)
				c.start(i)
			}
			c.settle()
			c.compare()
			checkItems(t, c.nodes[0], acked)
		})
	}
}
