package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"
)

// compareOptions are the settings of a comparison.
type compareOptions struct {
	contenders []string
	scenarios  []string
	rounds     int
	duration   time.Duration
	warmup     time.Duration // of the first scenario after a broker's start
	between    time.Duration // warm-up of the scenarios after it on the same broker
	results    string
	name       string
	work       string
	cache      string
	keep       bool
	quick      bool
	rmq        string
	apache     string
	heap       string
}

func (o *compareOptions) register(f *pflag.FlagSet) {
	f.StringSliceVar(&o.contenders, "contenders", []string{"rmq", "apache"}, "what to compare: rmq, apache")
	f.StringSliceVar(&o.scenarios, "scenarios", nil, "which `names` to run, all by default: "+strings.Join(scenarioNames(), ", "))
	f.IntVar(&o.rounds, "rounds", 5, "how often each contender is started and measured, in turn")
	f.DurationVar(&o.duration, "duration", 20*time.Second, "how long to measure each scenario")
	f.DurationVar(&o.warmup, "warmup", 30*time.Second, "load before the first measurement after a start: a JVM needs 30 s at least")
	f.DurationVar(&o.between, "between", 10*time.Second, "load before each later measurement on the same broker")
	f.BoolVar(&o.quick, "quick", false, "one round of 10 s per scenario")
	f.StringVar(&o.results, "results", "", "directory for the report and the JSON file; only stdout without it")
	f.StringVar(&o.name, "name", "compare", "file name in --results, without extension")
	f.StringVar(&o.work, "work", "", "directory for the brokers' data, emptied after each start; a temporary one by default")
	f.StringVar(&o.cache, "cache", "", "directory that keeps Maven's class paths; the user's cache directory by default")
	f.BoolVar(&o.keep, "keep", false, "keep the brokers' data and logs")
	f.StringVar(&o.rmq, "rmq", "", "rmq `executable` to measure; this one by default")
	f.StringVar(&o.apache, "apache-version", "5.3.3", "release of Apache RocketMQ to measure")
	f.StringVar(&o.heap, "heap", "512m", "heap of Apache's broker")
}

func (o *compareOptions) validate() error {
	if o.quick {
		o.rounds, o.duration = 1, 10*time.Second
	}
	switch {
	case o.rounds < 1:
		return fmt.Errorf("--rounds %d: want 1 or more", o.rounds)
	case o.duration <= 0:
		return fmt.Errorf("--duration %v: want more than 0", o.duration)
	case o.warmup < 0 || o.between < 0:
		return errors.New("--warmup and --between: want 0 or more")
	case len(o.contenders) == 0:
		return errors.New("--contenders is empty")
	}
	if _, err := pickScenarios(o.scenarios); err != nil {
		return fmt.Errorf("--scenarios: %w", err)
	}
	_, err := o.build("")
	return err
}

// build makes the contenders.
func (o *compareOptions) build(cacheDir string) ([]contender, error) {
	var all []contender
	for _, name := range o.contenders {
		switch name {
		case "rmq":
			all = append(all, &rmq{program: o.rmq})
		case "apache":
			all = append(all, &apache{release: o.apache, cacheDir: cacheDir, heap: o.heap})
		default:
			return nil, fmt.Errorf("--contenders: no contender %q", name)
		}
	}
	return all, nil
}

func scenarioNames() []string {
	var names []string
	for _, s := range scenarios() {
		names = append(names, s.Name)
	}
	return names
}

