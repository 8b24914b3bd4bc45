package raftlog

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"rmq/raftlog/crashfs"
)

// TestPeerNetReplicasHoldTheSameBytes runs three real logs over TCP, under load, and stops whoever leads, twice: the others act on
// the broken connection, the stopped one comes back on its port. Then every log is the same and holds all that was answered.
func TestPeerNetReplicasHoldTheSameBytes(t *testing.T) {
	noLeaks(t)
	c := startPeerCluster(t, 3, Options{SegmentBytes: 1 << 20, TailCacheBytes: 128 << 10, CoalesceBytesMax: 16 << 10,
		FlushInterval: 5 * time.Millisecond, SnapshotEveryBytes: 4 << 20})
	acked := make(map[uint64]ackedItem)
	for range 2 {
		old := c.leader(-1)
		stop := c.load(8)
		before := c.nodes[old].log.EndOffset()
		c.await("progress", func() bool { return c.nodes[old].log.EndOffset() > before+200<<10 || !c.nodes[old].log.IsLeader() })
		follower := (old + 1) % 3
		c.await("the follower has what is committed", func() bool {
			return !c.nodes[old].log.IsLeader() || c.nets[old].MatchIndex(c.nets[follower].o.Advertise) >= c.nodes[follower].log.Status().CommitIndex
		})
		if err := c.nets[old].Close(); err != nil { // as the end of a process would: the connections first
			t.Fatal(err)
		}
		next := c.leader(old)
		before = c.nodes[next].log.EndOffset()
		c.await("progress without the old leader", func() bool {
			return c.nodes[next].log.EndOffset() > before+100<<10 || !c.nodes[next].log.IsLeader()
		})
		for serial, item := range stop() {
			acked[serial] = item
		}
		if err := c.nodes[old].log.Close(); err != nil {
			t.Fatal(err)
		}
		c.startPeer(old)
	}
	c.settle()
	c.compare()
	if len(acked) < 50 {
		t.Fatalf("only %d items answered", len(acked))
	}
	for _, n := range c.nodes {
		checkItems(t, n, acked)
	}
}

// peerCluster is a cluster whose replicas are joined by TCP.
type peerCluster struct {
	*cluster
	nets []*PeerNet
}

func startPeerCluster(t testing.TB, size int, o Options) *peerCluster {
	c := &peerCluster{cluster: &cluster{t: t, o: o, nodes: make([]*node, size), disks: make([]*crashfs.FS, size)}, nets: make([]*PeerNet, size)}
	for i := range size {
		c.disks[i] = crashfs.New()
		c.openPeer(i, "127.0.0.1:0")
		c.servers = append(c.servers, raft.Server{ID: raft.ServerID(fmt.Sprintf("%d-x", i)), Address: raft.ServerAddress(c.nets[i].Addr().String())})
	}
	for i := range size {
		c.runPeer(i)
	}
	t.Cleanup(func() {
		for _, n := range c.nets {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		}
		for _, n := range c.nodes {
			if err := n.log.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return c
}

func (c *peerCluster) openPeer(i int, listen string) {
	c.t.Helper()
	var err error
	c.nets[i], err = ListenPeers(PeerNetOptions{
		Listen: listen, ServerID: fmt.Sprintf("%d-x", i), ClusterID: "c", Group: "g",
		OnPeerDown: func(string, bool) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			select {
			case <-time.After(rand.N(50 * time.Millisecond)):
			case <-c.nets[i].ctx.Done():
			}
			if c.nodes[i].log.Status().LeaderAddr == "" || c.nodes[i].log.Status().State == "Follower" {
				c.nets[i].TriggerElection(ctx) //nolint:errcheck // an election comes anyway
			}
		},
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// startPeer starts replica i again, on its old address.
func (c *peerCluster) startPeer(i int) {
	c.t.Helper()
	c.openPeer(i, string(c.servers[i].Address))
	c.runPeer(i)
}

func (c *peerCluster) runPeer(i int) {
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
	c.nodes[i] = &node{c.t, l, sm}
	if err := l.Start(sm, Member{ServerID: string(c.servers[i].ID), Address: string(c.servers[i].Address),
		Transport: c.nets[i].Transport(), Timings: testTimings}); err != nil {
		c.t.Fatal(err)
	}
}
