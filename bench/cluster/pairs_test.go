package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	syncSamples  = "../../cmd/rmq/testdata/classic/2m-2s-sync"
	asyncSamples = "../../cmd/rmq/testdata/classic/2m-2s-async"
	pairGroup    = "broker-a" // brokerName of the files
)

// pair starts name servers, which offer the arbiter, and the two replicas of a group from its classic files.
func pair(t *testing.T, samples string, nameServers int) (*rig, []*Node) {
	t.Helper()
	r := newRig(t, nil, pairGroup)
	names := r.nameServers(nameServers)
	r.addPair(samples)
	return r, names
}

func (r *rig) addPair(samples string) {
	r.Helper()
	for id, file := range []string{"broker-a.properties", "broker-a-s.properties"} {
		n, err := r.cluster.AddReplica(samples, file, pairGroup, id)
		r.must(err)
		r.members = append(r.members, n)
		r.start(n)
	}
}

// complete waits until every member votes, and with a pair an arbiter too: before, a group does not survive a loss. It
// returns the server that the arbiter is; without names arbiters that are known to be gone do not count.
func (r *rig) complete(gone ...string) (arbiter string) {
	r.Helper()
	defer r.timed("becoming complete")()
	r.must(Await(r.ctx, func(ctx context.Context) error {
		leader, err := r.client.Leader(ctx)
		if err != nil {
			return err
		}
		servers, err := r.client.Servers(ctx, leader)
		if err != nil {
			return err
		}
		voters := 0
		arbiter = ""
		for id, role := range servers {
			switch {
			case role != "voter":
			case !strings.HasPrefix(id, "arbiter-"):
				voters++
			case !slices.Contains(gone, id):
				arbiter = id
			}
		}
		if voters < len(r.members) || len(r.members) == 2 && arbiter == "" {
			return fmt.Errorf("the group is %v, without %v", servers, gone)
		}
		return nil
	}))
	return arbiter
}

// goOn is within how long a pair that has lost a machine goes on.
const goOn = 5 * time.Second

// Either machine of a pair is killed, paused and stopped: the other one goes on with the arbiter, and says in each answer
// that the message is on one replica only.
func TestPair(t *testing.T) {
	for name, fault := range faults() {
		for _, role := range []string{"leader", "follower"} {
			t.Run(role+" "+name, func(t *testing.T) {
				r, _ := pair(t, syncSamples, 1)
				r.complete()
				w := r.load()
				n := r.followers()[0]
				if role == "leader" {
					n = r.leader()
				}
				fault(r, w, n)
				r.settled()
				r.complete()
				r.acked(w, 200)
				h, _ := r.finish(w, Evidence{AckedMin: 600, DeliveredMin: 600})
				if gap, _ := h.LongestGap(); gap > goOn {
					t.Errorf("nothing was acknowledged for %v", gap)
				}
			})
		}
	}
}

// While one replica is away, no answer says that the message is on two.
func TestPairSaysThatOneIsAway(t *testing.T) {
	r, _ := pair(t, syncSamples, 1)
	r.complete()
	w := r.load()
	n := r.followers()[0]
	n.Kill()
	gone := time.Now()
	r.acked(w, 300)
	back := time.Now()
	r.start(n)
	r.settled()
	r.complete()
	const calm = 100 // the leader counts a replica in when it has heard of it again, and that may take a second try
	r.must(Await(r.ctx, func(context.Context) error {
		sends := w.Snapshot().Sends
		for _, s := range sends[max(0, len(sends)-calm):] {
			if !s.Acked || s.Degraded {
				return fmt.Errorf("%v was answered with another status than SEND_OK at %s", s.ID, s.Ended.Format(clock))
			}
		}
		return nil
	}))
	again := time.Now()
	if took := again.Sub(back); took > goOn {
		t.Errorf("SEND_OK is the rule only %v after the replica was back", took)
	}
	r.acked(w, 300)
	h, _ := r.finish(w, Evidence{AckedMin: 800, DeliveredMin: 800})
	if plain, degraded := h.AckedWith(gone, back); plain > 0 || degraded < 100 {
		t.Errorf("with the other replica dead %d sends were answered SEND_OK, %d with another status", plain, degraded)
	}
	if plain, degraded := h.AckedWith(again, time.Now()); plain < 100 || degraded > 0 {
		t.Errorf("with both replicas there %d sends were answered SEND_OK, %d with another status", plain, degraded)
	}
}

