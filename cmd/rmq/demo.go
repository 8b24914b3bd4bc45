package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"rmq/compat/admin"
)

const demoUsage = `rmq demo [--nodes 3] [--json]
Starts a cluster of processes in a temporary directory, sends and receives, kills the leader (kill -9), and tells when
who took over and whether an acknowledged message is missing. Takes about 6 s and leaves nothing behind. Exit code 0 means that
nothing was lost.`

const (
	// demoBefore and demoAfter are how long messages flow before the kill, and after the first acknowledgement that follows.
	demoBefore = 2 * time.Second
	demoAfter  = 2 * time.Second
	// demoOutageMax is how long the demo waits for the cluster to go on.
	demoOutageMax = 15 * time.Second
	// demoDrainMax is how long the consumer may take to read what is left.
	demoDrainMax = 10 * time.Second
	// demoWatch is how often the survivors and the name server are asked who leads.
	demoWatch = 2 * time.Millisecond
	// demoWatchTimeout bounds one such question.
	demoWatchTimeout = 3 * time.Second
	// exitInterrupted is the shells' code for the end by Ctrl-C.
	exitInterrupted = 130
)

// runDemo is `rmq demo`.
func runDemo(ctx context.Context, env environment, args []string) error {
	o := devDefaults()
	f := pflag.NewFlagSet("demo", pflag.ContinueOnError)
	f.IntVar(&o.nodes, "nodes", 3, "number of nodes")
	asJSON := f.Bool("json", false, "print one JSON object, times in milliseconds since the kill")
	if asked, err := parseFlags(f, env, demoUsage, args); asked || err != nil {
		return err
	}
	err := o.check()
	switch {
	case f.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", f.Arg(0))
	case err == nil && o.nodes < 2:
		err = errors.New("--nodes must be at least 2: nobody takes over from a single node")
	}
	if err != nil {
		return &exitError{exitUsage, err}
	}
	d := &demo{options: o, out: &lineWriter{out: env.stdout}, logger: slog.New(slog.NewTextHandler(env.stderr, &slog.HandlerOptions{Level: slog.LevelError}))}
	if *asJSON {
		d.out = &lineWriter{out: io.Discard}
	}
	err = d.run(ctx)
	switch {
	case ctx.Err() != nil:
		return &exitError{exitInterrupted, errors.New("interrupted")}
	case *asJSON:
		return d.printJSON(env.stdout, err)
	case err != nil:
		return &exitError{exitUsage, err}
	}
	return quiet(d.report.exitCode())
}

// demoReport is what --json prints. Times are milliseconds since the kill; null means that it did not happen.
type demoReport struct {
	Client       string    `json:"client"`
	Nodes        int       `json:"nodes"`
	KilledNode   int       `json:"killedNode"`
	KilledPid    int       `json:"killedPid"`
	KilledTerm   int64     `json:"killedTerm"`
	Leader       *int      `json:"leader"` // node that took over
	LeaderTerm   int64     `json:"leaderTerm"`
	LastAckMs    *float64  `json:"lastAckMs"`
	ElectedMs    *float64  `json:"electedMs"`
	FirstAckMs   *float64  `json:"firstAckMs"`
	RouteMs      *float64  `json:"routeMs"`
	GapMs        *float64  `json:"gapMs"` // between last and first acknowledgement
	Acknowledged int       `json:"acknowledged"`
	Alone        int       `json:"acknowledgedAlone"` // of these, by one data replica only
	Failed       int       `json:"failedAttempts"`
	Consumed     int       `json:"consumed"`
	Lost         int       `json:"lost"`
	Duplicated   int       `json:"duplicated"`
	Error        *demoFail `json:"error,omitempty"`
}

type demoFail struct {
	Message string `json:"message"`
}

// exitCode is 0 if the demo has shown what it promises.
func (r demoReport) exitCode() int {
	if r.Error == nil && r.Lost == 0 && r.Acknowledged > 0 && r.FirstAckMs != nil {
		return 0
	}
	return exitUsage
}

// demo is one run.
type demo struct {
	options devOptions
	out     *lineWriter
	logger  *slog.Logger
	report  demoReport
}

// printJSON prints the report; failure is why the demo has not come to its end.
func (d *demo) printJSON(w io.Writer, failure error) error {
	if failure != nil {
		d.report.Error = &demoFail{failure.Error()}
	}
	text, err := json.Marshal(d.report)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s\n", text)
	return quiet(d.report.exitCode())
}

func (d *demo) run(ctx context.Context) (err error) {
	d.report.Client, d.report.Nodes = demoClient, d.options.nodes
	d.options.data, err = os.MkdirTemp("", "rmq-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(d.options.data)) }()
	third := ""
	if d.options.nodes == 2 {
		third = ", and an arbiter as third vote"
	}
	d.out.printf("rmq %s  demo: %d nodes, each a process, with a replica of one broker group%s; data in %s until the end", version, d.options.nodes, third, d.options.data)
	names, nodes, err := d.startCluster(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, nodes.stop(), names.close()) }()
	return d.show(ctx, nodes)
}

