package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"
)

// ModesCommand is "rmq bench modes": it puts the same load on one node and on replicated groups in each mode of
// replication and flushing, in turn, and reports rates and the CPU time per message of all brokers together. Flags in
// args, the result on stdout, progress and complaints on stderr. It returns the process's exit code, see [Command].
func ModesCommand(args []string, stdout, stderr io.Writer) int {
	var o modesOptions
	flags := newFlagSet("modes", "Compares one node with replicated groups in every mode, all on this machine.", stderr)
	o.register(flags)
	if code, ok := parseFlags(flags, args, o.validate, stdout, stderr); !ok {
		return code
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	report, err := measureModes(ctx, o, stderr)
	if err == nil {
		err = report.write(stdout, o.output)
	}
	if err != nil {
		fmt.Fprintf(stderr, "rmq bench modes: %v\n", err)
		return exitFailure
	}
	return exitOK
}

type modesOptions struct {
	program     string
	replicas    int
	rounds      int
	connections int
	concurrency int
	warmup      time.Duration
	duration    time.Duration
	output      string
}

func (o *modesOptions) register(f *pflag.FlagSet) {
	f.StringVar(&o.program, "rmq", "", "`executable` to measure; default: this one")
	f.IntVar(&o.replicas, "replicas", 3, "replicas of the replicated groups")
	f.IntVar(&o.rounds, "rounds", 3, "how often each mode is started and measured, in turn")
	f.IntVar(&o.connections, "connections", 16, "connections of the load")
	f.IntVar(&o.concurrency, "concurrency", 64, "requests in flight per connection")
	f.DurationVar(&o.warmup, "warmup", 3*time.Second, "load before each measurement")
	f.DurationVar(&o.duration, "duration", 10*time.Second, "how long to measure")
	f.StringVarP(&o.output, "output", "o", outputText, "result as text or json")
}

func (o *modesOptions) validate() error {
	switch {
	case o.replicas < 3 || o.replicas > 7:
		return fmt.Errorf("--replicas %d: want 3 to 7", o.replicas)
	case o.rounds < 1 || o.connections < 1 || o.concurrency < 1:
		return errors.New("--rounds, --connections and --concurrency: want 1 or more")
	case o.duration <= 0 || o.warmup < 0:
		return errors.New("--duration and --warmup: want more than 0")
	case o.output != outputText && o.output != outputJSON:
		return fmt.Errorf("--output %q: want %s or %s", o.output, outputText, outputJSON)
	}
	return nil
}

// mode is one way to keep messages.
type mode struct {
	Name     string   `json:"name"`
	Replicas int      `json:"replicas"`
	Settings []string `json:"settings"`
}

// modes lists what is compared; the first is what the others are related to.
func modes(replicas int) []mode {
	one := func(flush string) mode {
		return mode{"one node, " + flush, 1, []string{"flushDiskType=" + flush}}
	}
	many := func(role, flush string) mode {
		return mode{fmt.Sprintf("%d replicas, %s, %s", replicas, role, flush), replicas, []string{"brokerRole=" + role, "flushDiskType=" + flush}}
	}
	return []mode{
		one(asyncFlush), many("ASYNC_MASTER", asyncFlush), many("SYNC_MASTER", asyncFlush),
		one(syncFlush), many("ASYNC_MASTER", syncFlush), many("SYNC_MASTER", syncFlush),
	}
}

// ModeSample is one measurement. Latencies are in milliseconds, CPU seconds those of all brokers together per million
// acknowledged messages.
type ModeSample struct {
	Mode     string  `json:"mode"`
	Round    int     `json:"round"`
	MsgsPerS float64 `json:"msgs_per_s"`
	P50      float64 `json:"p50"`
	P99      float64 `json:"p99"`
	Failed   int64   `json:"failed_messages"`
	CPU      float64 `json:"brokers_cpu_s_per_million"`
	// PerCore is messages per second of CPU time that all brokers together used.
	PerCore float64 `json:"msgs_per_cpu_s"`
}

// ModesReport is the outcome of "rmq bench modes".
type ModesReport struct {
	StartedAt time.Time    `json:"started_at"`
	Machine   Machine      `json:"machine"`
	Load      string       `json:"load"`
	Modes     []mode       `json:"modes"`
	Samples   []ModeSample `json:"samples"`
}

func measureModes(ctx context.Context, o modesOptions, progress io.Writer) (*ModesReport, error) {
	if o.program == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		o.program = self
	}
	report := &ModesReport{
		StartedAt: time.Now().UTC(), Machine: describeMachine(), Modes: modes(o.replicas),
		Load: fmt.Sprintf("%d connections x %d in flight, %d B", o.connections, o.concurrency, failoverBody),
	}
	for round := 1; round <= o.rounds; round++ {
		for _, m := range report.Modes {
			s, err := measureMode(ctx, o, m)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", m.Name, err)
			}
			s.Round = round
			report.Samples = append(report.Samples, s)
			fmt.Fprintf(progress, "round %d, %s: %.0f msgs/s, p50 %.2f ms, p99 %.2f ms, %.0f messages per CPU second\n", round, m.Name, s.MsgsPerS, s.P50, s.P99, s.PerCore)
		}
	}
	return report, nil
}