// The arbiter's name server is killed: nobody notices, another one's takes its place, and the pair survives the next loss.
func TestArbiterKilled(t *testing.T) {
	r, names := pair(t, syncSamples, 2)
	arbiter := r.complete()
	w := r.load()
	i := slices.IndexFunc(names, func(n *Node) bool { return n.Hosts(arbiter) })
	if i < 0 {
		t.Fatalf("no name server has the arbiter %s", arbiter)
	}
	names[i].Kill()
	r.acked(w, 200)
	r.complete(arbiter)
	leader := r.leader()
	leader.Kill()
	r.acked(w, 200)
	r.start(leader, names[i])
	r.settled()
	r.finish(w, Evidence{AckedMin: 600, DeliveredMin: 600})
}

// A name server that is back has the arbiter that it had: a pair whose leader goes after that goes on.
func TestArbiterComesBack(t *testing.T) {
	r, names := pair(t, syncSamples, 1)
	r.complete()
	w := r.load()
	for range 2 {
		names[0].Kill()
		r.acked(w, 200)
		r.start(names[0])
		leader := r.leader()
		leader.Kill()
		r.acked(w, 200)
		r.start(leader)
		r.settled()
		r.complete()
	}
	r.finish(w, Evidence{AckedMin: 800, DeliveredMin: 800})
}

// A machine and the arbiter together are a majority: nothing is acknowledged until one of them is back.
func TestPairWithoutMajority(t *testing.T) {
	for _, role := range []string{"leader", "follower"} {
		t.Run(role, func(t *testing.T) {
			r, names := pair(t, syncSamples, 1)
			r.complete()
			w := r.load()
			n := r.followers()[0]
			if role == "leader" {
				n = r.leader()
			}
			names[0].Kill()
			r.acked(w, 200) // both data replicas are enough
			n.Kill()
			gone := time.Now()
			pause(r.ctx, pauseOf)
			if plain, degraded := w.Snapshot().AckedWith(gone.Add(200*time.Millisecond), time.Now()); plain+degraded > 0 {
				t.Errorf("one of three voters acknowledged %d messages", plain+degraded)
			}
			r.start(names[0])
			r.acked(w, 200)
			r.start(n)
			r.settled()
			r.finish(w, Evidence{AckedMin: 500, DeliveredMin: 500})
		})
	}
}

// asyncWindow is what an asynchronous group may lose at most: what was acknowledged within the lag window before the loss
// of its leader, and some more for the way to the client.
const asyncWindow = 200*time.Millisecond + 200*time.Millisecond

// An asynchronous pair: sends stay SEND_OK whoever is away, and the loss of the leader costs the end of the window at
// most, of which no consumer had seen anything.
func TestAsyncPair(t *testing.T) {
	r, _ := pair(t, asyncSamples, 1)
	r.complete()
	r.options.Producers, r.options.Keys = 16, 64
	w := r.load()
	var kills []time.Time
	for range 3 {
		n := r.leader()
		kills = append(kills, time.Now())
		n.Kill()
		r.acked(w, 300)
		r.start(n)
		r.settled()
		r.complete()
		f := r.followers()[0]
		f.Kill()
		r.acked(w, 300)
		r.start(f)
		r.settled()
		r.complete()
	}
	h, v := r.finish(w, Evidence{AckedMin: 1500, DeliveredMin: 1000, LossAllowed: true})
	for _, s := range v.Lost {
		inWindow := false
		for _, killed := range kills {
			inWindow = inWindow || s.Ended.After(killed.Add(-asyncWindow)) && s.Ended.Before(killed.Add(asyncWindow))
		}
		if !inWindow {
			t.Errorf("%v, acknowledged at %s, is lost, and the leader was killed at %v", s.ID, s.Ended.Format(clock), kills)
		}
	}
	if _, degraded := h.AckedWith(time.Time{}, time.Now()); degraded > 0 {
		t.Errorf("%d sends were answered with the status of a synchronous group", degraded)
	}
	t.Logf("%d acknowledged messages are lost", len(v.Lost))
}