// demoPortTries is how often other ports are tried when some are taken.
const demoPortTries = 20

// startCluster starts name server and nodes on ports that are free.
func (d *demo) startCluster(ctx context.Context) (names *nameServer, nodes *devProcesses, err error) {
	// Below the ports that the kernel gives to connections.
	const lowest, highest = 10_000, 30_000
	for range demoPortTries {
		d.options.namesrvPort = lowest + rand.IntN(highest-lowest)
		d.options.brokerPort = d.options.namesrvPort + devGroupStep
		if err = checkPortsFree(d.options); err != nil {
			continue
		}
		if names, err = startDevNames(d.options, d.logger); err == nil {
			break
		}
	}
	if err != nil {
		return nil, nil, err
	}
	// The end of a node is the demo's own doing.
	nodes, err = startDevProcesses(ctx, d.options, &lineWriter{out: io.Discard})
	if err != nil {
		return nil, nil, errors.Join(err, names.close())
	}
	return names, nodes, nil
}

// show lets messages flow, kills the leader and tells what happened.
func (d *demo) show(ctx context.Context, nodes *devProcesses) error {
	cluster := admin.NewCluster([]string{d.options.namesrvAddr()}, clientTimeout)
	defer cluster.Close()
	leader := awaitDevCluster(ctx, cluster, d.options)[devGroupName(0)]
	killed, ok := d.options.nodeNumber(leader)
	if !ok {
		return fmt.Errorf("the group has no leader %v after its start", devClusterWait)
	}
	for _, n := range nodes.nodes {
		role := "follower"
		if n.number == killed {
			role = "leader"
		}
		d.out.printf("  node %d  pid %-7d  %s  %s", n.number, n.pid(), d.options.address(n.number, 0), role)
	}
	route, err := findDemoRoute(ctx, cluster)
	if err != nil {
		return err
	}
	d.out.printf("A producer sends numbered messages, a consumer reads them, for %v; then the leader is killed.", demoBefore)

	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer running.Wait()
	defer cancel()
	producer := &demoProducer{route: route, first: map[string]demoAck{}, last: map[string]demoAck{}}
	consumer := &demoConsumer{route: route, seen: map[int]int{}}
	stop, sent := make(chan struct{}), make(chan struct{})
	running.Go(func() { route.poll(ctx) })
	running.Go(func() { consumer.run(ctx) })
	running.Go(func() { defer close(sent); producer.run(ctx, stop) })
	if !sleep(ctx, demoBefore) {
		return nil
	}
	if producer.ackedUpTo() == 0 {
		return errors.New("no message was acknowledged before the kill")
	}
	d.report.KilledNode, d.report.KilledPid = killed, nodes.nodes[killed].pid()
	d.report.KilledTerm, _ = raftTermOf(ctx, cluster, leader)

	at := time.Now()
	if err := nodes.nodes[killed].kill(); err != nil {
		return err
	}
	d.watch(ctx, cluster, producer, at, leader)
	if !sleep(ctx, demoAfter) {
		return nil
	}
	close(stop)
	select {
	case <-sent:
	case <-ctx.Done():
		return nil
	case <-time.After(demoDrainMax): // what is still in hand has no acknowledgement
	}
	acked := producer.ackedUpTo()
	for deadline := time.Now().Add(demoDrainMax); ; {
		_, lost, _ := consumer.tally(acked)
		if lost == 0 || time.Now().After(deadline) || !sleep(ctx, demoRetry) {
			break
		}
	}
	if !sleep(ctx, demoSuspend/4) { // a duplicate may follow the last message that was waited for
		return nil
	}
	d.sum(producer, consumer)
	return nil
}

// demoEvent is a line of the timeline.
type demoEvent struct {
	at   time.Duration // since the kill
	text string
}

