package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// devProcesses is the nodes of a development cluster as processes of their own: this program, run again. It is the one
// place outside tests and benches that starts programs, and what it starts comes from no setting.
type devProcesses struct {
	options  devOptions
	nodes    []*nodeProcess
	out      *lineWriter
	stopping chan struct{}
	watchers sync.WaitGroup
}

// startDevProcesses starts all nodes and returns when every one of them is ready, or with the first failure and none of
// them running. From then on the end of a node is printed.
func startDevProcesses(ctx context.Context, o devOptions, out *lineWriter) (p *devProcesses, err error) {
	p = &devProcesses{options: o, out: out, stopping: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.stop())
		}
	}()
	for j := range o.nodes {
		n, err := startNodeProcess(o, j)
		if err != nil {
			return p, err
		}
		p.nodes = append(p.nodes, n)
	}
	failed := make(chan error, len(p.nodes))
	for _, n := range p.nodes {
		go func() { failed <- n.awaitReady(ctx) }() // returns when the node is ready or ends, which stop sees to
	}
	for range p.nodes {
		if err := <-failed; err != nil {
			return p, err
		}
	}
	for _, n := range p.nodes {
		p.watchers.Go(func() { p.watch(n) })
	}
	return p, nil
}

// describe prints how to find the nodes, and which one is worth a kill.
func (p *devProcesses) describe(out *lineWriter, leaders map[string]string) {
	for _, n := range p.nodes {
		out.printf("  node %-8d pid %-7d logs in %s", n.number, n.pid(), n.logs)
	}
	if j, ok := p.options.nodeNumber(leaders[devGroupName(0)]); ok && len(p.nodes) > 1 {
		out.printf("Try: kill -9 $(cat %s)     another node takes over within a second", shellWord(filepath.Join(p.options.nodeDir(j), "pid")))
	}
}

// watch tells when a node ends, and how to start it again: nobody else does.
func (p *devProcesses) watch(n *nodeProcess) {
	select {
	case <-n.ended:
	case <-p.stopping:
		return
	}
	p.out.printf("node %d (pid %d) has ended: %s. Start it again with\n  %s", n.number, n.pid(), n.outcome(), p.options.nodeCommand(n.number))
}

// nodeCommand is the command line that starts a node in the foreground.
func (o devOptions) nodeCommand(node int) string {
	words := []string{os.Args[0], "dev"}
	for _, word := range o.flags(node, devDefaults()) {
		words = append(words, shellWord(word))
	}
	return strings.Join(words, " ")
}

// flags returns the command line of a node, without what is in defaults already.
func (o devOptions) flags(node int, defaults devOptions) []string {
	var args []string
	add := func(name, value, def string) {
		if value != def {
			args = append(args, name, value)
		}
	}
	add("--data", o.data, defaults.data)
	add("--namesrv-port", strconv.Itoa(o.namesrvPort), strconv.Itoa(defaults.namesrvPort))
	add("--broker-port", strconv.Itoa(o.brokerPort), strconv.Itoa(defaults.brokerPort))
	add("--nodes", strconv.Itoa(o.nodes), strconv.Itoa(defaults.nodes))
	add("--groups", strconv.Itoa(o.groups), strconv.Itoa(defaults.groups))
	return append(args, "--node", strconv.Itoa(node))
}

