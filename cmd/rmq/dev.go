package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"rmq/compat/admin"
	"rmq/remoting/fastjson"
	"rmq/remoting/protocol"
)

const devUsage = `rmq dev [--nodes N] [--groups M] [--processes] [--data DIR] [--namesrv-port 9876] [--broker-port 10911]
A name server and a cluster of N nodes, each with a replica of M broker groups, reachable from this machine only.
Node j of group i, both from 0, answers clients at broker-port + 20 i + 100 j (and that - 2), other nodes at that + 1.
One process runs everything; with --processes every node is a process, to be killed and started again:
its pid stands in DATA/nodeJ/pid, its logs in DATA/nodeJ/log.`

// runDev is `rmq dev`: a name server and a cluster of brokers on the loopback interface.
func runDev(ctx context.Context, env environment, args []string) error {
	var o devOptions
	f := pflag.NewFlagSet("dev", pflag.ContinueOnError)
	f.StringVar(&o.data, "data", devDefaults().data, "directory that keeps everything")
	f.IntVar(&o.namesrvPort, "namesrv-port", devDefaults().namesrvPort, "port of the name server")
	f.IntVar(&o.brokerPort, "broker-port", devDefaults().brokerPort, "port of the first broker; groups follow in steps of 20, nodes of 100")
	f.IntVar(&o.nodes, "nodes", devDefaults().nodes, "number of nodes: replicas of each group")
	f.IntVar(&o.groups, "groups", devDefaults().groups, "number of broker groups")
	processes := f.Bool("processes", false, "run each node as a process of its own")
	node := f.Int("node", -1, "run this node alone, in the foreground: to start one again that was killed")
	attached := f.Bool("attached", false, "the standard input ends when the whole cluster stops")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "log to the error output")
	if err := f.MarkHidden("attached"); err != nil { // what --processes starts its nodes with
		return err
	}
	if asked, err := parseFlags(f, env, devUsage, args); asked || err != nil {
		return err
	}
	if f.NArg() > 0 {
		return &exitError{exitUsage, fmt.Errorf("unexpected argument %q", f.Arg(0))}
	}
	if err := o.check(); err != nil {
		return &exitError{exitUsage, err}
	}
	if err := checkHeldShape(o); err != nil {
		return err
	}
	if *node >= 0 {
		if *node >= o.nodes {
			return &exitError{exitUsage, fmt.Errorf("--node %d: the nodes are 0 to %d; --nodes says how many there are", *node, o.nodes-1)}
		}
		return runDevNode(ctx, env, o, *node, *attached)
	}
	return runDevCluster(ctx, env, o, *processes)
}

// runDevCluster runs a name server and all nodes until ctx ends.
func runDevCluster(ctx context.Context, env environment, o devOptions, processes bool) error {
	var level slog.LevelVar // of the error output
	several := o.nodes > 1 || processes
	switch {
	case o.verbose:
	case several:
		level.Set(slog.LevelError) // that all nodes are on one machine is no news, and that one has ended is printed anyway
	default:
		level.Set(slog.LevelWarn)
	}
	var console slog.Handler = slog.NewTextHandler(env.stderr, &slog.HandlerOptions{Level: &level})
	logger := slog.New(console)
	if several {
		var file io.Closer
		var err error
		if logger, file, err = openDevLog(o.logs(), console); err != nil {
			return err
		}
		defer file.Close()
	}
	began := time.Now()
	if several {
		if err := checkPortsFree(o); err != nil {
			return err
		}
	}
	names, err := startDevNames(o, logger)
	if err != nil {
		return portHint(err, "--namesrv-port", o.namesrvPort)
	}
	defer names.close()
	if err := recordShape(o); err != nil {
		return err
	}
	out := &lineWriter{out: env.stdout}
	out.printf("rmq %s  development mode: no authentication, this machine only, data in %s", version, o.data)
	var nodes devNodes
	if processes {
		nodes, err = startDevProcesses(ctx, o, out)
	} else {
		nodes, err = startDevReplicas(ctx, o, logger)
	}
	if err != nil {
		return err
	}
	cluster := admin.NewCluster([]string{o.namesrvAddr()}, clientTimeout)
	defer cluster.Close()
	leaders := awaitDevCluster(ctx, cluster, o)
	printDevAddresses(out, o, leaders)
	nodes.describe(out, leaders)
	switch {
	case o.nodes == 2:
		out.printf("An arbiter in this process is the third vote of each group: it survives the loss of either node.")
	case o.nodes%2 == 0:
		out.printf("%d nodes survive the loss of %d, no more than %d would.", o.nodes, (o.nodes-1)/2, o.nodes-1)
	}
	out.printf("ready in %d ms.  Next: rmq send -n %s -t hello \"first message\"", time.Since(began).Milliseconds(), o.namesrvAddr())
	if o.nodes > 1 {
		watchDevLeaders(ctx, cluster, o, leaders, out) // returns when ctx ends
	}
	<-ctx.Done()
	out.printf("stopping")
	if !o.verbose && o.nodes > 1 {
		level.Set(slog.LevelError + 1) // each replica that is gone is an error to the others
	}
	return nodes.stop()
}