// A replica loses its disk, and is filled anew from the log; then it is as good as the other one.
func TestWipedReplica(t *testing.T) {
	r, _ := pair(t, syncSamples, 1)
	r.complete()
	w := r.load()
	r.acked(w, 2000)
	for range 2 {
		n := r.followers()[0]
		n.Kill()
		r.must(n.Wipe())
		r.acked(w, 300)
		r.start(n)
		r.settled()
		r.complete()
		leader := r.leader()
		leader.Kill()
		r.acked(w, 300) // by the one that was wiped
		r.start(leader)
		r.settled()
		r.complete()
	}
	r.finish(w, Evidence{AckedMin: 3000, DeliveredMin: 3000})
}

// A member of a listed group loses its disk.
func TestWipedMember(t *testing.T) {
	r := listed(t, nil)
	w := r.load()
	r.acked(w, 2000)
	for range 2 {
		n := r.followers()[0]
		n.Kill()
		r.must(n.Wipe())
		r.acked(w, 300)
		r.start(n)
		r.settled()
		r.complete()
		r.acked(w, 200)
	}
	r.leader().Kill()
	r.acked(w, 300)
	for _, n := range r.members {
		if !n.Alive() {
			r.start(n)
		}
	}
	r.finish(w, Evidence{AckedMin: 3000, DeliveredMin: 3000})
}

// A master that was alone gets a slave, under load.
func TestReplicaAdded(t *testing.T) {
	r := newRig(t, nil, pairGroup)
	r.nameServers(1)
	master, err := r.cluster.AddReplica(syncSamples, "broker-a.properties", pairGroup, 0)
	r.must(err)
	r.start(master)
	r.members = []*Node{master}
	w := r.load()
	r.acked(w, 3000)
	slave, err := r.cluster.AddReplica(syncSamples, "broker-a-s.properties", pairGroup, 1)
	r.must(err)
	r.start(slave)
	r.members = append(r.members, slave)
	r.settled()
	r.complete()
	master.Kill()
	r.acked(w, 300)
	r.start(master)
	r.settled()
	r.finish(w, Evidence{AckedMin: 3000, DeliveredMin: 3000})
}

// The leader of an asynchronous pair is cut off together with its producers. What it acknowledges after that is lost: no
// more than the window holds, nothing that a consumer has seen, and what is lost lies in its quarantine.
func TestAsyncLeaderCutOff(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, for network namespaces")
	}
	needsProgram(t)
	network, err := Namespaces()
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, network, pairGroup)
	r.nameServers(1)
	r.addPair(asyncSamples)
	r.complete()
	outside := r.load()
	leader := r.leader()
	with := r.options
	with.At, with.Topic, with.Producers, with.Keys = leader.Inside(), "Inside", 16, 64
	r.must(r.client.CreateTopic(r.ctx, with.Topic, 4))
	inside, err := StartWorkload(r.ctx, nil, with)
	r.must(err)
	r.acked(inside, 500)
	cut := time.Now()
	r.must(r.cluster.Isolate(leader))
	r.leaderOtherThan(leader)
	r.acked(outside, 200)
	inside.Quiesce()
	r.must(r.cluster.Heal(leader))
	r.settled()
	h := inside.Stop()
	read, err := r.client.ReadAll(r.ctx, h, with.Topic)
	r.must(err)
	v := Check(h, Evidence{Read: read, AckedMin: 500, DeliveredMin: 500, LossAllowed: true})
	for _, violation := range v.Violations {
		t.Error("the clients inside: " + violation)
	}
	r.finish(outside, Evidence{AckedMin: 400, DeliveredMin: 400, LossAllowed: true})
	kept := leader.quarantined(t)
	for _, s := range v.Lost {
		if s.Ended.Before(cut.Add(-asyncWindow)) || s.Ended.After(cut.Add(2*asyncWindow)) {
			t.Errorf("%v, acknowledged at %s, is lost, and the leader was cut off at %s", s.ID, s.Ended.Format(clock), cut.Format(clock))
		}
		if !bytes.Contains(kept, s.body(h.Run)) {
			t.Errorf("%v is lost and not in the quarantine of %s (%d bytes)", s.ID, leader.Name, len(kept))
		}
	}
	if len(v.Lost) > asyncMessages {
		t.Errorf("%d messages are lost, the window holds %d", len(v.Lost), asyncMessages)
	}
	t.Logf("%d messages are lost, the quarantine has %d bytes", len(v.Lost), len(kept))
}

// asyncMessages is how many messages the window of an asynchronous group holds.
const asyncMessages = 4096

// quarantined is all that a replica's truncations have put aside.
func (n *Node) quarantined(t *testing.T) (all []byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(n.LogDir(), "quarantine", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data...)
	}
	return all
}
