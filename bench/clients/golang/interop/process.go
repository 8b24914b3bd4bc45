package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"
)

const (
	bootTimeout = 60 * time.Second
	stopTimeout = 20 * time.Second // of rmq; Apache, on a busy machine, takes up to a minute
	lookEach    = 20 * time.Millisecond
)

// process is a server this program started; its output goes to a file.
type process struct {
	name        string
	cmd         *exec.Cmd
	logPath     string
	stopTimeout time.Duration
	exited      chan struct{} // closed when err is set
	err         error
}

// startProcess starts argv with its working and home directory set to dir, in a process group of its own, so that a terminal's
// interrupt reaches this program only, which then stops its servers in order.
func startProcess(name, dir string, argv []string) (*process, error) {
	if err := os.MkdirAll(filepath.Join(dir, "tmp"), 0o755); err != nil {
		return nil, err
	}
	p := &process{name: name, logPath: filepath.Join(dir, name+".log"), stopTimeout: stopTimeout, exited: make(chan struct{})}
	log, err := os.Create(p.logPath)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), "HOME="+dir, "TMPDIR="+filepath.Join(dir, "tmp"), "NAMESRV_ADDR=")
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// awaitLine waits until the output holds line.
func (p *process) awaitLine(ctx context.Context, line string) error {
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	for {
		out, err := os.ReadFile(p.logPath)
		if err != nil {
			return err
		}
		if bytes.Contains(out, []byte(line)) {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%s ended before it printed %q: %v\n%s", p.name, line, p.err, tail(out))
		case <-ctx.Done():
			return fmt.Errorf("%s has not printed %q: %w\n%s", p.name, line, ctx.Err(), tail(out))
		case <-time.After(lookEach):
		}
	}
}

var crash = regexp.MustCompile(`(?m)^(panic: |fatal error: |WARNING: DATA RACE|goroutine \d+ \[).*`)

// stop asks the process to end and waits. It reports a process that had ended before, had to be killed, or left the trace of a crash.
func (p *process) stop() error {
	var errs []error
	select {
	case <-p.exited:
		errs = append(errs, fmt.Errorf("%s had ended by itself: %v", p.name, p.err))
	default:
		p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.exited:
		case <-time.After(p.stopTimeout):
			errs = append(errs, fmt.Errorf("%s did not end within %v of SIGTERM", p.name, p.stopTimeout))
			p.cmd.Process.Kill()
			<-p.exited
		}
	}
	if out, err := os.ReadFile(p.logPath); err == nil {
		if m := crash.Find(out); m != nil {
			errs = append(errs, fmt.Errorf("%s printed: %s", p.name, m))
		}
	}
	return errors.Join(errs...)
}

var peakRSS = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peakMiB is the largest resident size the running process has had so far, in MiB; 0 where /proc does not tell.
func (p *process) peakMiB() int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	m := peakRSS.FindSubmatch(status)
	if m == nil {
		return 0
	}
	kib, err := strconv.Atoi(string(m[1]))
	if err != nil {
		return 0
	}
	return kib / 1024
}

// tail returns the last lines of an output, for an error message.
func tail(out []byte) []byte {
	const lines = 15
	at := len(out)
	for range lines {
		if at = bytes.LastIndexByte(out[:max(at-1, 0)], '\n') + 1; at == 0 {
			break
		}
	}
	return out[at:]
}
