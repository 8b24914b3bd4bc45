package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// asProgram makes the test binary behave as rmq: tests that need a process of their own start it with this set.
const asProgram = "RMQ_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// process is a running rmq.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	mu     sync.Mutex
	output strings.Builder
	lines  chan string
	waited chan struct{}
}

func startProcess(t *testing.T, home string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(os.Args[0], args...), lines: make(chan string, 1024), waited: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), asProgram+"=1", "HOME="+home, "NAMESRV_ADDR=")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	go func() {
		defer close(p.waited)
		for s := bufio.NewScanner(r); s.Scan(); {
			p.mu.Lock()
			fmt.Fprintln(&p.output, s.Text())
			p.mu.Unlock()
			select {
			case p.lines <- s.Text():
			default:
			}
		}
		_ = p.cmd.Wait()
		r.Close()
	}()
	t.Cleanup(func() { p.kill() })
	return p
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.waited
}

// stop asks the process to end and returns its exit code.
func (p *process) stop() int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	return p.exitCode()
}

func (p *process) exitCode() int {
	p.t.Helper()
	select {
	case <-p.waited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(30 * time.Second):
		p.t.Fatalf("the process does not end; it printed:\n%s", p.printed())
		return -1
	}
}

func (p *process) printed() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// waitLine waits until the process prints a line with a text in it.
func (p *process) waitLine(text string) {
	p.t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		select {
		case line := <-p.lines:
			if strings.Contains(line, text) {
				return
			}
		case <-p.waited:
			p.t.Fatalf("the process ended (code %d) without printing %q; it printed:\n%s", p.cmd.ProcessState.ExitCode(), text, p.printed())
		case <-timeout:
			p.t.Fatalf("not printed in 30 s: %q; it printed:\n%s", text, p.printed())
		}
	}
}

// freePorts returns a port p such that p-2, p-1, p and p+1 were free a moment ago. It stays below the ports that the
// kernel gives to others meanwhile.
func freePorts(t *testing.T) int {
	t.Helper()
	const lowest, highest = 10_000, 32_000
	for range 100 {
		port := lowest + rand.IntN(highest-lowest)
		ok := true
		for _, p := range []int{port - 2, port - 1, port, port + 1} {
			l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(p))
			if err != nil {
				ok = false
				break
			}
			l.Close()
		}
		if ok {
			return port
		}
	}
	t.Fatal("no free ports")
	return 0
}

// run runs a tool in this process.
func run(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var out, errs bytes.Buffer
	env := environment{stdin: strings.NewReader(stdin), stdout: &out, stderr: &errs, getenv: func(string) string { return "" }}
	began := time.Now()
	code = dispatch(ctx, env, args)
	t.Logf("rmq %s: code %d in %v", strings.Join(args, " "), code, time.Since(began).Round(time.Millisecond))
	return code, out.String(), errs.String()
}

func TestDevSendTail(t *testing.T) {
	home := t.TempDir()
	names, brokers := freePorts(t), freePorts(t)
	addr := "127.0.0.1:" + strconv.Itoa(names)
	args := []string{"dev", "--data", filepath.Join(home, "data"), "--namesrv-port", strconv.Itoa(names), "--broker-port", strconv.Itoa(brokers), "--groups", "2"}
	p := startProcess(t, home, args...)
	p.waitLine("ready in")
	if !strings.Contains(p.printed(), "broker-b") {
		t.Errorf("the second group is not shown:\n%s", p.printed())
	}

	code, out, errs := run(t, "", "send", "-n", addr, "-t", "hello", "--tag", "A", "--key", "k1", "first message")
	if code != 0 || !strings.HasPrefix(out, "SEND_OK") || !strings.Contains(out, "offset 0") {
		t.Fatalf("send: code %d\n%s%s", code, out, errs)
	}
	var lines strings.Builder
	for i := range 500 {
		fmt.Fprintf(&lines, "line %d\n", i)
	}
	if code, out, errs = run(t, lines.String(), "send", "-n", addr, "-t", "hello"); code != 0 || !strings.Contains(out, "500 messages acknowledged, 0 failed") {
		t.Fatalf("send lines: code %d\n%s%s", code, out, errs)
	}
	check := func(out string, first bool) {
		t.Helper()
		got := map[string]int{}
		for line := range strings.Lines(out) {
			got[strings.TrimSuffix(line, "\n")]++
		}
		want := 500
		if first {
			want++
		}
		if len(got) != want || got["line 499"] != 1 {
			t.Errorf("%d different bodies, want %d", len(got), want)
		}
	}
	code, out, errs = run(t, "", "tail", "-n", addr, "-t", "hello", "--from-start", "--count", "501")
	if code != 0 {
		t.Fatalf("tail: code %d\n%s", code, errs)
	}
	check(out, true)
	if code, out, _ = run(t, "", "tail", "-n", addr, "-t", "hello", "--from-start", "--count", "1", "--tag", "A"); code != 0 || out != "first message\n" {
		t.Errorf("tail of a tag: code %d %q", code, out)
	}
	// a group goes on where it stopped, across a restart of everything
	if code, _, errs = run(t, "", "tail", "-n", addr, "-t", "hello", "-g", "readers", "--from-start", "--count", "501"); code != 0 {
		t.Fatalf("tail of a group: code %d\n%s", code, errs)
	}
	if code := p.stop(); code != 0 {
		t.Fatalf("dev ended with code %d:\n%s", code, p.printed())
	}
	p = startProcess(t, home, args...)
	p.waitLine("ready in")
	if code, out, errs = run(t, "", "send", "-n", addr, "-t", "hello", "after the restart"); code != 0 {
		t.Fatalf("send: code %d\n%s%s", code, out, errs)
	}
	if code, out, errs = run(t, "", "tail", "-n", addr, "-t", "hello", "-g", "readers", "--count", "1"); code != 0 || out != "after the restart\n" {
		t.Errorf("the group went on with %q (code %d)\n%s", out, code, errs)
	}
}

