package namesrv

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"rmq/remoting"
	"rmq/remoting/protocol"
)

// pass moves the clock and fires what is due, without waiting for anything.
func (c *testClock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
	for timer := range c.timers {
		if !timer.at.After(c.t) {
			delete(c.timers, timer)
			go timer.f()
		}
	}
}

// ofTerm is a registration's body under a Raft term.
func ofTerm(term int, topics ...string) string {
	return strings.Replace(registration(1, 6, topics...), `"timestamp":100`, fmt.Sprintf(`"timestamp":100,"stateVersion":%d`, term), 1)
}

// brokerConn registers over a connection of its own, and can lose it.
type brokerConn struct {
	n    *running
	conn *remoting.Conn
}

func (n *running) broker() *brokerConn {
	n.t.Helper()
	conn, err := n.client.Dial(context.Background(), n.address)
	if err != nil {
		n.t.Fatal(err)
	}
	return &brokerConn{n, conn}
}

func (b *brokerConn) register(fields, body string) *brokerConn {
	b.n.t.Helper()
	answer, err := b.conn.Call(context.Background(), request(protocol.RegisterBroker, fields, body))
	if err != nil || answer.Code != protocol.Success {
		b.n.t.Fatalf("register: %v, %+v", err, answer)
	}
	return b
}

// lose ends the connection and waits until the name server has noticed.
func (b *brokerConn) lose() {
	b.n.t.Helper()
	before := b.n.Table().Stats().Disconnected
	b.conn.Close()
	eventually(b.n.t, "the lost connection is noticed", func() bool { return b.n.Table().Stats().Disconnected > before })
}

// askLater asks for T's route and returns where the answer will be.
func (n *running) askLater(topic string) <-chan *protocol.Command {
	out := make(chan *protocol.Command, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	go func() {
		defer cancel()
		answer, err := n.client.Call(ctx, n.address, request(protocol.GetRouteinfoByTopic, "topic="+topic, ""))
		if err == nil {
			out <- answer
		}
		close(out)
	}()
	return out
}

func (n *running) wantHeld(count int) {
	n.t.Helper()
	eventually(n.t, fmt.Sprintf("%d requests are held", count), func() bool { return n.held.count() == count })
}

const (
	newLeaderFields = "brokerName=b-a brokerAddr=10.0.0.2:10911 clusterName=C haServerAddr=10.0.0.2:10912 brokerId=0 "
	followerRoute   = `"1":"10.0.0.2:10911"`
	newLeaderRoute  = `"0":"10.0.0.2:10911"`
	leaderRoute     = `"0":"10.0.0.1:10911"`
)

// leaderless is a name server whose only group has just lost its leader.
func leaderless(t *testing.T) (*running, *testClock) {
	clock := newTestClock()
	n := start(t, Options{Clock: clock, HeldRoutesMax: 3})
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, followerFields, ofTerm(3, "T", "U")))
	b := n.broker().register(leaderFields, ofTerm(3, "T", "U"))
	n.wantBody(n.ask(protocol.GetRouteinfoByTopic, "topic=T", ""), fmt.Sprintf(routeToT, leaderRoute+","+followerRoute, 6))
	b.lose()
	return n, clock
}

// A request in an election gets the new leader as soon as there is one.
func TestRouteWaitsForTheNextLeader(t *testing.T) {
	n, _ := leaderless(t)
	first, second := n.askLater("T"), n.askLater("T")
	n.wantHeld(2)
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, newLeaderFields, ofTerm(4, "T", "U")))
	for _, answer := range []<-chan *protocol.Command{first, second} {
		n.wantBody(receive(t, answer, "the route"), fmt.Sprintf(routeToT, newLeaderRoute, 6))
	}
	n.wantHeld(0)
	n.wantBody(n.ask(protocol.GetRouteinfoByTopic, "topic=T", ""), fmt.Sprintf(routeToT, newLeaderRoute, 6)) // and nobody waits any more
}

// After 2 s it gets what there is, never "no such topic".
func TestRouteIsNotHeldForever(t *testing.T) {
	n, clock := leaderless(t)
	answer := n.askLater("T")
	n.wantHeld(1)
	clock.pass(holdFor - time.Millisecond)
	n.wantHeld(1)
	clock.pass(time.Millisecond)
	n.wantBody(receive(t, answer, "the route"), fmt.Sprintf(routeToT, followerRoute, 6))
	clock.pass(holdWithin - holdFor) // the group is without leader for long: nobody waits for it
	n.wantBody(n.ask(protocol.GetRouteinfoByTopic, "topic=T", ""), fmt.Sprintf(routeToT, followerRoute, 6))
}

