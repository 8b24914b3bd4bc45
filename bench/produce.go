package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"rmq/compat/admin"
	"rmq/remoting/protocol"
)

// ProduceCommand is "rmq bench produce": flags in args, the result on stdout, progress and complaints on stderr. It
// returns the process's exit code, see [Command].
func ProduceCommand(args []string, stdout, stderr io.Writer) int {
	var o produceOptions
	flags := newFlagSet("produce", "Sends messages to a topic and measures.", stderr)
	o.register(flags)
	if code, ok := parseFlags(flags, args, o.validate, stdout, stderr); !ok {
		return code
	}
	return o.run(stdout, stderr, func(ctx context.Context, progress io.Writer) (*Result, error) {
		return produce(ctx, o, hooks{}, progress)
	})
}

// produce carries out one run. An error means that there is nothing to report.
func produce(ctx context.Context, o produceOptions, h hooks, progress io.Writer) (*Result, error) {
	cl := admin.NewCluster(o.addresses(), o.timeout)
	defer cl.Close()
	queues, err := cl.EnsureTopic(ctx, o.topic, o.queues, protocol.PermWrite)
	if err != nil {
		return nil, err
	}
	before, version, err := stored(ctx, cl, o.topic, queues)
	if err != nil {
		return nil, err
	}
	r := newRecorder(o.connections)
	started := time.Now()
	p := newProducer(o, queues, r, started)
	defer p.close()
	collected, usage := measure(ctx, p, r, o.common, nil, h, progress)
	result := &Result{
		Kind: kindProduce, Workload: o.workload(), StartedAt: started.UTC(), Client: usage,
		Target: Target{
			NameServers: o.addresses(), Topic: o.topic, Group: o.group,
			Queues: len(queues), Brokers: brokerNames(queues), BrokerVersion: version,
		},
	}
	result.fill(collected, o.rate > 0)
	result.Totals.Stored = -1
	// After an interrupt ctx is done, but the count is still wanted.
	if after, _, err := stored(context.WithoutCancel(ctx), cl, o.topic, queues); err == nil {
		result.Totals.Stored = after - before
	}
	return result, nil
}

// newFlagSet makes the flag set of a bench command.
func newFlagSet(name, about string, stderr io.Writer) *pflag.FlagSet {
	flags := pflag.NewFlagSet("rmq bench "+name, pflag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.SortFlags = false
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "Usage: rmq bench %s [flags]\n\n%s\n\nFlags:\n%s", name, about, flags.FlagUsages())
	}
	return flags
}

// parseFlags parses and validates. When ok is false the command is over and code is its exit code.
func parseFlags(flags *pflag.FlagSet, args []string, validate func() error, stdout, stderr io.Writer) (code int, ok bool) {
	for _, arg := range args {
		if arg == "-h" || arg == "--help" {
			flags.SetOutput(stdout)
		}
	}
	err := flags.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		return exitOK, false
	}
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if err == nil {
		err = validate()
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\nRun \"%s --help\" for the flags.\n", flags.Name(), err, flags.Name())
		return exitUsage, false
	}
	return exitOK, true
}

// run carries out a produce or consume run until it ends or the process is interrupted, and writes its result.
func (c *common) run(stdout, stderr io.Writer, run func(ctx context.Context, progress io.Writer) (*Result, error)) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	progress := stderr
	if c.quiet {
		progress = nil
	}
	result, err := run(ctx, progress)
	if err == nil {
		err = c.write(stdout, result)
	}
	if err == nil && result.Totals.Messages == 0 && result.Totals.Failed > 0 {
		err = fmt.Errorf("not one message succeeded: %v", result.Errors)
	}
	if err != nil {
		fmt.Fprintf(stderr, "rmq bench: %v\n", err)
		return exitFailure
	}
	return exitOK
}