// devNodes is the running nodes of a development cluster.
type devNodes interface {
	// describe prints what is worth to be known of them beside their addresses.
	describe(out *lineWriter, leaders map[string]string)
	// stop ends all of them together and waits.
	stop() error
}

// printDevAddresses prints where everything answers.
func printDevAddresses(out *lineWriter, o devOptions, leaders map[string]string) {
	out.printf("  name server   %s      NAMESRV_ADDR for your applications", o.namesrvAddr())
	for i := range o.groups {
		if o.nodes == 1 {
			out.printf("  %-13s %s     RocketMQ 4.x and 5.x remoting clients", devGroupName(i), o.address(0, i))
			continue
		}
		var addresses []string
		for j := range o.nodes {
			address := o.address(j, i)
			if leaders[devGroupName(i)] == address {
				address += " (leader)"
			}
			addresses = append(addresses, address)
		}
		out.printf("  %-13s %s", devGroupName(i), strings.Join(addresses, "   "))
	}
}

const (
	// devLeaderPoll is how often the name server is asked who leads.
	devLeaderPoll = 100 * time.Millisecond
	// devClusterWait bounds how long the start waits until every group could lose a node.
	devClusterWait = 10 * time.Second
)

// awaitDevCluster returns the leaders' addresses by group once every group could lose a node: its leader is known, and all its
// voters are there, which in a group of two are three with the name server's arbiter. If that takes too long it returns what there is.
func awaitDevCluster(ctx context.Context, cluster *admin.Cluster, o devOptions) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, devClusterWait)
	defer cancel()
	voters := max(o.nodes, 3)
	if o.nodes == 1 {
		voters = 1
	}
	for {
		leaders, err := cluster.Masters(ctx)
		complete := err == nil && len(leaders) >= o.groups
		for _, address := range leaders {
			info, err := runtimeInfoOf(ctx, cluster, address)
			complete = complete && err == nil && strings.Count(info["raftServers"], "=voter") >= voters
		}
		if complete || !sleep(ctx, devLeaderPoll/10) {
			return leaders
		}
	}
}

// runtimeInfoOf asks a broker for its runtime information.
func runtimeInfoOf(ctx context.Context, cluster *admin.Cluster, address string) (map[string]string, error) {
	resp, err := cluster.Call(ctx, address, protocol.GetBrokerRuntimeInfo, nil)
	if err != nil {
		return nil, err
	}
	var info protocol.KVTable
	err = fastjson.Unmarshal(resp.Body, &info)
	return info.Table, err
}

// watchDevLeaders prints each change of a leader until ctx ends.
func watchDevLeaders(ctx context.Context, cluster *admin.Cluster, o devOptions, known map[string]string, out *lineWriter) {
	known = maps.Clone(known)
	if known == nil {
		known = map[string]string{}
	}
	for sleep(ctx, devLeaderPoll) {
		leaders, err := cluster.Masters(ctx)
		if err != nil {
			continue // no group has a leader, which the next answers will change
		}
		for _, name := range slices.Sorted(maps.Keys(leaders)) {
			if address := leaders[name]; address != known[name] {
				known[name] = address
				out.printf("%s: %s leads now", name, o.nodeAt(address))
			}
		}
	}
}

// lineWriter prints whole lines from any goroutine.
type lineWriter struct {
	mu  sync.Mutex
	out io.Writer
}

func (w *lineWriter) printf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintf(w.out, format+"\n", args...)
}

// portHint says what to do about a port that is taken.
func portHint(err error, flag string, port int) error {
	if errors.Is(err, errAddressInUse) {
		return fmt.Errorf("%w: another program has it (`ss -ltnp 'sport = :%d'` names it); choose another with %s", err, port, flag)
	}
	return err
}
