package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// agent is a process with one stock client in it: rmq.clients.Agent, or this program as "agent".
type agent struct {
	client string // name and version of the client
	pollMs int    // how often it asks for routes

	cmd    *exec.Cmd
	in     io.WriteCloser
	exited chan struct{}

	mu      sync.Mutex
	records map[string]*record       // by id of a producer or consumer
	waiting map[string]chan<- string // for "started", "stopped" and "error", by id
}

// startAgent starts argv below dir.
func startAgent(client string, pollMs int, dir string, argv []string) (*agent, error) {
	log, err := os.Create(filepath.Join(dir, "agent-"+client+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	a := &agent{client: client, pollMs: pollMs, cmd: exec.Command(argv[0], argv[1:]...), exited: make(chan struct{}),
		records: make(map[string]*record), waiting: make(map[string]chan<- string)}
	events, err := os.Create(filepath.Join(dir, "agent-"+client+".events"))
	if err != nil {
		return nil, err
	}
	a.cmd.Dir, a.cmd.Stderr = dir, log
	a.cmd.Env = append(os.Environ(), "HOME="+dir, "NAMESRV_ADDR=")
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if a.in, err = a.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := a.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the client %s: %w", client, err)
	}
	go func() {
		defer close(a.exited)
		defer events.Close()
		lines := bufio.NewScanner(io.TeeReader(out, events))
		for lines.Scan() {
			a.hear(lines.Text())
		}
		io.Copy(io.Discard, out)
		a.cmd.Wait()
	}()
	return a, nil
}

func (a *agent) hear(line string) {
	words := strings.Split(line, " ")
	if len(words) < 2 {
		return
	}
	a.mu.Lock()
	r, waiting := a.records[words[1]], a.waiting[words[1]]
	a.mu.Unlock()
	switch words[0] {
	case "sent", "failed", "got":
		if r != nil {
			r.add(words)
		}
	case "started", "stopped", "error":
		if waiting != nil {
			waiting <- line // has room
		}
	}
}

// orderTimeout bounds how long a client takes to start or to stop.
const orderTimeout = 60 * time.Second

// order gives the agent a command about id and waits until it is done.
func (a *agent) order(ctx context.Context, command, id, more string) error {
	done := make(chan string, 8)
	a.mu.Lock()
	a.waiting[id] = done
	a.mu.Unlock()
	if _, err := fmt.Fprintf(a.in, "%s id=%s %s\n", command, id, more); err != nil {
		return fmt.Errorf("the client %s is gone: %w", a.client, err)
	}
	select {
	case line := <-done:
		if strings.HasPrefix(line, "error ") {
			return fmt.Errorf("%s %s: %s", a.client, command, line)
		}
		return nil
	case <-a.exited:
		return fmt.Errorf("the client %s has ended; see its log", a.client)
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(orderTimeout):
		return fmt.Errorf("%s has not done after %v: %s %s", a.client, orderTimeout, command, id)
	}
}

// listen directs what is reported about id to r.
func (a *agent) listen(id string, r *record) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.records[id] = r
}

// stop ends the process.
func (a *agent) stop() {
	a.in.Close()
	select {
	case <-a.exited:
	case <-time.After(orderTimeout):
		a.cmd.Process.Kill()
		<-a.exited
	}
}
