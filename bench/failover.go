package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"rmq/bench/cluster"
)

// FailoverCommand is "rmq bench failover": it starts a group of replicas on this machine, kills its leader again and
// again, with and without load, and measures how long the group stays without an answer. Flags in args, the result on
// stdout, progress and complaints on stderr. It returns the process's exit code, see [Command].
func FailoverCommand(args []string, stdout, stderr io.Writer) int {
	var o failoverOptions
	flags := newFlagSet("failover", "Starts one replicated group on this machine and takes its leader away again and again.", stderr)
	o.register(flags)
	if code, ok := parseFlags(flags, args, o.validate, stdout, stderr); !ok {
		return code
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	report, err := measureFailover(ctx, o, stderr)
	if err == nil {
		err = report.write(stdout, o.output)
	}
	if err != nil {
		fmt.Fprintf(stderr, "rmq bench failover: %v\n", err)
		return exitFailure
	}
	return exitOK
}

type failoverOptions struct {
	program   string
	replicas  int
	kills     int
	transfers int
	load      float64
	settings  []string
	output    string
}

func (o *failoverOptions) register(f *pflag.FlagSet) {
	f.StringVar(&o.program, "rmq", "", "`executable` to measure; default: this one")
	f.IntVar(&o.replicas, "replicas", 3, "replicas of the group")
	f.IntVar(&o.kills, "kills", 50, "leaders to kill without load, and again under load")
	f.IntVar(&o.transfers, "transfers", 20, "leaders to stop in order")
	f.Float64Var(&o.load, "load", 0.9, "load of the second half, as a part of what the group takes at most")
	f.StringArrayVar(&o.settings, "set", nil, "`key=value` for the brokers' property files, may be repeated")
	f.StringVarP(&o.output, "output", "o", outputText, "result as text or json")
}

func (o *failoverOptions) validate() error {
	switch {
	case o.replicas < 3 || o.replicas > 7:
		return fmt.Errorf("--replicas %d: want 3 to 7", o.replicas)
	case o.kills < 0 || o.transfers < 0:
		return errors.New("--kills and --transfers must not be negative")
	case o.load < 0 || o.load > 1:
		return fmt.Errorf("--load %g: want 0 to 1", o.load)
	case o.output != outputText && o.output != outputJSON:
		return fmt.Errorf("--output %q: want %s or %s", o.output, outputText, outputJSON)
	}
	return nil
}

// FailoverReport is the outcome of "rmq bench failover".
type FailoverReport struct {
	StartedAt time.Time `json:"started_at"`
	Machine   Machine   `json:"machine"`
	Replicas  int       `json:"replicas"`
	Settings  []string  `json:"settings,omitempty"`
	MostPerS  float64   `json:"most_msgs_per_s"`  // that the group took without pause
	LoadPerS  float64   `json:"load_msgs_per_s"`  // of the loaded kills
	Idle      Outages   `json:"killed_idle"`      // kill -9 without load
	Loaded    Outages   `json:"killed_loaded"`    // kill -9 under load
	Stopped   Blips     `json:"stopped_in_order"` // SIGTERM under a light load
}

// Outages are times in milliseconds from kill -9 of the leader on.
type Outages struct {
	// FirstAck is when a surviving replica first acknowledged a message that was sent after the kill.
	FirstAck Quantiles `json:"first_ack_ms"`
	// Route is when the name server first named another leader.
	Route Quantiles `json:"route_ms"`
}

// Blips are what a client sees of leaders that stop in order.
type Blips struct {
	// Longest is, per stop, the longest time that one send took, in milliseconds.
	Longest Quantiles `json:"longest_send_ms"`
	Sends   int       `json:"sends"`
	Failed  int       `json:"failed"`
}

// Quantiles of a series.
type Quantiles struct {
	Count              int `json:"count"`
	P50, P90, P99, Max float64
}

// quantiles are by nearest rank, in milliseconds.
func quantiles(series []time.Duration) Quantiles {
	q := Quantiles{Count: len(series)}
	if len(series) == 0 {
		return q
	}
	sorted := slices.Sorted(slices.Values(series))
	at := func(part float64) float64 {
		i := int(math.Ceil(part*float64(len(sorted)))) - 1
		return round(float64(sorted[max(i, 0)]) / float64(time.Millisecond))
	}
	q.P50, q.P90, q.P99, q.Max = at(0.5), at(0.9), at(0.99), at(1)
	return q
}

// failoverTopic is what the messages of the measurement go to.
const failoverTopic = "rmq-bench-failover"

// failoverGroup is the brokerName.
const failoverGroup = "broker-a"

// wholeTimeout bounds how long a group may take to be whole again.
const wholeTimeout = time.Minute

// calibration is how long the most that the group takes is measured.
const calibration = 5 * time.Second

// measureFailover carries out the whole measurement in a directory that it removes.
func measureFailover(ctx context.Context, o failoverOptions, progress io.Writer) (*FailoverReport, error) {
	if o.program == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		o.program = self
	}
	dir, err := os.MkdirTemp("", "rmq-failover-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	g, err := startReplicas(ctx, o.program, dir, o.replicas, o.settings)
	if err != nil {
		return nil, err
	}
	defer g.close()
	report := &FailoverReport{StartedAt: time.Now().UTC(), Machine: describeMachine(), Replicas: o.replicas, Settings: o.settings}
	if report.Idle, err = g.kill(ctx, o.kills, "idle", progress); err != nil {
		return nil, err
	}
	l := g.startLoad(0)
	began := l.acked.Load()
	err = pause(ctx, calibration)
	report.MostPerS = round(float64(l.acked.Load()-began) / calibration.Seconds())
	l.stop()
	if err != nil {
		return nil, err
	}
	report.LoadPerS = round(report.MostPerS * o.load)
	l = g.startLoad(report.LoadPerS)
	report.Loaded, err = g.kill(ctx, o.kills, fmt.Sprintf("%.0f msgs/s", report.LoadPerS), progress)
	l.stop()
	if err != nil {
		return nil, err
	}
	report.Stopped, err = g.stopLeaders(ctx, o.transfers, progress)
	return report, err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// kill kills the leader so many times and starts it again each time.
func (g *replicas) kill(ctx context.Context, times int, what string, progress io.Writer) (Outages, error) {
	var acks, routes []time.Duration
	for i := range times {
		leader, err := g.settled(ctx)
		if err != nil {
			return Outages{}, err
		}
		ack, route, err := g.killLeader(ctx, leader)
		if err != nil {
			return Outages{}, fmt.Errorf("kill %d (%s): %w\n%s", i+1, what, err, g.cluster.Report())
		}
		acks, routes = append(acks, ack), append(routes, route)
		fmt.Fprintf(progress, "kill %d/%d, %s: first ack after %v, route after %v\n", i+1, times, what, ack.Round(time.Millisecond), route.Round(time.Millisecond))
		if err := g.cluster.Start(ctx, leader); err != nil {
			return Outages{}, err
		}
	}
	return Outages{quantiles(acks), quantiles(routes)}, nil
}

// outageMax bounds one outage.
const outageMax = 30 * time.Second

// killLeader kills it and returns when another replica acknowledged a message, and when the name server named another one.
func (g *replicas) killLeader(ctx context.Context, leader *cluster.Node) (ack, route time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, outageMax)
	defer cancel()
	survivor := g.nodes[0]
	if survivor == leader {
		survivor = g.nodes[1]
	}
	began := time.Now()
	leader.Kill()
	routed := make(chan time.Duration, 1)
	go func() {
		for {
			if now, err := g.client.Leader(ctx); err == nil && now != leader.Address() {
				routed <- time.Since(began)
				return
			}
			if pause(ctx, time.Millisecond) != nil {
				routed <- -1
				return
			}
		}
	}()
	for {
		if err = g.send(ctx, survivor.Address(), nil); err == nil {
			ack = time.Since(began)
			break
		}
		if pause(ctx, time.Millisecond) != nil {
			break
		}
	}
	route = <-routed
	if err == nil && route < 0 {
		err = errors.New("the name server names no other leader")
	}
	return ack, route, err
}

// stopPace is the pause between the sends while a leader stops in order.
const stopPace = 2 * time.Millisecond

// stopLeaders stops the leader in order so many times, and starts it again, while one client sends.
func (g *replicas) stopLeaders(ctx context.Context, times int, progress io.Writer) (Blips, error) {
	var b Blips
	var longest []time.Duration
	for i := range times {
		leader, err := g.settled(ctx)
		if err != nil {
			return b, err
		}
		watch, cancel := context.WithCancel(ctx)
		var most time.Duration
		done := make(chan struct{})
		go func() {
			defer close(done)
			for watch.Err() == nil {
				began := time.Now()
				// To where the name server says now, as a client that has just asked.
				to, err := g.client.Leader(watch)
				if err == nil {
					err = g.send(watch, to, nil)
				}
				if watch.Err() != nil {
					return
				}
				b.Sends++
				if err != nil {
					b.Failed++
					fmt.Fprintf(progress, "a send to %s failed: %v\n", to, err)
				}
				most = max(most, time.Since(began))
				_ = pause(watch, stopPace)
			}
		}()
		_, err = leader.Term(ctx)
		if err == nil {
			err = g.cluster.Start(ctx, leader)
		}
		cancel()
		<-done
		if err != nil {
			return b, err
		}
		longest = append(longest, most)
		fmt.Fprintf(progress, "stop %d/%d: the longest send took %v\n", i+1, times, most.Round(time.Millisecond))
	}
	b.Longest = quantiles(longest)
	return b, nil
}

func (r *FailoverReport) write(w io.Writer, output string) error {
	if output == outputJSON {
		b, err := json.MarshalIndent(r, "", "  ")
		if err == nil {
			_, err = w.Write(append(b, '\n'))
		}
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d replicas, %s\n", r.Replicas, strings.Join(append([]string{"default settings"}, r.Settings...), ", "))
	fmt.Fprintf(&b, "milliseconds from kill -9 of the leader   count      p50      p90      p99      max\n")
	row := func(name string, q Quantiles) {
		fmt.Fprintf(&b, "%-40s %6d %8.0f %8.0f %8.0f %8.0f\n", name, q.Count, q.P50, q.P90, q.P99, q.Max)
	}
	row("first acknowledged send, idle", r.Idle.FirstAck)
	row("route names the new leader, idle", r.Idle.Route)
	row(fmt.Sprintf("first acknowledged send, %.0f msgs/s", r.LoadPerS), r.Loaded.FirstAck)
	row(fmt.Sprintf("route names the new leader, %.0f msgs/s", r.LoadPerS), r.Loaded.Route)
	row("longest send while a leader stops", r.Stopped.Longest)
	fmt.Fprintf(&b, "sends while leaders stopped: %d, failed: %d\n", r.Stopped.Sends, r.Stopped.Failed)
	_, err := io.WriteString(w, b.String())
	return err
}

// replicas is one replicated group on this machine, its members listed in the classic way.
type replicas struct {
	cluster *cluster.Cluster
	nodes   []*cluster.Node
	client  *cluster.Client
}

// startReplicas starts a name server and a group of count replicas in dir.
func startReplicas(ctx context.Context, program, dir string, count int, settings []string) (g *replicas, err error) {
	c, err := cluster.New(cluster.Options{Program: program, Dir: dir})
	if err != nil {
		return nil, err
	}
	g = &replicas{cluster: c}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	names, err := c.AddNameServer()
	if err != nil {
		return nil, err
	}
	var peers []string
	for i := range count {
		n, err := c.AddBroker(fmt.Sprintf("replica%d", i), "")
		if err != nil {
			return nil, err
		}
		g.nodes = append(g.nodes, n)
		if count > 1 {
			peers = append(peers, fmt.Sprintf("n%d-%s:%d", i, n.Host, n.Port+1))
		}
	}
	for i, n := range g.nodes {
		more := []string{"brokerClusterName=DefaultCluster", "brokerName=" + failoverGroup, "mappedFileSizeCommitLog=1073741824"}
		if count > 1 {
			more = append(more, "enableDLegerCommitLog=true", "dLegerPeers="+strings.Join(peers, ";"), fmt.Sprintf("dLegerSelfId=n%d", i))
		}
		if err := c.Configure(n, "", append(more, settings...)...); err != nil {
			return nil, err
		}
	}
	if err := c.Start(ctx, append([]*cluster.Node{names}, g.nodes...)...); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, c.Report())
	}
	g.client = cluster.NewClient(c.NameServers(), failoverGroup)
	if _, err := g.settled(ctx); err != nil {
		return nil, errors.Join(err, g.client.Close())
	}
	_, err = g.client.EnsureTopic(ctx, failoverTopic, 8, 6)
	return g, err
}

func (g *replicas) close() {
	g.client.Close()
	g.cluster.Close()
}

// settled waits until the group is whole and returns its leader.
func (g *replicas) settled(ctx context.Context) (*cluster.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, wholeTimeout)
	defer cancel()
	leader, err := g.client.Settled(ctx, g.nodes...)
	if err != nil {
		return nil, fmt.Errorf("the group is not whole: %w\n%s", err, g.cluster.Report())
	}
	return leader, nil
}
