package bench

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// process is a server that a comparison started. It is ended by its own pid, never by name.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string        // file that has its output
	done chan struct{} // closed when it has ended
	err  error         // how it ended; read after done
}

// startProcess starts program with args in dir, which is also its home directory; what it prints goes to the file log.
func startProcess(name, dir, log, program string, args ...string) (*process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the child keeps its own descriptor
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	cmd.Env = serverEnvironment(os.Environ(), dir)
	// An own process group: an interrupt typed at the terminal reaches the comparison, which ends its servers in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("bench: start %s: %w", name, err)
	}
	p := &process{name: name, cmd: cmd, log: log, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = cmd.Wait()
	}()
	return p, nil
}

// serverEnvironment is the environment for a server: that of this process without what would point the server at another
// cluster or installation.
func serverEnvironment(environ []string, home string) []string {
	foreign := []string{"HOME=", "NAMESRV_ADDR=", "ROCKETMQ_HOME=", "JAVA_OPT=", "JAVA_TOOL_OPTIONS=", "_JAVA_OPTIONS=", "GOGC=", "GOMEMLIMIT=", "GOMAXPROCS="}
	own := slices.DeleteFunc(slices.Clone(environ), func(v string) bool {
		return slices.ContainsFunc(foreign, func(name string) bool { return strings.HasPrefix(v, name) })
	})
	return append(own, "HOME="+home)
}

// ended reports whether the process is gone, and says so as an error that names its log.
func (p *process) ended() error {
	select {
	case <-p.done:
		return fmt.Errorf("bench: %s ended early (%v), see %s", p.name, p.err, p.log)
	default:
		return nil
	}
}

func (p *process) usage() (processUsage, error) { return readUsage(p.cmd.Process.Pid) }

// stop asks the process to end, kills it when it has not ended within grace, and waits until it is gone.
func (p *process) stop(grace time.Duration) error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.done
	return fmt.Errorf("bench: %s did not end within %v of being asked and was killed, see %s", p.name, grace, p.log)
}
