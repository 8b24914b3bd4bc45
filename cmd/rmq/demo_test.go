package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"rmq/compat/admin"
	"rmq/remoting"
	"rmq/remoting/protocol"
	"rmq/store/message"
)

// The demo ends well, says what it measured, and leaves nothing behind.
func TestDemo(t *testing.T) {
	home, temporary := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", temporary)
	p := startProcess(t, home, "demo", "--json")
	if code := p.exitCode(); code != 0 {
		t.Fatalf("code %d, printed:\n%s", code, p.printed())
	}
	var r demoReport
	if err := json.Unmarshal([]byte(p.printed()), &r); err != nil {
		t.Fatalf("printed is not one JSON object: %v\n%s", err, p.printed())
	}
	switch {
	case r.Nodes != 3 || r.Lost != 0 || r.Acknowledged < 10 || r.Consumed < r.Acknowledged || r.Consumed-r.Duplicated < r.Acknowledged:
		t.Errorf("the counts: %+v", r)
	case r.Leader == nil || *r.Leader == r.KilledNode || r.LeaderTerm <= r.KilledTerm:
		t.Errorf("who took over: %+v", r)
	case r.ElectedMs == nil || r.RouteMs == nil || r.FirstAckMs == nil || r.LastAckMs == nil || r.GapMs == nil || *r.FirstAckMs < *r.LastAckMs || *r.RouteMs < *r.ElectedMs:
		t.Errorf("the times: %+v", r)
	}
	leftNothing(t, temporary)
}

func leftNothing(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// A demo that is interrupted takes its processes and its directory along.
func TestDemoInterrupted(t *testing.T) {
	home, temporary := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", temporary)
	p := startProcess(t, home, "demo")
	p.waitLine("A producer sends")
	if code := p.stop(); code != exitInterrupted {
		t.Errorf("code %d, printed:\n%s", code, p.printed())
	}
	leftNothing(t, temporary)
}

func TestDemoRefusals(t *testing.T) {
	for args, want := range map[string]string{
		"demo --nodes 1":  "takes over",
		"demo --nodes 10": "--nodes",
		"demo me":         "unexpected",
	} {
		if code, _, errs := run(t, "", strings.Fields(args)...); code != exitUsage || !strings.Contains(errs, want) {
			t.Errorf("%s: code %d, %s", args, code, errs)
		}
	}
}

// A message that was acknowledged and not consumed is lost, one that was stored twice is duplicated; one that was never
// acknowledged is neither.
func TestDemoTally(t *testing.T) {
	c := &demoConsumer{seen: map[int]int{}}
	offset := int64(0)
	for _, number := range []int{0, 1, 1, 3, 5} {
		next, err := c.take(demoStored(t, number, offset), offset)
		if err != nil {
			t.Fatal(err)
		}
		offset = next
	}
	if offset != 5 {
		t.Errorf("the next offset is %d", offset)
	}
	if consumed, lost, duplicated := c.tally(5); consumed != 5 || lost != 2 || duplicated != 1 {
		t.Errorf("of 5: consumed %d, lost %d, duplicated %d", consumed, lost, duplicated)
	}
	if _, lost, _ := c.tally(2); lost != 0 {
		t.Errorf("of 2: lost %d", lost)
	}
	first := 1.0
	for name, r := range map[string]demoReport{
		"a loss":             {Acknowledged: 5, Lost: 1, FirstAckMs: &first},
		"nothing sent":       {FirstAckMs: &first},
		"no acknowledgement": {Acknowledged: 5},
		"a failure":          {Acknowledged: 5, FirstAckMs: &first, Error: &demoFail{"it"}},
	} {
		if r.exitCode() == 0 {
			t.Errorf("%s is a success", name)
		}
	}
	if good := (demoReport{Acknowledged: 5, FirstAckMs: &first, Duplicated: 1}); good.exitCode() != 0 {
		t.Errorf("%+v is a failure", good)
	}
}

// demoStored is a message of the demo as a pull returns it.
func demoStored(t *testing.T, number int, offset int64) []byte {
	t.Helper()
	host := netip.MustParseAddrPort("127.0.0.1:10911")
	m := message.Message{Topic: demoTopic, BornHost: host, StoreHost: host, Body: fmt.Appendf(nil, "%s%d", demoBody, number)}
	b, err := m.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	message.View(b).SetQueueOffset(offset)
	return b
}

// A message that is stored on one node only is acknowledged all the same, and told apart; any other code is a failure.
func TestDemoSendOutcomes(t *testing.T) {
	var code atomic.Int32
	mux := remoting.NewMux()
	mux.Handle(protocol.SendMessageV2, &remoting.Class{Name: "send", Limit: 8, Mode: remoting.Spawn}, func(r *remoting.Request) {
		r.Reply(protocol.NewResponse(r.Cmd, code.Load(), ""))
	})
	server, err := remoting.Listen(remoting.ServerOptions{Addrs: []string{"127.0.0.1:0"}, Mux: mux})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close(t.Context())
	cluster := admin.NewCluster(nil, clientTimeout)
	defer cluster.Close()
	q := admin.Queue{Broker: "broker-a", Address: server.Addrs()[0].String()}
	for answer, want := range map[int32]string{
		protocol.Success: "false true", protocol.SlaveNotAvailable: "true true", protocol.FlushSlaveTimeout: "true true",
		protocol.SystemBusy: "false false", protocol.ServiceNotAvailable: "false false",
	} {
		code.Store(answer)
		alone, err := demoSend(t.Context(), cluster, q, 1)
		if got := fmt.Sprint(alone, err == nil); got != want {
			t.Errorf("code %d: alone and acknowledged %s, want %s", answer, got, want)
		}
	}
}
