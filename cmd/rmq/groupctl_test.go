package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"rmq/compat/admin"
	"rmq/remoting/protocol"
)

// tool runs rmq group and returns what it printed; it must end with code.
func tool(t *testing.T, code int, args ...string) string {
	t.Helper()
	got, out, errs := run(t, "", append([]string{"group"}, args...)...)
	if got != code {
		t.Fatalf("rmq group %s: code %d, want %d\n%s%s", strings.Join(args, " "), got, code, out, errs)
	}
	return out + errs
}

// eventually waits until is, at most 20 s.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); <-time.After(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// groupStatuses is rmq group status, of groups that all have a leader; nil if one has none.
func groupStatuses(t *testing.T, names string, args ...string) []protocol.GroupStatusBody {
	t.Helper()
	code, out, _ := run(t, "", append([]string{"group", "status", "-n", names, "-o", "json"}, args...)...)
	var all []protocol.GroupStatusBody
	if code != 0 {
		return nil
	}
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return all
}

// standing writes a group as its leader has it: "0 voter, 1 leader, 2 learner"; a replica that is not in sync has a question mark.
func standing(t *testing.T, names, group string) string {
	t.Helper()
	all := groupStatuses(t, names, "-b", group)
	if len(all) != 1 {
		return ""
	}
	var list []string
	for _, r := range all[0].Replicas {
		word := fmt.Sprint(r.Number, " ", r.Role)
		if !r.InSync {
			word += "?"
		}
		list = append(list, word)
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// A replica that is taken out of its group says so and ends, and does not come back but with an empty directory; the leader hands the
// lead on first, and no send fails. A dead replica is removed by cleanBrokerMetadata, a live one is not.
func TestGroupCommands(t *testing.T) {
	g := startTrio(t)
	const name = "RaftNode00"
	g.send("seed", 100)
	three := func() bool {
		return strings.Count(standing(t, g.names, name), "voter") == 2 && !strings.Contains(standing(t, g.names, name), "?")
	}
	eventually(t, "all three are in sync", three)

	next := g.follower()
	if out := tool(t, 0, "transfer", "-n", g.names, "-b", name, "--to", strconv.Itoa(next)); !strings.Contains(out, fmt.Sprintf("is led by replica %d", next)) {
		t.Errorf("printed %q", out)
	}
	eventually(t, "the other one leads", func() bool { return g.leader() == next })
	eventually(t, "the table shows that", func() bool {
		out := tool(t, 0, "status", "-n", g.names)
		return strings.Count(out, name) == 3 && strings.Count(out, " yes ") == 3 && strings.Count(out, " leader ") == 1
	})

	sending := startSending(t, g.names)
	sending.pass(200)
	out := next
	tool(t, 0, "remove-replica", "-n", g.names, "-b", name, "--number", strconv.Itoa(out))
	sending.pass(1000) // past the time at which it hears from the leader no more
	if code := g.procs[out].exitCode(); code != 76 || !strings.Contains(g.procs[out].printed(), "NODE_REMOVED") {
		t.Errorf("the removed replica: code %d\n%s", code, g.procs[out].printed())
	}
	sending.end()
	if p := startProcess(t, g.home, "broker", "-c", g.files[out]); p.exitCode() != 76 || !strings.Contains(p.printed(), "storePath") && !strings.Contains(p.printed(), filepath.Join(g.home, "store")) {
		t.Errorf("started again: code %d\n%s", p.exitCode(), p.printed())
	}
	g.empty(out)
	g.procs[out] = startProcess(t, g.home, "broker", "-c", g.files[out])
	g.procs[out].waitLine("boot success")
	eventually(t, "it is a voter again", three)

	// cleanBrokerMetadata, at the name server.
	cluster := admin.NewCluster([]string{g.names}, 5*time.Second)
	defer cluster.Close()
	clean := func(id int) error {
		_, err := cluster.Call(t.Context(), g.names, protocol.CleanBrokerData, &protocol.CleanBrokerDataRequestHeader{
			ClusterName: "RaftCluster", BrokerName: name, IDs: strconv.Itoa(id),
		})
		return err
	}
	dead := g.follower()
	if err := clean(dead); err == nil || !strings.Contains(err.Error(), "is in contact") {
		t.Errorf("removing a live replica: %v", err)
	}
	g.procs[dead].kill()
	other := 3 - dead - g.leader()
	if out := tool(t, 1, "remove-replica", "-n", g.names, "-b", name, "--number", strconv.Itoa(other)); !strings.Contains(out, "no majority") {
		t.Errorf("removing one of the two that are left: %s", out)
	}
	eventually(t, "the dead one is removed", func() bool { return clean(dead) == nil })
	g.procs[dead] = startProcess(t, g.home, "broker", "-c", g.files[dead])
	if code := g.procs[dead].exitCode(); code != 76 {
		t.Errorf("removed while it was down: code %d\n%s", code, g.procs[dead].printed())
	}
	g.send("two are left", 10)
}

func TestGroupCommandLine(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"", "transfer"}, {"nonsense", "transfer"}, {"status more", "transfer"}, {"status -o xml", "xml"}, {"transfer -b x", "--to"}, {"transfer --to 1", "-b"},
		{"remove-replica -b x --to 1", "--number"}, {"forget -b x", "-c"},
	} {
		if out := tool(t, 1, append(strings.Fields(c.args), "-n", "127.0.0.1:1")...); !strings.Contains(out, c.want) {
			t.Errorf("rmq group %s: printed %q", c.args, out)
		}
	}
	if out := tool(t, 0, "--help"); !strings.Contains(out, "brokerRole=SLAVE") {
		t.Errorf("help does not say how to add a replica:\n%s", out)
	}
}

