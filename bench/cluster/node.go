package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Node is one server. Its methods are safe for concurrent use, but starting it twice at a time is an error.
type Node struct {
	Name string
	Dir  string // its home: property file, data, logs
	Host string // that others reach it at
	Port int    // that clients reach it at; Port+1 is for the other replicas

	role, program string
	number        int    // in its cluster
	bind          string // address that it listens on
	namespace     string // network namespace that it runs in; "" = this process's
	replicaDir    string // of a broker: its log and state

	mu   sync.Mutex
	run  *run
	runs int
}

// run is one life of a node's process.
type run struct {
	cmd   *exec.Cmd
	ready chan struct{} // closed when it has said that it is ready
	ended chan struct{} // closed when it is gone and all its output is read
	mu    sync.Mutex
	lines []string // the last ones that it printed
}

// Address is where clients and other servers reach it.
func (n *Node) Address() string { return net.JoinHostPort(n.Host, strconv.Itoa(n.Port)) }

// Inside is where a client on its side of a cut reaches it.
func (n *Node) Inside() string {
	if n.namespace != "" {
		return n.Address() // the bridge's own address is not cut off
	}
	return net.JoinHostPort(n.bind, strconv.Itoa(n.Port))
}

// LogDir has its log's segments.
func (n *Node) LogDir() string { return filepath.Join(n.replicaDir, "log") }

func (n *Node) file() string { return filepath.Join(n.Dir, n.role+".properties") }

func (n *Node) writeFile(lines []string) error {
	return os.WriteFile(n.file(), []byte(strings.Join(lines, "\n")+"\n"), 0o644)
}

// Start starts the process; prefix goes before the command line.
func (n *Node) Start(prefix []string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.run != nil && n.run.alive() {
		return fmt.Errorf("cluster: %s runs already", n.Name)
	}
	argv := append(slices.Clone(prefix), n.program, n.role, "-c", n.file())
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = n.Dir
	cmd.Env = append(slices.DeleteFunc(os.Environ(), foreign), "HOME="+n.Dir)
	cmd.SysProcAttr = lifeline()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		return fmt.Errorf("cluster: start %s: %w", n.Name, err)
	}
	n.run = &run{cmd: cmd, ready: make(chan struct{}), ended: make(chan struct{})}
	n.runs++
	go n.run.read(r)
	return nil
}

// foreign is what of the environment would point a server elsewhere.
func foreign(v string) bool {
	return slices.ContainsFunc([]string{"HOME=", "NAMESRV_ADDR=", "ROCKETMQ_HOME=", "JAVA_OPT="}, func(name string) bool { return strings.HasPrefix(v, name) })
}

// linesKept of what a process prints.
const linesKept = 400

// readyText is in the line with which a server says that it is ready.
const readyText = "boot success"

func (r *run) read(output io.ReadCloser) {
	said := false
	for s := bufio.NewScanner(output); s.Scan(); {
		r.mu.Lock()
		if len(r.lines) == linesKept {
			r.lines = slices.Delete(r.lines, 0, linesKept/2)
		}
		r.lines = append(r.lines, s.Text())
		r.mu.Unlock()
		if !said && strings.Contains(s.Text(), readyText) {
			said = true
			close(r.ready)
		}
	}
	_ = r.cmd.Wait()
	output.Close()
	close(r.ended)
}

func (r *run) alive() bool {
	select {
	case <-r.ended:
		return false
	default:
		return true
	}
}

// current is the process of the last start, nil before.
func (n *Node) current() *run {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.run
}

// Alive reports whether the process is there; a paused one is.
func (n *Node) Alive() bool {
	r := n.current()
	return r != nil && r.alive()
}

// State is in words whether it runs.
func (n *Node) State() string {
	switch r := n.current(); {
	case r == nil:
		return "not started"
	case r.alive():
		return "running, pid " + strconv.Itoa(r.cmd.Process.Pid)
	default:
		return "ended: " + r.cmd.ProcessState.String()
	}
}

