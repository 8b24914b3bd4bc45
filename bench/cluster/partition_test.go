package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"rmq/compat/admin"
	"rmq/remoting/protocol"
)

// networks that can cut a server off. Where this process may make network namespaces, failing to is a failure.
func networks() map[string]func(t *testing.T) Network {
	list := map[string]func(*testing.T) Network{"proxies": func(*testing.T) Network { return Proxies() }}
	if os.Geteuid() == 0 {
		list["namespaces"] = func(t *testing.T) Network {
			n, err := Namespaces()
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	return list
}

// The leader is cut off together with a producer and a consumer. It stops answering within a lease, and says so, and
// nothing that either side acknowledged is lost, and nothing that either side read.
func TestLeaderCutOff(t *testing.T) {
	for name, network := range networks() {
		t.Run(name, func(t *testing.T) {
			needsProgram(t)
			r := listed(t, network(t))
			w := r.load()
			for round := range cuts {
				old := r.leader()
				with := r.options
				with.At, with.Topic, with.Keys = old.Inside(), fmt.Sprint("Inside", round), 4
				r.must(r.client.CreateTopic(r.ctx, with.Topic, 4))
				inside, err := StartWorkload(r.ctx, nil, with)
				r.must(err)
				r.acked(inside, 20)
				r.must(r.cluster.Isolate(old))
				cut := time.Now()
				another := r.leaderOtherThan(old)
				t.Logf("%s is cut off, %s is shown as broker 0 after %v", old.Name, another.Name, time.Since(cut).Round(time.Millisecond))
				r.refuses(old.Inside())
				r.acked(w, 300)
				n := inside.Acked()
				r.refuses(old.Inside())
				if more := inside.Acked(); more != n {
					t.Errorf("the leader that is cut off acknowledged %d messages", more-n)
				}
				inside.Quiesce()
				r.must(r.cluster.Heal(old))
				r.settled()
				r.acked(w, 200)
				h := inside.Stop()
				read, err := r.client.ReadAll(r.ctx, h, with.Topic)
				r.must(err)
				v := Check(h, Evidence{Read: read, AckedMin: 20, DeliveredMin: 1})
				for _, violation := range v.Violations {
					t.Error("the client inside: " + violation)
				}
				t.Logf("inside: %d acknowledged, %d failed", v.Acked, v.Failed)
			}
			r.finish(w, Evidence{AckedMin: 700, DeliveredMin: 700})
		})
	}
}

// cuts is how often the leader is cut off.
const cuts = 1

// refuses waits until a server answers SERVICE_NOT_AVAILABLE to whatever only a leader may do.
func (r *rig) refuses(address string) {
	r.Helper()
	c := NewClientAt(address, r.options.Group)
	defer c.Close()
	queue := admin.Queue{Address: address}
	var all sync.WaitGroup
	for what, ask := range map[string]func(ctx context.Context) error{
		"send": func(ctx context.Context) error {
			cmd := protocol.NewRequest(protocol.SendMessageV2, &protocol.SendMessageRequestHeaderV2{ProducerGroup: "p", Topic: "Refused", DefaultTopic: admin.AutoCreateTopic, DefaultTopicQueueNums: 1})
			cmd.Body = []byte("nobody may acknowledge this")
			resp, err := c.Client().Call(ctx, address, cmd)
			if err == nil && resp.Code != protocol.Success {
				err = &admin.ReplyError{Code: resp.Code, Remark: resp.Remark}
			}
			return err
		},
		"offset commit": func(ctx context.Context) error { return c.CommitOffset(ctx, address, "g", r.topic, 0, 1) },
		"pull": func(ctx context.Context) error {
			_, err := c.pull(ctx, address, drainGroup, r.topic, 0, 0, false)
			return err
		},
		"max offset": func(ctx context.Context) error {
			_, _, err := c.MaxOffset(ctx, r.topic, queue)
			return err
		},
		"admin write": func(ctx context.Context) error {
			_, err := c.Call(ctx, address, protocol.UpdateAndCreateTopic, &protocol.CreateTopicRequestHeader{
				Topic: "Refused", DefaultTopic: admin.AutoCreateTopic, ReadQueueNums: 1, WriteQueueNums: 1, Perm: admin.PermReadWrite, TopicFilterType: "SINGLE_TAG",
			})
			return err
		},
	} {
		all.Go(func() {
			began := time.Now()
			err := ask(r.ctx)
			var reply *admin.ReplyError
			if !errors.As(err, &reply) || reply.Code != protocol.ServiceNotAvailable {
				r.Errorf("a leader that is cut off answers %s with %v, not with SERVICE_NOT_AVAILABLE", what, err)
			}
			if took := time.Since(began); took > requestTimeout {
				r.Errorf("a leader that is cut off took %v to refuse %s", took, what)
			}
		})
	}
	all.Wait()
}

// One follower after the other is cut off: no producer notices.
func TestFollowerCutOff(t *testing.T) {
	for name, network := range networks() {
		t.Run(name, func(t *testing.T) {
			needsProgram(t)
			r := listed(t, network(t))
			w := r.load()
			before, err := r.client.Progress(r.ctx, r.leader().Address())
			r.must(err)
			for _, n := range r.followers() {
				r.must(r.cluster.Isolate(n))
				r.acked(w, 400)
				pause(r.ctx, pauseOf) // it calls for elections meanwhile
				r.must(r.cluster.Heal(n))
				r.sameLead(before)
				r.acked(w, 200)
			}
			h, _ := r.finish(w, Evidence{AckedMin: 1000, DeliveredMin: 1000})
			r.noFailures(h)
		})
	}
}

// A leader or a follower that can send and not receive: the leader gives up, the follower troubles nobody.
func TestDeafMember(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, for network namespaces")
	}
	for _, role := range []string{"leader", "follower"} {
		t.Run(role, func(t *testing.T) {
			needsProgram(t)
			r := listed(t, networks()["namespaces"](t))
			w := r.load()
			n := r.leader()
			before, err := r.client.Progress(r.ctx, n.Address())
			r.must(err)
			if role == "follower" {
				n = r.followers()[0]
			}
			r.must(r.cluster.Deafen(n))
			if role == "leader" {
				r.leaderOtherThan(n)
			}
			pause(r.ctx, pauseOf)
			r.acked(w, 300)
			r.must(r.cluster.Heal(n))
			r.sameLead(before)
			r.acked(w, 200)
			h, _ := r.finish(w, Evidence{AckedMin: 500, DeliveredMin: 500})
			if role == "follower" {
				r.noFailures(h)
			}
		})
	}
}

// termsMax is by how much one fault may raise the term: elections may be split, and a machine that is short of time has
// some of its own, but nobody may storm.
const termsMax = 4

// sameLead waits for the whole group and looks whether somebody called for elections again and again.
func (r *rig) sameLead(before Progress) {
	r.Helper()
	now, err := r.client.Progress(r.ctx, r.settled().Address())
	r.must(err)
	if now.Term > before.Term+termsMax {
		r.Errorf("the term went from %d to %d", before.Term, now.Term)
	}
}