// watch follows what happens after the kill until the producer gets on, the route has changed and the leader is known, or
// demoOutageMax is over.
func (d *demo) watch(ctx context.Context, cluster *admin.Cluster, producer *demoProducer, killedAt time.Time, old string) {
	r := &d.report
	events := []demoEvent{{0, fmt.Sprintf("kill -9 %d: %s, the leader of term %d, is dead", r.KilledPid, d.options.nodeAt(old), r.KilledTerm)}}
	ctx, cancel := context.WithTimeout(ctx, demoOutageMax)
	defer cancel()
	var (
		watchers  sync.WaitGroup
		elected   *demoEvent
		published *demoEvent
	)
	watchers.Go(func() { elected = d.watchElection(ctx, killedAt, old) })
	watchers.Go(func() { published = d.watchRoute(ctx, killedAt, old) })
	first, ok := producer.firstElsewhere(old)
	for !ok && sleep(ctx, demoWatch) {
		first, ok = producer.firstElsewhere(old)
	}
	watchers.Wait()
	if last, ok := producer.lastOf(old); ok {
		r.LastAckMs = millis(last.at.Sub(killedAt))
		events = append(events, demoEvent{last.at.Sub(killedAt), fmt.Sprintf("last acknowledgement of the old leader: message %d", last.number)})
		if !first.at.IsZero() {
			r.GapMs = millis(first.at.Sub(last.at))
		}
	}
	if elected != nil {
		if published != nil {
			elected.at = min(elected.at, published.at) // both are seen by asking, the one before the other
		}
		r.ElectedMs = millis(elected.at)
		events = append(events, *elected)
	}
	if published != nil {
		r.RouteMs = millis(published.at)
		events = append(events, *published)
	}
	if ok {
		r.FirstAckMs = millis(first.at.Sub(killedAt))
		events = append(events, demoEvent{first.at.Sub(killedAt), fmt.Sprintf("first acknowledgement of the new leader: message %d, attempt %d", first.number, first.attempt)})
	}
	slices.SortStableFunc(events, func(a, b demoEvent) int { return cmp.Compare(a.at, b.at) })
	for _, e := range events {
		d.out.printf("  %+7.3f s  %s", e.at.Seconds(), e.text)
	}
}

func millis(d time.Duration) *float64 {
	ms := float64(d.Microseconds()) / 1000
	return &ms
}

// watchElection asks the survivors until one of them leads; nil when ctx ends first.
func (d *demo) watchElection(ctx context.Context, killedAt time.Time, old string) *demoEvent {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cluster := admin.NewCluster(nil, demoWatchTimeout)
	defer cluster.Close()
	type found struct {
		node int
		term int64
		at   time.Time
	}
	leaders := make(chan found, d.options.nodes)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	for j := range d.options.nodes {
		address := d.options.address(j, 0)
		if address == old {
			continue
		}
		asking.Go(func() {
			for {
				if term, leads := raftTermOf(ctx, cluster, address); leads {
					leaders <- found{j, term, time.Now()}
					return
				}
				if !sleep(ctx, demoWatch) {
					return
				}
			}
		})
	}
	select {
	case l := <-leaders:
		d.report.Leader, d.report.LeaderTerm = &l.node, l.term
		return &demoEvent{l.at.Sub(killedAt), fmt.Sprintf("%s is elected, term %d", d.options.nodeAt(d.options.address(l.node, 0)), l.term)}
	case <-ctx.Done():
		return nil
	}
}

// raftTermOf asks a replica for its term and whether it leads.
func raftTermOf(ctx context.Context, cluster *admin.Cluster, address string) (term int64, leads bool) {
	info, err := runtimeInfoOf(ctx, cluster, address)
	if err != nil {
		return 0, false
	}
	term, err = strconv.ParseInt(info["raftTerm"], 10, 64)
	return term, err == nil && info["raftRole"] == "Leader"
}

// watchRoute asks the name server until it shows another master; nil when ctx ends first.
func (d *demo) watchRoute(ctx context.Context, killedAt time.Time, old string) *demoEvent {
	cluster := admin.NewCluster([]string{d.options.namesrvAddr()}, demoWatchTimeout)
	defer cluster.Close()
	for {
		masters, err := cluster.Masters(ctx)
		if address := masters[devGroupName(0)]; err == nil && address != "" && address != old {
			return &demoEvent{time.Since(killedAt), fmt.Sprintf("the name server shows %s as master", d.options.nodeAt(address))}
		}
		if !sleep(ctx, demoWatch) {
			return nil
		}
	}
}

// sum counts, and prints the outcome.
func (d *demo) sum(producer *demoProducer, consumer *demoConsumer) {
	r := &d.report
	producer.mu.Lock()
	r.Acknowledged, r.Alone, r.Failed = producer.acked, producer.alone, producer.failed
	producer.mu.Unlock()
	r.Consumed, r.Lost, r.Duplicated = consumer.tally(r.Acknowledged)
	d.out.printf("messages acknowledged %d   consumed %d   lost %d   duplicated %d", r.Acknowledged, r.Consumed, r.Lost, r.Duplicated)
	if r.Alone > 0 {
		d.out.printf("%d of them as SLAVE_NOT_AVAILABLE: stored, but on the one data node that was left", r.Alone)
	}
	switch {
	case r.FirstAckMs == nil:
		d.out.printf("the cluster did not go on within %v", demoOutageMax)
	case r.GapMs != nil:
		d.out.printf("producer without an acknowledgement for %.0f ms, %d attempts failed", *r.GapMs, r.Failed)
	}
	d.out.printf("Client: %s.", demoClient)
	d.out.printf("Stock clients ask for it every 30 s: have several groups, for their retry goes to another one at once.")
}
