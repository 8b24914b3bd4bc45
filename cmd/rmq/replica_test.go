package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"rmq/compat/admin"
	"rmq/remoting"
	"rmq/remoting/protocol"
	"rmq/store/message"
)

// trio is a group of three replicas, each a process, started from files in the manner of RocketMQ's dledger samples.
type trio struct {
	t     *testing.T
	home  string
	names string
	files [3]string
	ports [3]int // client ports
	procs [3]*process
}

func startTrio(t *testing.T) *trio {
	t.Helper()
	g := &trio{t: t, home: t.TempDir()}
	_, g.names = startNames(t, g.home)
	var peers []string
	for i := range g.ports {
		g.ports[i] = freePorts(t)
		peers = append(peers, fmt.Sprintf("n%d-127.0.0.1:%d", i, freePorts(t)))
	}
	for i := range g.files {
		g.files[i] = brokerFile(t, filepath.Join(g.home), fmt.Sprintf("n%d", i), g.ports[i],
			"brokerName=RaftNode00", "brokerClusterName=RaftCluster", "enableDLegerCommitLog=true", "dLegerGroup=RaftNode00",
			"dLegerPeers="+strings.Join(peers, ";"), "dLegerSelfId=n"+strconv.Itoa(i), "namesrvAddr="+g.names)
	}
	for i := range g.procs {
		g.procs[i] = startProcess(t, g.home, "broker", "-c", g.files[i])
	}
	for i := range g.procs {
		g.procs[i].waitLine("boot success")
	}
	return g
}

// leader finds the replica that the name server shows as broker 0.
func (g *trio) leader() int {
	g.t.Helper()
	cluster := admin.NewCluster([]string{g.names}, time.Second)
	defer cluster.Close()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		masters, _ := cluster.Masters(g.t.Context())
		for i, port := range g.ports {
			if masters["RaftNode00"] == "127.0.0.1:"+strconv.Itoa(port) {
				select {
				case <-g.procs[i].waited:
				default:
					return i
				}
			}
		}
		<-time.After(10 * time.Millisecond)
	}
	g.t.Fatal("the name server shows no leader that is alive")
	return -1
}

func (g *trio) send(text string, count int) {
	g.t.Helper()
	var lines strings.Builder
	for i := range count {
		fmt.Fprintf(&lines, "%s %d\n", text, i)
	}
	if code, out, errs := run(g.t, lines.String(), "send", "-n", g.names, "-t", "T"); code != 0 {
		g.t.Fatalf("send: code %d\n%s%s", code, out, errs)
	}
}