// measureMode starts one mode in a directory of its own, measures, and removes it.
func measureMode(ctx context.Context, o modesOptions, m mode) (s ModeSample, err error) {
	dir, err := os.MkdirTemp("", "rmq-modes-")
	if err != nil {
		return s, err
	}
	defer os.RemoveAll(dir)
	g, err := startReplicas(ctx, o.program, dir, m.Replicas, m.Settings)
	if err != nil {
		return s, err
	}
	defer g.close()
	var before, after float64
	var problems []error
	cpu := func() (sum float64) {
		for _, n := range g.nodes {
			u, err := readUsage(n.PID())
			problems = append(problems, err)
			sum += u.CPUSeconds
		}
		return sum
	}
	r, err := produce(ctx, produceOptions{
		common: common{
			nameServers: strings.Join(g.cluster.NameServers(), ";"), topic: failoverTopic, group: "rmq-bench-modes", queues: failoverQueues,
			duration: o.duration, warmup: o.warmup, connections: o.connections, concurrency: o.concurrency, timeout: failoverTimeout,
		},
		mode: modeSync, size: failoverBody, batch: 1,
	}, hooks{begin: func() { before = cpu() }, end: func() { after = cpu() }}, nil)
	if err = errors.Join(append(problems, err)...); err != nil {
		return s, err
	}
	s = ModeSample{Mode: m.Name, MsgsPerS: r.MsgsPerS, P50: r.Latency.P50, P99: r.Latency.P99, Failed: r.Failed}
	if used := after - before; used > 0 && r.Messages > 0 {
		s.CPU = round(used / float64(r.Messages) * 1e6)
		s.PerCore = round(float64(r.Messages) / used)
	}
	return s, nil
}

// median of a mode's samples.
func (r *ModesReport) median(m mode, value func(ModeSample) float64) float64 {
	var all []float64
	for _, s := range r.Samples {
		if s.Mode == m.Name {
			all = append(all, value(s))
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func (r *ModesReport) write(w io.Writer, output string) error {
	if output == outputJSON {
		b, err := json.MarshalIndent(r, "", "  ")
		if err == nil {
			_, err = w.Write(append(b, '\n'))
		}
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s; medians; relative to the first line\n", r.Load)
	fmt.Fprintf(&b, "%-42s %9s %6s %8s %8s %14s %6s\n", "mode", "msgs/s", "", "p50 ms", "p99 ms", "msgs per CPU s", "")
	rate := func(s ModeSample) float64 { return s.MsgsPerS }
	core := func(s ModeSample) float64 { return s.PerCore }
	for _, m := range r.Modes {
		fmt.Fprintf(&b, "%-42s %9.0f %6.2f %8.2f %8.2f %14.0f %6.2f\n", m.Name, r.median(m, rate), r.median(m, rate)/r.median(r.Modes[0], rate),
			r.median(m, func(s ModeSample) float64 { return s.P50 }), r.median(m, func(s ModeSample) float64 { return s.P99 }),
			r.median(m, core), r.median(m, core)/r.median(r.Modes[0], core))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
