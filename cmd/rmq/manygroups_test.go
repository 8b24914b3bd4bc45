package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// leadersAt counts the groups that each process leads; nil if a group has no leader or not all its replicas in sync.
func leadersAt(t *testing.T, names string, groups, replicas int) map[string]int {
	t.Helper()
	leads := map[string]int{}
	n := 0
	for _, g := range groupStatuses(t, names) {
		inSync := 0
		for _, r := range g.Replicas {
			if r.InSync {
				inSync++
			}
			if r.Role == "leader" {
				leads[r.Node]++
			}
		}
		if inSync == replicas {
			n++
		}
	}
	if n < groups {
		return nil
	}
	return leads
}

// A15: leaders that are all on one of three processes spread over them, two each, with no failed send, and no group is moved more than
// once. rmq group balance does the same when it is asked to.
func TestLeadersSpread(t *testing.T) {
	const groups, nodes, interval = 6, 3, 4 * time.Second
	home := t.TempDir()
	_, names := startNames(t, home)
	var args [nodes][]string
	for i := range groups {
		var peers []string
		for j := range nodes {
			peers = append(peers, fmt.Sprintf("n%d-127.0.0.1:%d", j, freePorts(t)))
		}
		name := "broker-" + string(rune('a'+i))
		for j := range nodes {
			file := brokerFile(t, home, fmt.Sprintf("%s-%d", name, j), freePorts(t), "brokerName="+name, "enableDLegerCommitLog=true", "dLegerGroup="+name,
				"storePathRootDir="+filepath.Join(home, "node"+strconv.Itoa(j)), "dLegerPeers="+strings.Join(peers, ";"), "dLegerSelfId=n"+strconv.Itoa(j),
				"namesrvAddr="+names, fmt.Sprint("leaderBalanceInterval=", interval.Milliseconds()))
			args[j] = append(args[j], "-c", file)
		}
	}
	var procs [nodes]*process
	for j := range procs {
		procs[j] = startProcess(t, home, append([]string{"broker"}, args[j]...)...)
	}
	for _, p := range procs {
		for range groups {
			p.waitLine("boot success")
		}
	}
	eventually(t, "all replicas are in sync", func() bool { return leadersAt(t, names, groups, nodes) != nil })
	onNode0 := func() {
		t.Helper()
		for i := range groups {
			tool(t, 0, "transfer", "-n", names, "-b", "broker-"+string(rune('a'+i)), "--to", "0")
		}
		if out := tool(t, 0, "status", "-n", names); strings.Count(out, " 0        leader ") != groups {
			t.Fatalf("not all leaders are on node 0:\n%s", out)
		}
	}
	spread := func() bool {
		counts := slices.Collect(maps.Values(leadersAt(t, names, groups, nodes)))
		return slices.Equal(counts, []int{2, 2, 2})
	}
	handedOn := func() []string { // the groups whose lead was moved for balance, in order
		text, err := os.ReadFile(filepath.Join(home, "logs", "rocketmqlogs", "broker.log"))
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for line := range strings.Lines(string(text)) {
			if _, rest, ok := strings.Cut(line, "the lead is handed on"); ok {
				all = append(all, regexp.MustCompile("broker-[a-z]").FindString(rest))
			}
		}
		return all
	}
	sending := startSending(t, names)
	sending.pass(10)
	onNode0()
	if out := tool(t, 0, "balance", "-n", names); strings.Count(out, "is led by") != 4 {
		t.Errorf("rmq group balance printed\n%s", out)
	}
	eventually(t, "the leaders are spread as asked", spread)

	onNode0()
	began, before := time.Now(), len(handedOn())
	eventually(t, "the leaders are spread by themselves", func() bool {
		sending.pass(20)
		return spread()
	})
	took, moves := time.Since(began), handedOn()[before:]
	t.Logf("spread after %v, moved were %v", took.Round(time.Millisecond), moves)
	if len(moves) < 4 {
		t.Errorf("%d moves cannot have spread the leaders", len(moves))
	}
	for _, name := range moves {
		n := strings.Count(strings.Join(moves, " "), name)
		if most := 1 + int(took/interval); n > most {
			t.Errorf("%s was moved %d times in %v", name, n, took)
		}
	}
	sending.end()
}

// A17: sixteen groups in one process start fast, and each takes messages and keeps them over a restart.
func TestSixteenGroupsInOneProcess(t *testing.T) {
	const groups = 16
	home := t.TempDir()
	_, names := startNames(t, home)
	args := []string{"broker", "-n", names}
	for i := range groups {
		args = append(args, "-c", brokerFile(t, home, fmt.Sprintf("broker-%c", 'a'+i), freePorts(t)))
	}
	for round := range 2 {
		began := time.Now()
		p := startProcess(t, home, args...)
		for range groups {
			p.waitLine("boot success")
		}
		took := time.Since(began)
		t.Logf("round %d: %d groups serve after %v", round, groups, took.Round(time.Millisecond))
		if took > 10*time.Second {
			t.Errorf("%d groups took %v", groups, took)
		}
		if code, out, errs := run(t, strings.Repeat("a message\n", 200), "send", "-n", names, "-t", fmt.Sprint("T", round)); code != 0 {
			t.Fatalf("send: code %d\n%s%s", code, out, errs)
		}
		if all := groupStatuses(t, names); len(all) != groups {
			t.Errorf("%d groups are registered", len(all))
		}
		if code := p.stop(); code != 0 {
			t.Errorf("the process ended with code %d:\n%s", code, p.printed())
		}
	}
}

// A7: a second broker with the number of a live one is refused at boot, with both addresses: a master as well as a slave.
func TestDuplicateNumberIsRefused(t *testing.T) {
	home := t.TempDir()
	_, names := startNames(t, home)
	var ports []int
	start := func(dir string, id int, role string) *process {
		port := freePorts(t)
		ports = append(ports, port)
		return startProcess(t, home, "broker", "-n", names, "-c", brokerFile(t, home, dir, port, "brokerName=broker-a", "brokerId="+strconv.Itoa(id),
			"brokerRole="+role, "arbiter=off", "storePathRootDir="+filepath.Join(home, dir)))
	}
	start("master", 0, "ASYNC_MASTER").waitLine("boot success")
	start("slave", 1, "SLAVE").waitLine("boot success")
	for i, c := range []struct {
		dir, role string
		id        int
	}{{"master-again", "ASYNC_MASTER", 0}, {"slave-again", "SLAVE", 1}} {
		began := time.Now()
		p := start(c.dir, c.id, c.role)
		code := p.exitCode()
		t.Logf("%s: refused after %v", c.dir, time.Since(began).Round(time.Millisecond))
		held, own := fmt.Sprintf("127.0.0.1:%d", ports[i]+1), fmt.Sprintf("127.0.0.1:%d", ports[2+i]+1) // Raft ports
		if text := p.printed(); code != 75 || !strings.Contains(text, held) || !strings.Contains(text, own) {
			t.Errorf("%s: code %d, want both %s and %s in\n%s", c.dir, code, held, own, text)
		}
	}
	if code, out, errs := run(t, "", "send", "-n", names, "-t", "T", "they serve on"); code != 0 {
		t.Errorf("send: code %d\n%s%s", code, out, errs)
	}
}