// A group of three loses its leader twice over, by kill -9, and no acknowledged message with it.
func TestLeaderKilled(t *testing.T) {
	g := startTrio(t)
	total := 0
	for round := range 2 {
		g.send(fmt.Sprint("before kill ", round), 500)
		leader := g.leader()
		g.procs[leader].kill()
		killed := time.Now()
		if code, out, errs := run(t, "", "send", "-n", g.names, "-t", "T", fmt.Sprint("at once ", round)); code != 0 {
			t.Errorf("send without a leader: code %d\n%s%s", code, out, errs)
		}
		g.leader()
		t.Logf("round %d: another leader is registered after %v", round, time.Since(killed).Round(time.Millisecond))
		g.send(fmt.Sprint("after kill ", round), 500)
		total += 1001
		g.procs[leader] = startProcess(t, g.home, "broker", "-c", g.files[leader])
		g.procs[leader].waitLine("boot success")
	}
	code, out, errs := run(t, "", "tail", "-n", g.names, "-t", "T", "--from-start", "--count", strconv.Itoa(total))
	if code != 0 {
		t.Fatalf("tail: code %d\n%s", code, errs)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(out) {
		seen[line] = true
	}
	if len(seen) != total {
		t.Errorf("%d different messages of %d", len(seen), total)
	}
}

// follower is a replica that does not lead.
func (g *trio) follower() int { return (g.leader() + 1) % len(g.ports) }

// Every replica answers every client: what only the leader can do is passed on to it.
func TestFollowerPassesOn(t *testing.T) {
	g := startTrio(t)
	g.send("seed", 10)
	addr := "127.0.0.1:" + strconv.Itoa(g.ports[g.follower()])
	client := remoting.NewClient(remoting.ClientOptions{})
	defer client.Close()
	ask := func(code int32, h protocol.Header, body string) *protocol.Command {
		t.Helper()
		cmd := protocol.NewRequest(code, h)
		cmd.Body = []byte(body)
		resp, err := client.Call(t.Context(), addr, cmd)
		if err != nil || resp.Code != protocol.Success {
			t.Fatalf("request %d to a follower: %+v %v", code, resp, err)
		}
		return resp
	}
	var sent protocol.SendMessageResponseHeader
	if err := sent.Decode(ask(protocol.SendMessageV2, &protocol.SendMessageRequestHeaderV2{
		ProducerGroup: "pg", Topic: "T", DefaultTopic: "TBW102", DefaultTopicQueueNums: 4, QueueID: 1, Properties: "TAGS\x01A\x02",
	}, "through a follower").Ext); err != nil {
		t.Fatal(err)
	}
	resp := ask(protocol.PullMessage, &protocol.PullMessageRequestHeader{
		ConsumerGroup: "g", Topic: "T", QueueID: 1, QueueOffset: sent.QueueOffset, MaxMsgNums: 1, SysFlag: 4, Subscription: "A", ExpressionType: "TAG",
	}, "")
	v, err := message.ParseView(resp.Body)
	if err != nil || string(v.Body()) != "through a follower" || v.BornHost().Addr().String() != "127.0.0.1" {
		t.Fatalf("pulled %v %v", v, err)
	}
	ask(protocol.UpdateConsumerOffset, &protocol.UpdateConsumerOffsetRequestHeader{ConsumerGroup: "g", Topic: "T", QueueID: 1, CommitOffset: sent.QueueOffset + 1}, "")
	var offset protocol.QueryConsumerOffsetResponseHeader
	if err := offset.Decode(ask(protocol.QueryConsumerOffset, &protocol.QueryConsumerOffsetRequestHeader{ConsumerGroup: "g", Topic: "T", QueueID: 1}, "").Ext); err != nil || offset.Offset != sent.QueueOffset+1 {
		t.Errorf("progress %d %v", offset.Offset, err)
	}
}

// A leader that is stopped in order hands over first: a producer that sends all the while has no failure.
func TestLeaderStopsWithoutAFailedSend(t *testing.T) {
	g := startTrio(t)
	g.send("seed", 10)
	in, feed := io.Pipe()
	done := make(chan string)
	go func() {
		var out, errs bytes.Buffer
		env := environment{stdin: in, stdout: &out, stderr: &errs, getenv: func(string) string { return "" }}
		code := dispatch(t.Context(), env, []string{"send", "-n", g.names, "-t", "T"})
		done <- fmt.Sprintf("code %d: %s%s", code, lastLine(out.String()), errs.String())
	}()
	feeding := func(n int) {
		for i := range n {
			if _, err := fmt.Fprintf(feed, "message %d\n", i); err != nil {
				t.Error(err)
				return
			}
		}
	}
	feeding(500)
	leader := g.leader()
	stopped := make(chan int)
	go func() { stopped <- g.procs[leader].stop() }()
	for g.leader() == leader {
		feeding(20)
	}
	feeding(500) // still sent to the one that stops, which passes them on
	feed.Close()
	if got := <-done; !strings.HasPrefix(got, "code 0") || !strings.Contains(got, " 0 failed") {
		t.Errorf("send ended with %s", got)
	}
	if code := <-stopped; code != 0 {
		t.Errorf("the leader ended with code %d:\n%s", code, g.procs[leader].printed())
	}
}

// A replica whose directory is gone comes back as a new one: it is filled from the leader's log, votes again, and can lead. With
// nobody there to fill it, it is refused: what it acknowledged is not there any more.
func TestEmptiedReplica(t *testing.T) {
	g := startTrio(t)
	g.send("seed", 1000)
	f := g.follower()
	g.empty(f)
	g.procs[f] = startProcess(t, g.home, "broker", "-c", g.files[f])
	g.procs[f].waitLine("boot success")
	g.send("after", 100)
	for range 2 { // one of the two times the lead goes to the new one
		leader := g.leader()
		if code := g.procs[leader].stop(); code != 0 {
			t.Errorf("replica %d ended with code %d:\n%s", leader, code, g.procs[leader].printed())
		}
		g.send("another one leads", 10)
		g.procs[leader] = startProcess(t, g.home, "broker", "-c", g.files[leader])
		g.procs[leader].waitLine("boot success")
	}
	if code, _, errs := run(t, "", "tail", "-n", g.names, "-t", "T", "--from-start", "--count", "1120"); code != 0 {
		t.Errorf("tail: code %d\n%s", code, errs)
	}
	for i := range g.procs {
		g.procs[i].kill()
	}
	g.empty(f)
	// Another one that stays alive and has no leader tells it that the group exists.
	other := (f + 1) % 3
	g.procs[other] = startProcess(t, g.home, "broker", "-c", g.files[other])
	p := startProcess(t, g.home, "broker", "-c", g.files[f])
	if code := p.exitCode(); code != 74 || !strings.Contains(p.printed(), "NODE_AMNESIA") {
		t.Errorf("code %d, printed:\n%s", code, p.printed())
	}
}

// empty kills a replica and removes its directory.
func (g *trio) empty(i int) {
	g.t.Helper()
	g.procs[i].kill()
	if err := os.RemoveAll(filepath.Join(g.home, "store", fmt.Sprintf("RaftNode00-%d", i))); err != nil {
		g.t.Fatal(err)
	}
}

// All replicas hold the same bytes at the same offsets.
func TestReplicasAreEqual(t *testing.T) {
	g := startTrio(t)
	g.send("before", 1000)
	leader := g.leader()
	g.procs[leader].kill()
	g.leader()
	g.send("between", 1000)
	g.procs[leader] = startProcess(t, g.home, "broker", "-c", g.files[leader])
	g.procs[leader].waitLine("boot success")
	g.send("after", 1000)
	last := g.leader()
	for _, i := range []int{(last + 1) % 3, (last + 2) % 3, last} { // followers first: they have what is committed
		if code := g.procs[i].stop(); code != 0 {
			t.Errorf("replica %d ended with code %d:\n%s", i, code, g.procs[i].printed())
		}
	}
	var logs [3][]byte
	for i := range logs {
		data, err := os.ReadFile(filepath.Join(g.home, "store", fmt.Sprintf("RaftNode00-%d", i), "log", strings.Repeat("0", 20)))
		if err != nil {
			t.Fatal(err)
		}
		const page = 4096 // the segment's header is the replica's own
		logs[i] = bytes.TrimRight(data[page:], "\x00")
		if n := bytes.Count(logs[i], []byte("between ")); n != 1000 {
			t.Errorf("replica %d has %d messages of those that were sent while another one led", i, n)
		}
	}
	for i := 1; i < 3; i++ {
		if n := min(len(logs[0]), len(logs[i])); !bytes.Equal(logs[0][:n], logs[i][:n]) {
			t.Errorf("replicas 0 and %d differ within their first %d bytes", i, n)
		}
	}
}
