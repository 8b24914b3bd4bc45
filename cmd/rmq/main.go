// Command rmq is a RocketMQ-compatible message broker, name server and toolbox in one binary.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"rmq/bench"
)

// version is set by the build.
var version = "dev"

// environment is what a command sees of the process around it.
type environment struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
}

// command is one sub-command: it returns when its work is done or ctx ends, which a signal does.
type command struct {
	name, summary string
	run           func(ctx context.Context, env environment, args []string) error
}

func commands() []command {
	return []command{
		{roleNamesrv, "run a name server (mqnamesrv)", runNamesrv},
		{roleBroker, "run a broker (mqbroker)", runBroker},
		{"dev", "run a whole cluster on this machine, for development", runDev},
		{"demo", "kill the leader of a cluster and watch it go on", runDemo},
		{"send", "send messages", runSend},
		{"tail", "receive messages and print them", runTail},
		{"group", "see and change who is in a broker group, and who leads it", runGroup},
		{"bench", "measure a RocketMQ-compatible broker", runBench},
		{"version", "print the version", runVersion},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	env := environment{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv}
	args := os.Args[1:]
	if role, ok := roleFromArgv0(os.Args[0]); ok {
		args = append([]string{role}, args...)
	}
	stopPprof, err := servePprof(env.getenv(pprofVariable))
	if err != nil {
		fmt.Fprintf(env.stderr, "rmq: %v\n", err)
		os.Exit(exitFailed)
	}
	code := dispatch(ctx, env, args)
	stopPprof()
	os.Exit(code)
}

// dispatch runs the sub-command that args names and returns the exit code.
func dispatch(ctx context.Context, env environment, args []string) int {
	if len(args) == 0 {
		usage(env.stderr)
		return exitUsage
	}
	switch args[0] {
	case "-h", "-help", "--help", "help":
		usage(env.stdout)
		return 0
	case "--version":
		args = []string{"version"}
	}
	for _, c := range commands() {
		if c.name != args[0] {
			continue
		}
		err := c.run(ctx, env, args[1:])
		var quiet *quietError
		if err != nil && !errors.As(err, &quiet) {
			fmt.Fprintf(env.stderr, "rmq %s: %v\n", c.name, err)
		}
		return ExitCode(err)
	}
	fmt.Fprintf(env.stderr, "rmq: there is no command %q; rmq help lists them\n", args[0])
	return exitUsage
}

// quietError is an exit code whose reason has been printed already.
type quietError struct{ code int }

func (e *quietError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

func quiet(code int) error {
	if code == 0 {
		return nil
	}
	return &exitError{code: code, err: &quietError{code}}
}

func usage(w io.Writer) {
	fmt.Fprintf(w, "rmq %s: a RocketMQ-compatible message broker in one binary\n\nusage: rmq COMMAND [FLAGS]\n\n", version)
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-10s %s\n", c.name, c.summary)
	}
	fmt.Fprintf(w, "\nrmq COMMAND -h explains a command. Called as mqnamesrv or mqbroker, rmq is that program.\n")
}

func runVersion(_ context.Context, env environment, _ []string) error {
	_, err := fmt.Fprintf(env.stdout, "rmq %s\n", version)
	return err
}

func runBench(_ context.Context, env environment, args []string) error {
	return quiet(bench.Command(args, env.stdout, env.stderr))
}