// What the table says of replicas that are not simply well.
func TestGroupTable(t *testing.T) {
	var out strings.Builder
	err := printGroups(&out, []protocol.GroupStatusBody{
		{BrokerName: "a", Leads: true, Replicas: []protocol.ReplicaStatus{
			{Number: 0, Role: "leader", Address: "c0", RaftAddr: "r0", Connected: true, InSync: true},
			{Number: 1, Role: "learner", RaftAddr: "r1", Connected: true, LagBytes: 2 << 20, Filling: true, FilledSize: 1 << 20, FillSize: 3 << 20},
			{Number: 2, Role: "voter", RaftAddr: "r2", LagBytes: -1, Muted: true},
			{Number: -1, Role: "arbiter", RaftAddr: "r3", Connected: true, InSync: true},
		}},
		{BrokerName: "b", Replicas: []protocol.ReplicaStatus{{Number: 0, Role: "voter", RaftAddr: "r4", LagBytes: -1}}},
	})
	want := []string{
		"GROUP REPLICA ROLE ADDRESS RAFT ADDRESS IN SYNC LAG STATE",
		"a 0 leader c0 r0 yes 0 B ok",
		"a 1 learner - r1 no 2.0 MiB filling: 1.0 MiB of 3.0 MiB",
		"a 2 voter - r2 no ? not in contact, without vote until it has caught up",
		"a - arbiter - r3 yes 0 B ok",
		"b 0 voter - r4 no ? not known",
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	for i, line := range lines {
		lines[i] = strings.Join(strings.Fields(line), " ")
	}
	if err != nil || !slices.Equal(lines, want) {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestBalanceMoves(t *testing.T) {
	// group writes "ABC": replicas 0, 1, 2 on these processes, the first leads; in lower case one that cannot lead.
	group := func(name, nodes string) protocol.GroupStatusBody {
		g := protocol.GroupStatusBody{BrokerName: name, Leads: true}
		for i, n := range nodes {
			r := protocol.ReplicaStatus{Number: i, Role: "voter", Node: strings.ToUpper(string(n)), InSync: strings.ToUpper(string(n)) == string(n)}
			if i == 0 {
				r.Role = "leader"
			}
			g.Replicas = append(g.Replicas, r)
		}
		return g
	}
	for _, c := range []struct {
		nodes string
		want  string // "group:replica"
	}{
		{"ABC ABC ABC ABC ABC ABC", "a:1 b:2 c:1 d:2"},
		{"ABC BAC CAB", ""},
		{"ABC ABC", "a:1"},
		{"ABC ABC BAC", "a:2"},
		{"Abc Abc Abc", ""},
		{"ABc ABc ABc ABc", "a:1 b:1"},
		{"AB AB CD CD", "a:1 c:1"},
	} {
		var all []protocol.GroupStatusBody
		for i, nodes := range strings.Fields(c.nodes) {
			all = append(all, group(string(rune('a'+i)), nodes))
		}
		var got []string
		for _, m := range balanceMoves(all) {
			got = append(got, fmt.Sprint(m.group, ":", m.to.Number))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", c.nodes, got, c.want)
		}
	}
}
