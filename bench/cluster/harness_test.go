package cluster

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// program is the rmq executable whose clusters are tested.
var program = flag.String("rmq", "", "rmq executable; without it only the harness itself is tested (make cluster passes it)")

// kept is where the servers' directories are kept.
var kept = flag.String("keep", "", "directory in which what the servers wrote is kept; without it they are removed")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The samples of RocketMQ's distribution, as they come.
const (
	dledgerSamples = "../../cmd/rmq/testdata/classic/dledger"
	listedGroup    = "RaftNode00" // their brokerName
)

// rig is a cluster in a test.
type rig struct {
	*testing.T
	ctx     context.Context
	cluster *Cluster
	client  *Client
	members []*Node // of the group
	topic   string
	options WorkloadOptions
}

// testTimeout bounds each test: a cluster that does not come back fails it.
const testTimeout = 100 * time.Second

func needsProgram(t *testing.T) string {
	t.Helper()
	if *program == "" {
		t.Skip("no -rmq: make cluster runs this test")
	}
	path, err := filepath.Abs(*program)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func newRig(t *testing.T, network Network, group string) *rig {
	t.Helper()
	path := needsProgram(t)
	dir := t.TempDir()
	if *kept != "" {
		dir = filepath.Join(*kept, strings.ReplaceAll(t.Name(), "/", "-"))
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	t.Cleanup(cancel)
	c, err := New(Options{Program: path, Dir: dir, Network: network})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, ctx: ctx, cluster: c, topic: "T", options: WorkloadOptions{Group: group, Topic: "T", Consumers: 1}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.Report())
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// listed starts a name server and a group of three from the classic dledger files.
func listed(t *testing.T, network Network, more ...string) *rig {
	t.Helper()
	r := newRig(t, network, listedGroup)
	r.nameServers(1)
	var err error
	r.members, err = r.cluster.AddListed(dledgerSamples, 3, more...)
	r.must(err)
	r.must(r.cluster.Start(r.ctx, r.members...))
	return r
}

// nameServers starts name servers and makes the client that asks them.
func (r *rig) nameServers(count int) (list []*Node) {
	r.Helper()
	for range count {
		n, err := r.cluster.AddNameServer()
		r.must(err)
		list = append(list, n)
	}
	r.must(r.cluster.Start(r.ctx, list...))
	r.client = NewClient(r.cluster.NameServers(), r.options.Group)
	r.Cleanup(func() { r.client.Close() })
	return list
}

// load starts a workload and waits until it is well under way.
func (r *rig) load() *Workload {
	r.Helper()
	w, err := StartWorkload(r.ctx, r.cluster.NameServers(), r.options)
	r.must(err)
	r.Cleanup(func() { w.Stop() })
	r.acked(w, 200)
	return w
}

// acked waits until so many more messages are acknowledged.
func (r *rig) acked(w *Workload, more int) {
	r.Helper()
	defer r.timed("acknowledging")()
	r.must(w.WaitAcked(r.ctx, more))
}

// leader is the member that the name server shows as broker 0 and that leads.
func (r *rig) leader() *Node {
	r.Helper()
	var found *Node
	r.must(Await(r.ctx, func(ctx context.Context) error {
		address, err := r.client.Leader(ctx)
		if err != nil {
			return err
		}
		if _, err := r.client.Progress(ctx, address); err != nil {
			return err
		}
		i := slices.IndexFunc(r.members, func(n *Node) bool { return n.Address() == address })
		if i < 0 {
			r.Fatalf("the name server shows %s as broker 0, which is none of the group", address)
		}
		found = r.members[i]
		return nil
	}))
	return found
}

func (r *rig) followers() []*Node {
	leader := r.leader()
	return slices.DeleteFunc(slices.Clone(r.members), func(n *Node) bool { return n == leader })
}

// slow is what a step may take without being told of.
const slow = time.Second

// timed tells of a step that took long.
func (r *rig) timed(what string) func() {
	began := time.Now()
	return func() {
		if took := time.Since(began); took > slow {
			r.Logf("%s took %v from %s", what, took.Round(time.Millisecond), began.Format(clock))
		}
	}
}

// settled waits until every member follows one leader and has what that has.
func (r *rig) settled() *Node {
	r.Helper()
	defer r.timed("settling")()
	leader, err := r.client.Settled(r.ctx, r.members...)
	r.must(err)
	return leader
}

// leaderOtherThan waits until the name server shows another leader.
func (r *rig) leaderOtherThan(n *Node) *Node {
	r.Helper()
	defer r.timed("showing another leader")()
	r.must(Await(r.ctx, func(ctx context.Context) error {
		if address, err := r.client.Leader(ctx); err != nil || address == n.Address() {
			return fmt.Errorf("%s is still shown as broker 0 (%v)", n.Name, err)
		}
		return nil
	}))
	return r.leader()
}

// start starts servers and waits until they are ready.
func (r *rig) start(nodes ...*Node) {
	r.Helper()
	defer r.timed("starting")()
	r.must(r.cluster.Start(r.ctx, nodes...))
}

// stop ends a server by SIGTERM.
func (r *rig) stop(n *Node) {
	r.Helper()
	defer r.timed("stopping " + n.Name)()
	r.must(r.cluster.StopInOrder(r.ctx, n))
}

// finish ends the workload, waits until every member has applied the same, ends all of them in order and checks
// everything. The evidence given says what of it is to be expected.
func (r *rig) finish(w *Workload, e Evidence) (*History, Verdict) {
	r.Helper()
	w.Quiesce()
	leader := r.settled()
	r.must(Await(r.ctx, w.CaughtUp))
	h := w.Stop()
	var err error
	e.Read, err = r.client.ReadAllFrom(r.ctx, leader.Address(), h, r.topic)
	r.must(err)
	order := append(slices.DeleteFunc(slices.Clone(r.members), func(n *Node) bool { return n == leader }), leader)
	for _, n := range order { // followers first: then the leader has somebody to be committed by as long as possible
		r.stop(n)
	}
	for _, n := range r.members {
		replica, err := ReadReplica(n, h, r.topic)
		r.must(err)
		e.Replicas = append(e.Replicas, replica)
	}
	v := Check(h, e)
	for _, violation := range v.Violations {
		r.Error(violation)
	}
	gap, from := h.LongestGap()
	r.Logf("%d acknowledged, %d failed, %d copies too many, %d delivered, longest gap %v from %s", v.Acked, v.Failed, v.Duplicates, len(h.Deliveries), gap.Round(time.Millisecond), from.Format(clock))
	return h, v
}

// noFailures fails the test for every message that a stock producer would have given up.
func (r *rig) noFailures(h *History) {
	r.Helper()
	told := 0
	for _, s := range h.Sends {
		if !s.Acked {
			if told++; told <= perKind {
				r.Errorf("a send failed: %v began %s, %d attempts, %v: %s", s.ID, s.Began.Format(clock), s.Attempts, s.Ended.Sub(s.Began).Round(time.Millisecond), s.LastError)
			}
		}
	}
	if told > perKind {
		r.Errorf("%d sends failed", told)
	}
}