// shellWord quotes a word for a shell where it needs to be.
func shellWord(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("/._-+=:,@%", r) && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// devStopTimeout bounds how long a node may take to stop before it is killed.
const devStopTimeout = stopTimeout + 5*time.Second

// stop ends all nodes together and waits. A node that was started again by hand is not ours; it is named.
func (p *devProcesses) stop() error {
	close(p.stopping)
	for _, n := range p.nodes {
		n.input.Close()
	}
	timeout := time.NewTimer(devStopTimeout)
	defer timeout.Stop()
	var errs []error
	for _, n := range p.nodes {
		select {
		case <-n.ended:
		case <-timeout.C:
			timeout.Reset(0) // for the next one
			errs = append(errs, fmt.Errorf("node %d (pid %d) did not stop within %v: killed", n.number, n.pid(), devStopTimeout), n.kill())
			<-n.ended
		}
	}
	p.watchers.Wait()
	for _, n := range p.nodes {
		if pid, ok := runningPid(filepath.Join(p.options.nodeDir(n.number), "pid")); ok {
			p.out.printf("node %d was started again by hand and goes on: pid %d", n.number, pid)
		}
	}
	return errors.Join(errs...)
}

// runningPid returns the pid in a file if there is a process of that number.
func runningPid(path string) (pid int, ok bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
	return pid, err == nil && syscall.Kill(pid, 0) == nil
}

// nodeProcess is a node that is a child of this process.
type nodeProcess struct {
	number  int
	logs    string // directory
	console string // file with its error output
	began   int64  // size of console at the start
	cmd     *exec.Cmd
	input   io.Closer // ends when the cluster stops, also if this process is killed
	ready   chan struct{}
	ended   chan struct{}
}

func startNodeProcess(o devOptions, node int) (*nodeProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	n := &nodeProcess{number: node, logs: filepath.Join(o.nodeDir(node), "log"), ready: make(chan struct{}), ended: make(chan struct{})}
	if err := os.MkdirAll(n.logs, 0o755); err != nil {
		return nil, err
	}
	n.console = filepath.Join(n.logs, "console")
	console, err := os.OpenFile(n.console, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer console.Close()
	info, err := console.Stat()
	if err != nil {
		return nil, err
	}
	n.began = info.Size()
	n.cmd = exec.Command(self, append(append([]string{"dev"}, o.flags(node, devOptions{})...), "--attached")...)
	n.cmd.Env = withoutVariable(os.Environ(), pprofVariable) // its port is this process's
	n.cmd.Stderr = console
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C of the terminal reaches this process only, which stops the nodes
	input, err := n.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	n.input = input
	output, err := n.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := n.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start node %d: %w", node, err)
	}
	go func() { // ends with the process
		defer close(n.ended)
		lines := bufio.NewReader(output)
		if _, err := lines.ReadString('\n'); err == nil {
			close(n.ready)
		}
		_, _ = io.Copy(io.Discard, lines)
		_ = n.cmd.Wait() // outcome tells
	}()
	return n, nil
}

func withoutVariable(env []string, name string) []string {
	var kept []string
	for _, entry := range env {
		if !strings.HasPrefix(entry, name+"=") {
			kept = append(kept, entry)
		}
	}
	return kept
}

func (n *nodeProcess) pid() int { return n.cmd.Process.Pid }

// kill is kill -9.
func (n *nodeProcess) kill() error { return n.cmd.Process.Kill() }

// awaitReady returns when the node serves, and with an error when it has ended or ctx has.
func (n *nodeProcess) awaitReady(ctx context.Context) error {
	select {
	case <-n.ready:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-n.ended:
		return &exitError{exitFailed, fmt.Errorf("node %d did not start: %s", n.number, n.outcome())}
	}
}

// outcome says how the process ended, with what it printed last.
func (n *nodeProcess) outcome() string {
	text := n.cmd.ProcessState.String()
	if last := n.lastWords(); last != "" && !n.cmd.ProcessState.Success() {
		text += ", " + last
	}
	return text
}

// lastWords is the last line of the error output since the start.
func (n *nodeProcess) lastWords() string {
	const most = 4 << 10
	f, err := os.Open(n.console)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	text := make([]byte, min(info.Size()-n.began, most))
	if _, err := f.ReadAt(text, info.Size()-int64(len(text))); err != nil {
		return ""
	}
	text = bytes.TrimRight(text, "\n")
	return string(text[bytes.LastIndexByte(text, '\n')+1:])
}
