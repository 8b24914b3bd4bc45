package namesrv

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"rmq/remoting"
	"rmq/remoting/protocol"
)

// listeningBroker passes on the notices that it gets.
type listeningBroker struct {
	address string
	notices chan string
}

func startListening(t *testing.T) *listeningBroker {
	t.Helper()
	b := &listeningBroker{notices: make(chan string, 10)}
	mux := remoting.NewMux()
	mux.Handle(protocol.NotifyMinBrokerIdChange, &remoting.Class{Name: "notices", Limit: 10, Mode: remoting.Spawn}, func(r *remoting.Request) {
		var h protocol.NotifyMinBrokerIdChangeRequestHeader
		if err := h.Decode(r.Cmd.Ext); err != nil || !r.Cmd.IsOneway() {
			t.Errorf("notice %+v: %v", r.Cmd, err)
		}
		b.notices <- fmt.Sprintf("%s smallest %d at %s, offline %q, HA %q", h.BrokerName, h.MinBrokerID, h.MinBrokerAddr, h.OfflineBrokerAddr, h.HABrokerAddr)
		r.Done()
	})
	server, err := remoting.Listen(remoting.ServerOptions{Addrs: []string{"127.0.0.1:0"}, Mux: mux})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	b.address = server.Addrs()[0].String()
	return b
}

// K2: Apache brokers with an acting master hear of a new smallest id.
func TestMinIDNotices(t *testing.T) {
	settings := DefaultSettings()
	settings.NotifyMinID = true
	client := remoting.NewClient(remoting.ClientOptions{})
	n := start(t, Options{Client: client, Settings: &settings})
	t.Cleanup(func() {
		n.stop()
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	brokers := []*listeningBroker{startListening(t), startListening(t), startListening(t)}
	fields := func(id int, more string) string {
		return fmt.Sprintf("brokerName=b-a brokerAddr=%s clusterName=C haServerAddr=ha%d:1 brokerId=%d %s", brokers[id].address, id, id, more)
	}
	register := func(id int, more string) {
		t.Helper()
		n.want(protocol.Success, n.ask(protocol.RegisterBroker, fields(id, more), registration(1, 6, "T", "U")))
	}
	expect := func(id int, format string, args ...any) {
		t.Helper()
		if got, want := receive(t, brokers[id].notices, "a notice"), fmt.Sprintf(format, args...); got != want {
			t.Fatalf("replica %d was told %s, want %s", id, got, want)
		}
	}
	const acting = "enableActingMaster=true"
	register(2, acting)
	register(1, acting)
	expect(2, `b-a smallest 1 at %s, offline "", HA "ha1:1"`, brokers[1].address)
	register(0, acting)
	for _, id := range []int{1, 2} {
		expect(id, `b-a smallest 0 at %s, offline "", HA "ha0:1"`, brokers[0].address)
	}
	register(2, acting)
	n.want(protocol.Success, n.ask(protocol.UnregisterBroker, fields(0, ""), ""))
	for _, id := range []int{1, 2} {
		expect(id, `b-a smallest 1 at %s, offline %q, HA ""`, brokers[1].address, brokers[0].address)
	}
	n.want(protocol.Success, n.ask(protocol.UpdateNamesrvConfig, "", "notifyMinBrokerIdChanged=false"))
	register(0, acting)
	n.want(protocol.Success, n.ask(protocol.UpdateNamesrvConfig, "", "notifyMinBrokerIdChanged=true"))
	register(0, "enableActingMaster=false")
	n.want(protocol.Success, n.ask(protocol.UnregisterBroker, fields(0, ""), ""))
	register(1, acting)
	n.want(protocol.Success, n.ask(protocol.UnregisterBroker, fields(1, ""), ""))
	// The notices in between would have come first.
	expect(2, `b-a smallest 2 at %s, offline %q, HA ""`, brokers[2].address, brokers[1].address)
	for id, b := range brokers {
		if len(b.notices) > 0 {
			t.Errorf("replica %d was also told %s", id, <-b.notices)
		}
	}
}

// When brokers cannot be reached as fast as their groups change, notices are dropped; a registration never waits.
func TestMinIDNoticesAreBounded(t *testing.T) {
	table, _ := newTable(Limits{})
	client := remoting.NewClient(remoting.ClientOptions{})
	defer client.Close()
	n := newMinIDNotifier(client, table, slog.New(slog.DiscardHandler))
	n.close() // nothing is taken from the queue any more
	acting := func(r *Registration) { r.ActingMaster = true }
	mustRegister(t, table, leader(acting, at(1, "a1:1")))
	for range minIDQueueMax {
		n.observe("b-a", "", true)
		mustRegister(t, table, leader(acting))
		n.observe("b-a", "", true)
		table.Unregister("b-a", "a0:1")
	}
	if got := len(n.queue); got != minIDQueueMax {
		t.Errorf("%d notices wait", got)
	}
	table.Unregister("b-a", "a1:1")
	n.observe("b-a", "", true)
	if len(n.smallest) != 0 {
		t.Errorf("a group that is gone is still known: %v", n.smallest)
	}
}
