// Command interop runs the client conformance suites, each against a freshly started name server and broker, and prints a table.
//
// Exit status 0: every case of every suite passed and the servers stayed up and stopped when asked. Everything it starts it ends, by
// process id, also on SIGINT and SIGTERM. Logs and data of a suite that failed are kept and named.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		stop()
		os.Exit(1)
	}
}

type options struct {
	clients  string // directory that holds java/ and golang/
	rmq      string
	target   string // "rmq" or "apache"
	suites   *regexp.Regexp
	messages int
	keep     bool
	timeout  time.Duration
}

func parse(args []string) (options, error) {
	var o options
	fs := flag.NewFlagSet("interop", flag.ContinueOnError)
	fs.StringVar(&o.clients, "clients", ".", "directory with java/ and golang/")
	fs.StringVar(&o.rmq, "rmq", "../../bin/rmq", "the rmq binary")
	fs.StringVar(&o.target, "target", "rmq", "what to test: rmq, or apache to validate the suites")
	suites := fs.String("suites", ".*", "regular expression of suites to run")
	fs.IntVar(&o.messages, "messages", 100_000, "messages each way in the load cases")
	fs.BoolVar(&o.keep, "keep", false, "keep logs and data of suites that pass, too")
	fs.DurationVar(&o.timeout, "timeout", 3*time.Minute, "limit for one suite")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	var err error
	if o.suites, err = regexp.Compile("^(?:" + *suites + ")$"); err != nil {
		return o, err
	}
	for _, p := range []*string{&o.clients, &o.rmq} {
		if *p, err = filepath.Abs(*p); err != nil {
			return o, err
		}
	}
	switch o.target {
	case "apache":
	case "rmq":
		if _, err := os.Stat(o.rmq); err != nil {
			return o, fmt.Errorf("no rmq binary to test (make build makes it): %w", err)
		}
	default:
		return o, fmt.Errorf("target %q: want rmq or apache", o.target)
	}
	return o, nil
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	suites, err := allSuites(ctx, o)
	if err != nil {
		return err
	}
	base, err := os.MkdirTemp("", "rmq-interop-")
	if err != nil {
		return err
	}
	var reports []report
	for _, s := range suites {
		if !o.suites.MatchString(s.name) {
			continue
		}
		if ctx.Err() != nil {
			break
		}
		fmt.Printf("== %s\n", s.name)
		r := runSuite(ctx, o, s, filepath.Join(base, s.name))
		r.print()
		reports = append(reports, r)
	}
	failed := summarize(reports)
	if len(failed) == 0 && !o.keep {
		os.RemoveAll(base)
	} else {
		fmt.Println("logs and data:", base)
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted after %d suites", len(reports))
	case len(reports) == 0:
		return fmt.Errorf("no suite matches %s", o.suites)
	case len(failed) > 0:
		return fmt.Errorf("failed: %s", strings.Join(failed, ", "))
	}
	return nil
}

// runSuite runs s on servers of its own, below dir, and reports whatever went wrong; a suite that passed leaves no data behind.
func runSuite(ctx context.Context, o options, s suite, dir string) report {
	r := report{suite: s.name}
	start := time.Now()
	defer func() { r.took = time.Since(start) }()
	servers, err := startServers(ctx, o, s.server, dir)
	if err != nil {
		r.problem(err)
		return r
	}
	suiteCtx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	r.cases(runClient(suiteCtx, s, servers, filepath.Join(dir, "suite.log")))
	r.brokerPeakMiB = servers.broker.PeakMiB()
	r.problem(servers.stop())
	r.took = time.Since(start)
	if r.ok() && !o.keep {
		os.RemoveAll(dir)
	}
	return r
}
