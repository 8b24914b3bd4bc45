package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"rmq/compat/admin"
)

// freeDevPorts sets the ports of a development cluster to such as were free a moment ago.
func freeDevPorts(t *testing.T, o *devOptions) {
	t.Helper()
	for range 100 {
		o.brokerPort = freePorts(t)
		if checkPortsFree(*o) == nil {
			break
		}
	}
	for o.namesrvPort = o.brokerPort; o.namesrvPort >= o.brokerPort && o.namesrvPort < o.brokerPort+devNodeStep*o.nodes; {
		o.namesrvPort = freePorts(t)
	}
}

// devArgs is the command line of a development cluster.
func devArgs(o devOptions, more ...string) []string {
	args := []string{"dev", "--data", o.data, "--namesrv-port", strconv.Itoa(o.namesrvPort), "--broker-port", strconv.Itoa(o.brokerPort),
		"--nodes", strconv.Itoa(o.nodes), "--groups", strconv.Itoa(o.groups)}
	return append(args, more...)
}

func TestDevOptions(t *testing.T) {
	with := func(change func(*devOptions)) devOptions {
		o := devDefaults()
		change(&o)
		return o
	}
	for _, c := range []struct {
		o    devOptions
		want string // "" = good
	}{
		{devDefaults(), ""},
		{with(func(o *devOptions) { o.nodes, o.groups = 3, 5 }), ""},
		{with(func(o *devOptions) { o.groups = 26 }), ""},
		{with(func(o *devOptions) { o.nodes, o.groups = 3, 6 }), "--groups must lie in 1..5"},
		{with(func(o *devOptions) { o.groups = 27 }), "--groups"},
		{with(func(o *devOptions) { o.nodes = 0 }), "--nodes"},
		{with(func(o *devOptions) { o.nodes = 10 }), "--nodes"},
		{with(func(o *devOptions) { o.nodes = 2 }), ""},
		{with(func(o *devOptions) { o.brokerPort = 2 }), "port"},
		{with(func(o *devOptions) { o.nodes, o.brokerPort = 3, 65400 }), "port"},
		{with(func(o *devOptions) { o.namesrvPort = 0 }), "port"},
		{with(func(o *devOptions) { o.data = "" }), "--data"},
	} {
		switch err := c.o.check(); {
		case c.want == "" && err != nil:
			t.Errorf("%+v: %v", c.o, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%+v: %v, want one with %q", c.o, err, c.want)
		}
	}
}

// The ports that scripts may rely on.
func TestDevPorts(t *testing.T) {
	o := devOptions{data: "d", namesrvPort: 9876, brokerPort: 10911, nodes: 3, groups: 3}
	c, err := o.brokerConfig(2, 1)
	if err != nil {
		t.Fatal(err)
	}
	if c.BrokerName != "broker-b" || c.ListenPort != 10911+20+200 || c.StorePathRootDir != filepath.Join("d", "node2") || c.DLegerSelfID != 2 {
		t.Errorf("%s listens at %d, stores in %s, is n%d", c.BrokerName, c.ListenPort, c.StorePathRootDir, c.DLegerSelfID)
	}
	want := []DLedgerPeer{{0, "127.0.0.1:10932"}, {1, "127.0.0.1:11032"}, {2, "127.0.0.1:11132"}}
	if fmt.Sprint(c.DLegerPeers) != fmt.Sprint(want) {
		t.Errorf("peers %v, want %v", c.DLegerPeers, want)
	}
	o.nodes = 1
	if c, err = o.brokerConfig(0, 0); err != nil || c.StorePathRootDir != "d" || c.EnableDLegerCommitLog {
		t.Errorf("a single node stores in %s (%v)", c.StorePathRootDir, err)
	}
}

func TestDevDataOfAnotherForm(t *testing.T) {
	o := devDefaults()
	o.data = t.TempDir()
	o.nodes, o.groups = 3, 2
	if err := checkHeldShape(o); err != nil {
		t.Fatalf("an empty directory: %v", err)
	}
	for range 2 { // the second time it is there
		if err := recordShape(o); err != nil {
			t.Fatal(err)
		}
	}
	if err := checkHeldShape(o); err != nil {
		t.Errorf("the same form: %v", err)
	}
	for name, change := range map[string]func(*devOptions){
		"nodes":  func(o *devOptions) { o.nodes = 5 },
		"groups": func(o *devOptions) { o.groups = 3 },
		"port":   func(o *devOptions) { o.brokerPort = 20911 },
		"single": func(o *devOptions) { o.nodes, o.groups = 1, 1 },
	} {
		other := o
		change(&other)
		if err := checkHeldShape(other); err == nil || !strings.Contains(err.Error(), "--nodes 3 --groups 2 --broker-port 10911") || ExitCode(err) != exitUsage {
			t.Errorf("other %s: %v", name, err)
		}
	}

	// A directory of an older rmq has no such file.
	old := devDefaults()
	old.data = t.TempDir()
	for _, name := range []string{"broker-a-0", "broker-b-0"} {
		if err := os.Mkdir(filepath.Join(old.data, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	old.brokerPort = 20911
	if err := checkHeldShape(old); err == nil || !strings.Contains(err.Error(), "--nodes 1 --groups 2") {
		t.Errorf("one group of two: %v", err)
	}
	if old.groups = 2; checkHeldShape(old) != nil {
		t.Errorf("a single node's port may change: %v", checkHeldShape(old))
	}
}

func TestShellWord(t *testing.T) {
	for in, want := range map[string]string{"rmq-data": "rmq-data", "/tmp/a_b.c": "/tmp/a_b.c", "my data": "'my data'", "it's": `'it'\''s'`, "": "''", "$(x)": "'$(x)'"} {
		if got := shellWord(in); got != want {
			t.Errorf("%q is written %s, want %s", in, got, want)
		}
	}
}

// Three nodes with two groups in one process keep what they were sent across a restart.
func TestDevNodesInOneProcess(t *testing.T) {
	home := t.TempDir()
	o := devOptions{data: filepath.Join(home, "data"), nodes: 3, groups: 2}
	freeDevPorts(t, &o)
	p := startProcess(t, home, devArgs(o)...)
	p.waitLine("ready in")
	for j := range o.nodes {
		for i := range o.groups {
			if !strings.Contains(p.printed(), o.address(j, i)) {
				t.Errorf("node %d of group %d is not shown", j, i)
			}
		}
	}
	if code, out, errs := run(t, strings.Repeat("a message\n", 100), "send", "-n", o.namesrvAddr(), "-t", "T"); code != 0 {
		t.Fatalf("send: code %d\n%s%s", code, out, errs)
	}
	if code := p.stop(); code != 0 || strings.Contains(p.printed(), "level=") {
		t.Errorf("ended with code %d:\n%s", code, p.printed())
	}
	other := o
	other.nodes = 1
	if code, _, errs := run(t, "", devArgs(other)...); code != exitUsage || !strings.Contains(errs, "--nodes 3 --groups 2") {
		t.Errorf("another number of nodes: code %d, %s", code, errs)
	}
	p = startProcess(t, home, devArgs(o)...)
	p.waitLine("ready in")
	if code, _, errs := run(t, "", "tail", "-n", o.namesrvAddr(), "-t", "T", "--from-start", "--count", "100"); code != 0 {
		t.Errorf("tail after the restart: code %d\n%s", code, errs)
	}
	if code := p.stop(); code != 0 {
		t.Errorf("ended with code %d:\n%s", code, p.printed())
	}
}

// Two nodes are a master and a slave as in RocketMQ's files; with the arbiter beside the name server they survive the loss of
// either, and what has come meanwhile reaches the one that was away.
func TestDevTwoNodes(t *testing.T) {
	home := t.TempDir()
	o := devOptions{data: filepath.Join(home, "data"), nodes: 2, groups: 1}
	freeDevPorts(t, &o)
	p := startProcess(t, home, devArgs(o, "--processes")...)
	p.waitLine("ready in")
	total := 0
	send := func() {
		t.Helper()
		if code, out, errs := run(t, strings.Repeat("a message\n", 100), "send", "-n", o.namesrvAddr(), "-t", "T"); code != 0 {
			t.Fatalf("send: code %d\n%s%s", code, out, errs)
		}
		total += 100
	}
	send()
	for range o.nodes {
		leader := devLeader(t, o, -1)
		if err := syscall.Kill(pidOf(t, o, leader), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		p.waitLine(fmt.Sprintf("node %d", leader)) // has ended
		devLeader(t, o, leader)
		send()
		startProcess(t, home, devArgs(o, "--node", strconv.Itoa(leader))...).waitLine("is ready")
	}
	if code, _, errs := run(t, "", "tail", "-n", o.namesrvAddr(), "-t", "T", "--from-start", "--count", strconv.Itoa(total)); code != 0 {
		t.Errorf("tail: code %d\n%s", code, errs)
	}
}

// devLeader waits until a node other than one leads a group, and returns it.
func devLeader(t *testing.T, o devOptions, other int) int {
	t.Helper()
	cluster := admin.NewCluster([]string{o.namesrvAddr()}, time.Second)
	defer cluster.Close()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-time.After(10 * time.Millisecond) {
		masters, _ := cluster.Masters(t.Context())
		if j, ok := o.nodeNumber(masters[devGroupName(0)]); ok && j != other {
			return j
		}
	}
	t.Fatal("the name server shows no leader")
	return -1
}

func pidOf(t *testing.T, o devOptions, node int) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(o.nodeDir(node), "pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// A node that is a process of its own can be killed: another takes over, and the command that is printed brings it back.
func TestDevProcesses(t *testing.T) {
	home := t.TempDir()
	o := devOptions{data: filepath.Join(home, "my data"), nodes: 3, groups: 1}
	freeDevPorts(t, &o)
	p := startProcess(t, home, devArgs(o, "--processes")...)
	p.waitLine("ready in")
	send := func(text string) {
		t.Helper()
		if code, out, errs := run(t, strings.Repeat(text+"\n", 100), "send", "-n", o.namesrvAddr(), "-t", "T"); code != 0 {
			t.Fatalf("send: code %d\n%s%s", code, out, errs)
		}
	}
	send("before")
	killed := devLeader(t, o, -1)
	if err := syscall.Kill(pidOf(t, o, killed), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.waitLine(fmt.Sprintf("node %d (pid %d) has ended: signal: killed", killed, pidOf(t, o, killed)))
	devLeader(t, o, killed)
	p.waitLine("leads now")
	send("after")

	_, command, ok := strings.Cut(p.printed(), "Start it again with\n  ")
	command, _, _ = strings.Cut(command, "\n")
	if want := fmt.Sprintf("--data '%s' --namesrv-port %d --broker-port %d --nodes 3 --node %d", o.data, o.namesrvPort, o.brokerPort, killed); !ok || !strings.HasSuffix(command, " dev "+want) {
		t.Fatalf("the command to start it again is %q, want %q", command, want)
	}
	again := startProcess(t, home, devArgs(o, "--node", strconv.Itoa(killed))...)
	again.waitLine(fmt.Sprintf("node %d is ready", killed))
	if pid := pidOf(t, o, killed); pid != again.cmd.Process.Pid {
		t.Errorf("the pid file of the restarted node has %d, it is %d", pid, again.cmd.Process.Pid)
	}
	if code, _, errs := run(t, "", "tail", "-n", o.namesrvAddr(), "-t", "T", "--from-start", "--count", "200"); code != 0 {
		t.Errorf("tail: code %d\n%s", code, errs)
	}
	if code := p.stop(); code != 0 || !strings.Contains(p.printed(), fmt.Sprintf("goes on: pid %d", again.cmd.Process.Pid)) {
		t.Errorf("ended with code %d:\n%s", code, p.printed())
	}
	if code := again.stop(); code != 0 {
		t.Errorf("the restarted node ended with code %d:\n%s", code, again.printed())
	}
	for j := range o.nodes {
		if _, err := os.Stat(filepath.Join(o.nodeDir(j), "pid")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("node %d has left its pid (%v)", j, err)
		}
		if _, err := os.Stat(filepath.Join(o.nodeDir(j), "log", "broker.log")); err != nil {
			t.Error(err)
		}
	}
}

// Nodes do not outlive a `rmq dev` that is killed: they would hold their ports for ever.
func TestDevKilledTakesItsNodesAlong(t *testing.T) {
	home := t.TempDir()
	o := devOptions{data: filepath.Join(home, "data"), nodes: 1, groups: 1}
	freeDevPorts(t, &o)
	p := startProcess(t, home, devArgs(o, "--processes")...)
	p.waitLine("ready in")
	pid := filepath.Join(o.nodeDir(0), "pid")
	if _, err := os.Stat(pid); err != nil {
		t.Fatal(err)
	}
	p.kill()
	for deadline := time.Now().Add(20 * time.Second); ; <-time.After(10 * time.Millisecond) {
		if _, err := os.Stat(pid); errors.Is(err, fs.ErrNotExist) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the node still runs")
		}
	}
}

// What keeps a node from starting is told by the command that started it.
func TestDevNodeCannotStart(t *testing.T) {
	home := t.TempDir()
	o := devOptions{data: filepath.Join(home, "data"), nodes: 3, groups: 1}
	freeDevPorts(t, &o)
	if err := os.MkdirAll(filepath.Join(o.nodeDir(1)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(o.nodeDir(1), "broker-a-1"), []byte("in the way"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := startProcess(t, home, devArgs(o, "--processes")...)
	if code := p.exitCode(); code != exitFailed || !strings.Contains(p.printed(), "node 1 did not start") || !strings.Contains(p.printed(), "not a directory") {
		t.Errorf("code %d, printed:\n%s", code, p.printed())
	}
}