// WaitReady returns when the server has said that it is ready.
func (n *Node) WaitReady(ctx context.Context) error {
	r := n.current()
	if r == nil {
		return fmt.Errorf("cluster: %s was not started", n.Name)
	}
	select {
	case <-r.ready:
		return nil
	case <-r.ended:
		return fmt.Errorf("cluster: %s ended before it was ready: %s", n.Name, r.cmd.ProcessState)
	case <-ctx.Done():
		return fmt.Errorf("cluster: %s is not ready: %w", n.Name, context.Cause(ctx))
	}
}

// WaitPrinted returns when its present process has printed a line with a text in it.
func (n *Node) WaitPrinted(ctx context.Context, text string) error {
	return Await(ctx, func(context.Context) error {
		if strings.Contains(n.printed(linesKept), text) {
			return nil
		}
		return fmt.Errorf("%s has not printed %q", n.Name, text)
	})
}

// WaitEnd returns the exit code of a process that ends by itself; -1 after a signal.
func (n *Node) WaitEnd(ctx context.Context) (int, error) {
	r := n.current()
	if r == nil {
		return 0, fmt.Errorf("cluster: %s was not started", n.Name)
	}
	select {
	case <-r.ended:
		return r.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("cluster: %s does not end: %w", n.Name, context.Cause(ctx))
	}
}

func (n *Node) signal(s syscall.Signal) error {
	r := n.current()
	if r == nil {
		return fmt.Errorf("cluster: %s was not started", n.Name)
	}
	if err := r.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("cluster: %v of %s: %w", s, n.Name, err)
	}
	return nil
}

// Kill is kill -9; it returns when the process is gone.
func (n *Node) Kill() {
	r := n.current()
	if r == nil {
		return
	}
	_ = r.cmd.Process.Kill() // an error: it is gone already
	<-r.ended
}

// Stop is SIGSTOP: the process is there and does nothing.
func (n *Node) Stop() error { return n.signal(syscall.SIGSTOP) }

// Cont is SIGCONT: it goes on.
func (n *Node) Cont() error { return n.signal(syscall.SIGCONT) }

// Term is SIGTERM; it returns the exit code.
func (n *Node) Term(ctx context.Context) (int, error) {
	if err := n.signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return 0, err
	}
	return n.WaitEnd(ctx)
}

// Hosts reports whether a name server keeps a certain arbiter.
func (n *Node) Hosts(arbiter string) bool {
	_, incarnation, _ := strings.Cut(arbiter, "-")
	files, err := filepath.Glob(filepath.Join(n.Dir, "namesrv", "arbiters", "*", "log", "node.json"))
	return err == nil && incarnation != "" && slices.ContainsFunc(files, func(file string) bool {
		text, err := os.ReadFile(file)
		return err == nil && strings.Contains(string(text), incarnation)
	})
}

// Wipe removes everything that a server that has ended kept, as a new disk would.
func (n *Node) Wipe() error {
	if n.Alive() {
		return fmt.Errorf("cluster: %s still runs", n.Name)
	}
	return os.RemoveAll(filepath.Join(n.Dir, "store"))
}

func (n *Node) printed(lines int) string {
	r := n.current()
	if r == nil {
		return ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.lines[max(0, len(r.lines)-lines):], "\n")
}

// Tail is the end of its log file, and of what its present process printed.
func (n *Node) Tail(lines int) string {
	text, err := os.ReadFile(filepath.Join(n.Dir, "logs", "rocketmqlogs", n.role+".log"))
	if err != nil {
		return n.printed(lines) + "\n"
	}
	all := strings.SplitAfter(string(text), "\n")
	return strings.Join(all[max(0, len(all)-lines-1):], "") + "---- printed\n" + n.printed(printedLines) + "\n"
}

// printedLines is how much of what a process printed is told beside its log file.
const printedLines = 5
