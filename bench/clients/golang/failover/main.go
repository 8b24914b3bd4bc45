// Command failover runs stock clients, Java and Go, against rmq clusters whose leaders are killed, stopped, restarted and frozen meanwhile.
//
// It prints one line of JSON per scenario with what each client saw: failed sends, the longest gap, what came twice. Exit status 0: no
// acknowledged message was lost or moved, ordered ones stayed in order, no progress went back, no send failed where none may, and no server
// crashed. Everything it starts it ends, by process id, also on SIGINT and SIGTERM. Logs and data of a suite that failed are kept and named.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"rmq/bench/clients/golang/harness"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == agentCommand {
		if err := obey(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "failover:", err)
		stop()
		os.Exit(1)
	}
}

const (
	agentCommand = "agent" // makes this program the Go client
	goClient     = "go-2.1.2"
	goPollMs     = 30_000 // fixed in the client
)

type options struct {
	clients   string // directory that holds java/ and golang/
	rmq       string
	suites    *regexp.Regexp
	scenarios *regexp.Regexp
	only      *regexp.Regexp // of the clients
	pollMs    int
	ports     *harness.Ports // of all suites
	parallel  int
	keep      bool
	timeout   time.Duration
}

func parse(args []string) (options, error) {
	o := options{ports: new(harness.Ports)}
	fs := flag.NewFlagSet("failover", flag.ContinueOnError)
	fs.StringVar(&o.clients, "clients", ".", "directory with java/ and golang/")
	fs.StringVar(&o.rmq, "rmq", "../../bin/rmq", "the rmq binary")
	suites := fs.String("suites", ".*", "regular expression of suites to run")
	scenarios := fs.String("scenarios", ".*", "regular expression of scenarios to run")
	only := fs.String("only", ".*", "regular expression of clients to run, such as 'java-.*'")
	poll := fs.Duration("poll", time.Second, "how often the Java clients ask for routes (they are delivered with 30s, which Go clients cannot change)")
	fs.IntVar(&o.parallel, "parallel", 2, "suites that run at a time")
	fs.BoolVar(&o.keep, "keep", false, "keep logs and data of suites that pass, too")
	fs.DurationVar(&o.timeout, "timeout", 10*time.Minute, "limit for all")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	o.pollMs = int(poll.Milliseconds())
	var err error
	if o.suites, err = regexp.Compile("^(?:" + *suites + ")$"); err != nil {
		return o, err
	}
	if o.scenarios, err = regexp.Compile("^(?:" + *scenarios + ")$"); err != nil {
		return o, err
	}
	if o.only, err = regexp.Compile("^(?:" + *only + ")$"); err != nil {
		return o, err
	}
	for _, p := range []*string{&o.clients, &o.rmq} {
		if *p, err = filepath.Abs(*p); err != nil {
			return o, err
		}
	}
	if _, err := os.Stat(o.rmq); err != nil {
		return o, fmt.Errorf("no rmq binary to test (make build makes it): %w", err)
	}
	return o, nil
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("not done after %v", o.timeout))
	defer cancel()
	base, err := os.MkdirTemp("", "rmq-failover-")
	if err != nil {
		return err
	}
	failed, err := runSuites(ctx, o, base)
	if err == nil && len(failed) == 0 && !o.keep {
		return os.RemoveAll(base)
	}
	fmt.Println("logs and data:", base)
	if len(failed) > 0 {
		err = errors.Join(err, fmt.Errorf("failed: %s", strings.Join(failed, ", ")))
	}
	return err
}

// runSuites runs the suites that o names and returns the names of the scenarios that failed.
func runSuites(ctx context.Context, o options, base string) (failed []string, err error) {
	agents, err := startAgents(o, base)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, a := range agents {
			a.stop()
		}
	}()
	var (
		mu     sync.Mutex
		ran    int
		tasks  sync.WaitGroup
		places = make(chan struct{}, o.parallel)
	)
	report := func(name string, problems []string) {
		mu.Lock()
		defer mu.Unlock()
		ran++
		if len(problems) > 0 {
			failed = append(failed, name)
		}
		for _, p := range problems {
			fmt.Printf("FAIL %s %s\n", name, strings.ReplaceAll(p, "\n", "\n    "))
		}
	}
	for _, s := range allSuites() {
		if s.scenarios = wanted(s.scenarios, o.scenarios); !o.suites.MatchString(s.name) || len(s.scenarios) == 0 {
			continue
		}
		places <- struct{}{}
		tasks.Go(func() {
			defer func() { <-places }()
			start := time.Now()
			if err := s.run(ctx, o, filepath.Join(base, s.name), agents, report); err != nil {
				report(s.name, []string{err.Error()})
			}
			fmt.Printf("== %s: %.1f s\n", s.name, time.Since(start).Seconds())
		})
	}
	tasks.Wait()
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case ran == 0:
		err = fmt.Errorf("no suite matches %s and %s", o.suites, o.scenarios)
	}
	return failed, err
}

// startAgents starts one process per client.
func startAgents(o options, dir string) (map[string]*agent, error) {
	if err := harness.WriteJavaHome(o.clients, dir); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	agents := make(map[string]*agent)
	start := func(client string, pollMs int, argv []string) {
		if err == nil {
			agents[client], err = startAgent(client, pollMs, dir, argv)
		}
	}
	start(goClient, goPollMs, []string{self, agentCommand})
	for _, version := range []string{"4.9.8", "5.3.3"} {
		start("java-"+version, o.pollMs, harness.ClientCommand(o.clients, version, "Agent", dir, nil, nil))
	}
	return agents, err
}