// A deposed leader's report, older than what is known, ends no wait and changes no route.
func TestDeposedLeaderEndsNoWait(t *testing.T) {
	n, _ := leaderless(t)
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, newLeaderFields, ofTerm(2, "T", "U")))
	answer := n.askLater("T")
	n.wantHeld(1)
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, newLeaderFields, ofTerm(2, "T", "U")))
	n.wantHeld(1)
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, newLeaderFields, ofTerm(4, "T", "U")))
	n.wantBody(receive(t, answer, "the route"), fmt.Sprintf(routeToT, newLeaderRoute, 6))
}

// A group of one replica that restarts is waited for as well.
func TestRouteWaitsForTheOnlyReplica(t *testing.T) {
	clock := newTestClock()
	n := start(t, Options{Clock: clock})
	n.broker().register(leaderFields, ofTerm(3, "T", "U")).lose()
	answer := n.askLater("T")
	n.wantHeld(1)
	n.broker().register(leaderFields, ofTerm(4, "T", "U")).lose()
	n.wantBody(receive(t, answer, "the route"), fmt.Sprintf(routeToT, leaderRoute, 6))

	answer = n.askLater("T")
	n.wantHeld(1)
	clock.pass(holdFor)
	n.want(protocol.TopicNotExist, receive(t, answer, "the refusal"))
	clock.pass(holdWithin)
	n.want(protocol.TopicNotExist, n.ask(protocol.GetRouteinfoByTopic, "topic=T", ""))
	n.want(protocol.TopicNotExist, n.ask(protocol.GetRouteinfoByTopic, "topic=none", ""))
	eventually(t, "what was lost is forgotten", func() bool {
		n.table.mu.RLock()
		defer n.table.mu.RUnlock()
		return len(n.table.lost) == 0
	})
}

// Nobody waits for a topic whose groups all have leaders, whatever happens to others; nor for a group that took its leave, nor for
// Apache's groups, whose slaves elect nobody.
func TestRoutesThatAreNotHeld(t *testing.T) {
	n, _ := leaderless(t)
	other := strings.ReplaceAll(leaderFields, "b-a", "b-b")
	apache := strings.ReplaceAll(leaderFields, "b-a", "b-c")
	left := strings.ReplaceAll(leaderFields, "b-a", "b-d")
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, other, ofTerm(3, "V", "W")))
	n.want(protocol.Success, n.ask(protocol.GetRouteinfoByTopic, "topic=V", ""))
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, strings.ReplaceAll(followerFields, "b-a", "b-c"), registration(1, 6, "X", "Y")))
	n.broker().register(apache, registration(1, 6, "X", "Y")).lose()
	n.want(protocol.Success, n.ask(protocol.GetRouteinfoByTopic, "topic=X", ""))
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, left, ofTerm(3, "Z", "Y")))
	n.want(protocol.Success, n.ask(protocol.UnregisterBroker, left, ""))
	n.want(protocol.TopicNotExist, n.ask(protocol.GetRouteinfoByTopic, "topic=Z", ""))
	n.wantHeld(0)
}

// Held requests are bounded, and closing ends them.
func TestHeldRoutesAreBounded(t *testing.T) {
	n, _ := leaderless(t)
	var answers []<-chan *protocol.Command
	for range 3 {
		answers = append(answers, n.askLater("T"))
	}
	n.wantHeld(3)
	n.wantBody(n.ask(protocol.GetRouteinfoByTopic, "topic=T", ""), fmt.Sprintf(routeToT, followerRoute, 6))
	n.held.close()
	for _, answer := range answers {
		n.wantBody(receive(t, answer, "the route"), fmt.Sprintf(routeToT, followerRoute, 6))
	}
	n.wantBody(n.ask(protocol.GetRouteinfoByTopic, "topic=T", ""), fmt.Sprintf(routeToT, followerRoute, 6))
}

// Who hangs up while it waits keeps nothing busy.
func TestHeldRouteOfAConnectionThatEnds(t *testing.T) {
	n, clock := leaderless(t)
	conn := n.broker()
	conn.conn.CallAsync(request(protocol.GetRouteinfoByTopic, "topic=T", ""), time.Time{}, func(*protocol.Command, error) {})
	n.wantHeld(1)
	conn.conn.Close()
	<-conn.conn.Done()
	clock.pass(holdFor)
	n.wantHeld(0)
}