// CompareCommand is "rmq bench compare": it starts each contender on this machine in turn, puts the same loads on each,
// and writes a Markdown report to stdout and, with --results, beside a JSON file. It returns the process's exit code,
// see [Command]. Whatever happens, the processes it started have ended when it returns.
func CompareCommand(args []string, stdout, stderr io.Writer) int {
	var o compareOptions
	flags := newFlagSet("compare", "Starts brokers on this machine in turn, puts the same load on each and compares.", stderr)
	o.register(flags)
	if code, ok := parseFlags(flags, args, o.validate, stdout, stderr); !ok {
		return code
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	report, err := compare(ctx, o, stderr)
	if err == nil {
		err = report.write(stdout, o.results, o.name)
	}
	if err != nil {
		fmt.Fprintf(stderr, "rmq bench compare: %v\n", err)
		return exitFailure
	}
	return exitOK
}

// compare runs all rounds. Rounds are the outer loop, so that a machine that grows slower or faster meanwhile does so for
// every contender.
func compare(ctx context.Context, o compareOptions, progress io.Writer) (*Comparison, error) {
	cache := o.cache
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return nil, err
		}
		cache = filepath.Join(dir, "rmq-bench")
	}
	contenders, err := o.build(cache)
	if err != nil {
		return nil, err
	}
	picked, err := pickScenarios(o.scenarios)
	if err != nil {
		return nil, err
	}
	report := &Comparison{
		StartedAt: time.Now().UTC(), Machine: describeMachine(), Rounds: o.rounds, Scenarios: picked,
		WarmupS: o.warmup.Seconds(), BetweenS: o.between.Seconds(), DurationS: o.duration.Seconds(),
	}
	for _, c := range contenders {
		fmt.Fprintf(progress, "preparing %s\n", c.name())
		if err := c.prepare(ctx); err != nil {
			return nil, fmt.Errorf("prepare %s: %w", c.name(), err)
		}
		report.Contenders = append(report.Contenders, ContenderInfo{Name: c.name(), Version: c.version()})
	}
	work := o.work
	if work == "" {
		if work, err = os.MkdirTemp("", "rmq-compare-"); err != nil {
			return nil, err
		}
		if !o.keep {
			defer os.RemoveAll(work)
		}
	}
	for round := 1; round <= o.rounds; round++ {
		for _, group := range byFlush(picked) {
			for _, c := range contenders {
				dir := filepath.Join(work, fmt.Sprintf("%s-%s-%d", c.name(), strings.ToLower(group[0].Flush), round))
				samples, err := o.measureGroup(ctx, c, group, dir, round, progress)
				if err != nil {
					return nil, fmt.Errorf("%s, round %d: %w", c.name(), round, err)
				}
				report.Samples = append(report.Samples, samples...)
			}
		}
	}
	report.summarize()
	return report, nil
}

// measureGroup starts a contender, runs the scenarios of one flush mode on it and ends it again.
func (o *compareOptions) measureGroup(ctx context.Context, c contender, group []scenario, dir string, round int, progress io.Writer) (samples []Sample, err error) {
	if err := settle(ctx); err != nil {
		return nil, err
	}
	d, err := deploy(ctx, c, dir, group[0].Flush)
	if err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, d.stop())
		if err == nil && !o.keep {
			err = os.RemoveAll(dir)
		}
	}()
	warmup := o.warmup
	for _, s := range group {
		fmt.Fprintf(progress, "round %d of %d: %s, %s\n", round, o.rounds, c.name(), s.Name)
		sample, err := d.measure(ctx, s.produce(d.nameServer, warmup, o.duration), progress)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
		sample.Contender, sample.Scenario, sample.Round = c.name(), s.Name, round
		samples = append(samples, sample)
		warmup = o.between
	}
	return samples, nil
}

// measure runs one load and reads what the broker used during its measurement.
func (d *deployment) measure(ctx context.Context, po produceOptions, progress io.Writer) (Sample, error) {
	var before, used processUsage
	var errBefore, errAfter error
	result, err := produce(ctx, po, hooks{
		begin: func() { before, errBefore = d.usage() },
		end: func() {
			used, errAfter = d.usage()
			used = used.minus(before)
		},
	}, progress)
	if err := errors.Join(err, ctx.Err(), errBefore, errAfter); err != nil {
		return Sample{}, err
	}
	for _, p := range d.processes {
		if err := p.ended(); err != nil {
			return Sample{}, err
		}
	}
	if result.Messages == 0 {
		return Sample{}, fmt.Errorf("not one message was acknowledged: %v", result.Errors)
	}
	return newSample(result, used), nil
}

const (
	settledBytes  = 64 << 20
	settleTimeout = 60 * time.Second
)

// settle waits until the kernel has written out most of what earlier runs left in the page cache, so that one contender's
// backlog is not charged to the next. It gives up waiting, without an error, on a machine that is never idle.
func settle(ctx context.Context) error {
	syscall.Sync()
	deadline := time.NewTimer(settleTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for dirtyBytes() > settledBytes {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			return nil
		case <-tick.C:
		}
	}
	return ctx.Err()
}
