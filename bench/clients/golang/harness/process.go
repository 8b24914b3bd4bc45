// Package harness starts and ends the servers that stock clients are tested against: processes, ports, Java command lines.
package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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

// Process is a server this program started; its output goes to a file.
type Process struct {
	StopTimeout time.Duration // how long Stop waits before it kills

	name    string
	cmd     *exec.Cmd
	logPath string
	logFrom int64         // where in the file the output of this process begins
	exited  chan struct{} // closed when err is set
	err     error
}

// Start starts argv with its working and home directory set to dir, in a process group of its own, so that a terminal's
// interrupt reaches this program only, which then stops its servers in order. Output is appended to dir/name.log.
func Start(name, dir string, argv []string) (*Process, error) {
	if err := os.MkdirAll(filepath.Join(dir, "tmp"), 0o755); err != nil {
		return nil, err
	}
	p := &Process{name: name, logPath: filepath.Join(dir, name+".log"), StopTimeout: stopTimeout, exited: make(chan struct{})}
	log, err := os.OpenFile(p.logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	if p.logFrom, err = log.Seek(0, io.SeekEnd); err != nil {
		return nil, err
	}
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

// AwaitLine waits until the output holds line.
func (p *Process) AwaitLine(ctx context.Context, line string) error {
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	for {
		out, err := p.output()
		if err != nil {
			return err
		}
		if bytes.Contains(out, []byte(line)) {
			return nil
		}
		select {
		case <-p.exited:
			if last, err := p.output(); err == nil {
				out = last
			}
			return fmt.Errorf("%s ended before it printed %q: %v\n%s", p.name, line, p.err, Tail(out))
		case <-ctx.Done():
			return fmt.Errorf("%s has not printed %q: %w\n%s", p.name, line, ctx.Err(), Tail(out))
		case <-time.After(lookEach):
		}
	}
}

var crash = regexp.MustCompile(`(?m)^(panic: |fatal error: |WARNING: DATA RACE|goroutine \d+ \[).*`)

// output is what the process has printed so far.
func (p *Process) output() ([]byte, error) {
	f, err := os.Open(p.logPath)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.Seek(p.logFrom, io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(f)
}

// Running reports whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Signal sends a signal to the process.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Kill ends the process with SIGKILL and waits until it is gone. It reports the trace of an earlier crash.
func (p *Process) Kill() error {
	p.cmd.Process.Kill() // one that has ended is gone, too
	<-p.exited
	return p.crashed()
}

// Stop asks the process to end and waits. It reports a process that had ended before, had to be killed, or left the trace of a crash.
func (p *Process) Stop() error {
	if !p.Running() {
		return errors.Join(fmt.Errorf("%s had ended by itself: %v", p.name, p.err), p.crashed())
	}
	p.Signal(syscall.SIGTERM) // one that ends just now needs none
	return p.Wait()
}

// Wait is the second half of Stop, for a process that has its signal.
func (p *Process) Wait() error {
	var late error
	select {
	case <-p.exited:
	case <-time.After(p.StopTimeout):
		late = fmt.Errorf("%s did not end within %v of SIGTERM", p.name, p.StopTimeout)
		p.cmd.Process.Kill()
		<-p.exited
	}
	return errors.Join(late, p.crashed())
}

// crashed reports a trace of a crash in the output.
func (p *Process) crashed() error {
	out, err := p.output()
	if err != nil {
		return err
	}
	if m := crash.Find(out); m != nil {
		return fmt.Errorf("%s printed: %s", p.name, m)
	}
	return nil
}

var peakRSS = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// PeakMiB is the largest resident size the running process has had so far, in MiB; 0 where /proc does not tell.
func (p *Process) PeakMiB() int {
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

// Tail returns the last lines of an output, for an error message.
func Tail(out []byte) []byte {
	const lines = 15
	at := len(out)
	for range lines {
		if at = bytes.LastIndexByte(out[:max(at-1, 0)], '\n') + 1; at == 0 {
			break
		}
	}
	return out[at:]
}