func TestToolsSayWhatIsWrong(t *testing.T) {
	nobody := "127.0.0.1:" + strconv.Itoa(freePorts(t))
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"send", "-n", nobody, "-t", "T", "x"}, nobody},
		{[]string{"tail", "-n", nobody, "-t", "T"}, nobody},
		{[]string{"send", "-n", "no address", "-t", "T", "x"}, "illegal"},
		{[]string{"send", "-n", nobody, "x"}, "-t"},
		{[]string{"dev", "--groups", "0"}, "--groups"},
		{[]string{"nonsense"}, "nonsense"},
	} {
		code, out, errs := run(t, "", c.args...)
		if code == 0 || !strings.Contains(errs, c.want) || out != "" {
			t.Errorf("rmq %s: code %d, printed %q and %q; want a failure that names %q", strings.Join(c.args, " "), code, out, errs, c.want)
		}
	}
}

// brokerFile writes a classic property file.
func brokerFile(t *testing.T, dir, name string, port int, more ...string) string {
	t.Helper()
	path := filepath.Join(dir, name+".properties")
	lines := append([]string{
		"brokerClusterName = DefaultCluster", "brokerName = " + name, "brokerId = 0", "deleteWhen = 04", "fileReservedTime = 48",
		"brokerRole = ASYNC_MASTER", "flushDiskType = ASYNC_FLUSH", "brokerIP1=127.0.0.1", "listenPort=" + strconv.Itoa(port),
		"storePathRootDir=" + filepath.Join(dir, "store"), "mappedFileSizeCommitLog=1048576",
	}, more...)
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func startNames(t *testing.T, home string) (*process, string) {
	t.Helper()
	port := freePorts(t)
	file := filepath.Join(home, "namesrv.properties")
	if err := os.WriteFile(file, []byte("listenPort="+strconv.Itoa(port)+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := startProcess(t, home, "namesrv", "-c", file)
	p.waitLine("The Name Server boot success. serializeType=JSON")
	return p, "127.0.0.1:" + strconv.Itoa(port)
}

// Every acknowledged message survives kill -9, again and again, and the log files name what happened.
func TestKilledBrokerLosesNothing(t *testing.T) {
	home := t.TempDir()
	_, addr := startNames(t, home)
	port := freePorts(t)
	file := brokerFile(t, home, "broker-a", port)
	boot := fmt.Sprintf("The broker[broker-a, 127.0.0.1:%d] boot success. serializeType=JSON and name server is %s", port, addr)
	acked := 0
	for round := range 3 {
		p := startProcess(t, home, "broker", "-n", addr, "-c", file)
		p.waitLine(boot)
		in, feed := io.Pipe()
		var fed atomic.Int64
		go func() {
			for i := 0; ; i++ {
				if _, err := fmt.Fprintf(feed, "round %d message %d\n", round, i); err != nil {
					return
				}
				fed.Add(1)
			}
		}()
		var out lockedBuffer
		sent := make(chan int)
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		defer cancel()
		go func() {
			env := environment{stdin: in, stdout: &out, stderr: io.Discard, getenv: func(string) string { return "" }}
			sent <- dispatch(ctx, env, []string{"send", "-n", addr, "-t", "T"})
		}()
		for fed.Load() < 5000 { // well under way
			runtime.Gosched()
		}
		p.kill()
		feed.Close()
		<-sent
		var n, failed int
		if _, err := fmt.Sscanf(lastLine(out.String()), "%d messages acknowledged, %d failed", &n, &failed); err != nil {
			t.Fatalf("send printed %q", lastLine(out.String()))
		}
		if n < 100 {
			t.Fatalf("only %d messages acknowledged before the kill: the round proves nothing", n)
		}
		acked += n
	}
	p := startProcess(t, home, "broker", "-n", addr, "-c", file)
	p.waitLine(boot)
	code, out, errs := run(t, "", "tail", "-n", addr, "-t", "T", "--from-start", "--count", strconv.Itoa(acked))
	if code != 0 {
		t.Fatalf("of %d acknowledged messages fewer are there: code %d\n%s", acked, code, errs)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(out) {
		if seen[line] {
			t.Fatalf("twice: %s", line)
		}
		seen[line] = true
	}
	for name, want := range map[string]string{"broker.log": boot, "namesrv.log": "boot success"} {
		text, err := os.ReadFile(filepath.Join(home, "logs", "rocketmqlogs", name))
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s lacks %q (%v)", name, want, err)
		}
	}
	if code := p.stop(); code != 0 {
		t.Errorf("the broker ended with code %d:\n%s", code, p.printed())
	}
}

func lastLine(s string) string {
	s = strings.TrimSuffix(s, "\n")
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// lockedBuffer is a buffer that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestTwoBrokersOfOneDirectory(t *testing.T) {
	home := t.TempDir()
	file := brokerFile(t, home, "broker-a", freePorts(t))
	p := startProcess(t, home, "broker", "-c", file)
	p.waitLine("boot success")
	second := startProcess(t, home, "broker", "-c", file)
	if code := second.exitCode(); code != exitFailed || !strings.Contains(second.printed(), "in use by another process") {
		t.Errorf("the second broker: code %d\n%s", code, second.printed())
	}
}

func TestPortTaken(t *testing.T) {
	home := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	p := startProcess(t, home, "dev", "--data", filepath.Join(home, "data"), "--namesrv-port", port)
	if code := p.exitCode(); code == 0 || !strings.Contains(p.printed(), port) || !strings.Contains(p.printed(), "--namesrv-port") {
		t.Errorf("code %d, printed %q", code, p.printed())
	}
}

func TestCalledThroughALink(t *testing.T) {
	link := filepath.Join(t.TempDir(), "mqnamesrv")
	if err := os.Symlink(os.Args[0], link); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(link, "-h")
	cmd.Env = append(os.Environ(), asProgram+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "mqnamesrv") {
		t.Errorf("%v\n%s", err, out)
	}
}

// A damaged log is neither repaired by cutting it nor started on: the exit code says so and the directory stays as it was.
func TestDamagedLogIsRefused(t *testing.T) {
	home := t.TempDir()
	_, addr := startNames(t, home)
	file := brokerFile(t, home, "broker-a", freePorts(t))
	p := startProcess(t, home, "broker", "-n", addr, "-c", file)
	p.waitLine("boot success")
	if code, out, errs := run(t, strings.Repeat("a message\n", 200), "send", "-n", addr, "-t", "T"); code != 0 {
		t.Fatalf("send: code %d\n%s%s", code, out, errs)
	}
	if code := p.stop(); code != 0 {
		t.Fatalf("the broker ended with code %d:\n%s", code, p.printed())
	}
	segment := filepath.Join(home, "store", "broker-a-0", "log", strings.Repeat("0", 20))
	data, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	data[bytes.Index(data, []byte("a message"))] ^= 1
	if err := os.WriteFile(segment, data, 0o644); err != nil {
		t.Fatal(err)
	}
	p = startProcess(t, home, "broker", "-n", addr, "-c", file)
	if code := p.exitCode(); code != 72 || !strings.Contains(p.printed(), "STORE_CORRUPT_UNREPAIRABLE") {
		t.Errorf("code %d, printed:\n%s", code, p.printed())
	}
	if now, err := os.ReadFile(segment); err != nil || !bytes.Equal(now, data) {
		t.Errorf("the damaged segment was changed (%v)", err)
	}
}
