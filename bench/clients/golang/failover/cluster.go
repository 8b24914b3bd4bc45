package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"rmq/bench/clients/golang/harness"
)

// topology says which servers a suite runs on.
type topology struct {
	groups, replicas int
	role             string // of two replicas from files as in RocketMQ's 2m-2s samples: ASYNC_MASTER or SYNC_MASTER; "": groups from dledger files
	noArbiter        bool   // of such groups: the slave is never promoted
	namesrv          string // version of an Apache name server to take instead of rmq's
	apacheBroker     string // version of an Apache broker to register beside the groups
}

const (
	clusterName  = "FailoverCluster"
	apacheGroup  = "apache-broker"
	bootLine     = "boot success"
	leaderLimit  = 30 * time.Second
	gracefulStop = 90 * time.Second // a leader passes requests on until its clients have asked for the route: 30 s
	lookEach     = 20 * time.Millisecond
)

// node is a broker process: one replica of one group.
type node struct {
	name, group, addr string
	argv              []string
	process           *harness.Process
}

// cluster is a running topology.
type cluster struct {
	dir         string
	namesrv     *harness.Process
	namesrvArgv []string
	namesrvAddr string
	nodes       []*node
}

// startCluster starts the servers of t below dir and returns once every group has a leader.
func startCluster(ctx context.Context, o options, t topology, dir string) (_ *cluster, err error) {
	c := &cluster{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.stop())
		}
	}()
	if err := harness.WriteJavaHome(o.clients, dir); err != nil {
		return nil, err
	}
	if err := c.startNamesrv(ctx, o, t.namesrv); err != nil {
		return nil, err
	}
	for g := range t.groups {
		if t.role != "" {
			err = c.addPair(o, fmt.Sprintf("broker-%c", 'a'+g), t)
		} else {
			err = c.addGroup(o, fmt.Sprintf("RaftNode%02d", g), t.replicas)
		}
		if err != nil {
			return nil, err
		}
	}
	if t.apacheBroker != "" {
		if err := c.addApache(o, t.apacheBroker); err != nil {
			return nil, err
		}
	}
	for _, n := range c.nodes {
		if err := c.start(n); err != nil {
			return nil, err
		}
	}
	for _, n := range c.nodes {
		if err := n.process.AwaitLine(ctx, bootLine); err != nil {
			return nil, err
		}
	}
	for _, g := range c.groups() {
		if _, err := c.leader(ctx, g); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *cluster) startNamesrv(ctx context.Context, o options, apache string) error {
	port, err := o.ports.Free()
	if err != nil {
		return err
	}
	c.namesrvAddr = fmt.Sprintf("127.0.0.1:%d", port)
	file := filepath.Join(c.dir, "namesrv.properties")
	if err := os.WriteFile(file, fmt.Appendf(nil, "listenPort=%d\n", port), 0o644); err != nil {
		return err
	}
	argv := []string{o.rmq, "namesrv"}
	if apache != "" {
		if argv, err = harness.ApacheCommand(o.clients, apache, "namesrv.NamesrvStartup", c.dir, "-Xmx128m"); err != nil {
			return err
		}
	}
	c.namesrvArgv = append(argv, "-c", file)
	return c.restartNamesrv(ctx)
}

// restartNamesrv starts the name server, which does not run, and waits until it is up.
func (c *cluster) restartNamesrv(ctx context.Context) (err error) {
	if c.namesrv, err = harness.Start("namesrv", c.dir, c.namesrvArgv); err != nil {
		return err
	}
	return c.namesrv.AwaitLine(ctx, "The Name Server boot success. serializeType=JSON")
}

// addGroup writes the files of a group, in the manner of RocketMQ's dledger samples.
func (c *cluster) addGroup(o options, group string, replicas int) error {
	var peers []string
	for i := range replicas {
		port, err := o.ports.Free()
		if err != nil {
			return err
		}
		peers = append(peers, fmt.Sprintf("n%d-127.0.0.1:%d", i, port))
	}
	for i := range replicas {
		port, err := o.ports.Free(-2, 1)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("%s-n%d", group, i)
		file := filepath.Join(c.dir, name+".conf")
		lines := []string{
			"brokerClusterName=" + clusterName, "brokerName=" + group, fmt.Sprint("listenPort=", port), "brokerIP1=127.0.0.1",
			"namesrvAddr=" + c.namesrvAddr, "storePathRootDir=" + filepath.Join(c.dir, name),
			"enableDLegerCommitLog=true", "dLegerGroup=" + group, "dLegerPeers=" + strings.Join(peers, ";"), fmt.Sprint("dLegerSelfId=n", i),
			"brokerRole=SYNC_MASTER", "flushDiskType=ASYNC_FLUSH", "mappedFileSizeCommitLog=67108864", "",
		}
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
			return err
		}
		c.nodes = append(c.nodes, &node{name: name, group: group, addr: fmt.Sprintf("127.0.0.1:%d", port), argv: []string{o.rmq, "broker", "-c", file}})
	}
	return nil
}

// addPair writes the files of a master and its slave, in the manner of RocketMQ's 2m-2s samples.
func (c *cluster) addPair(o options, group string, t topology) error {
	for id, role := range []string{t.role, "SLAVE"} {
		port, err := o.ports.Free(-2, 1)
		if err != nil {
			return err
		}
		name := group + strings.Repeat("-s", id)
		file := filepath.Join(c.dir, name+".properties")
		lines := []string{
			"brokerClusterName=" + clusterName, "brokerName=" + group, fmt.Sprint("brokerId=", id), "deleteWhen=04", "fileReservedTime=48",
			"brokerRole=" + role, "flushDiskType=ASYNC_FLUSH",
			// What differs on one machine:
			fmt.Sprint("listenPort=", port), "brokerIP1=127.0.0.1", "storePathRootDir=" + filepath.Join(c.dir, name), "mappedFileSizeCommitLog=67108864", "",
		}
		if t.noArbiter {
			lines = append(lines, "arbiter=off", "")
		}
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
			return err
		}
		c.nodes = append(c.nodes, &node{name: name, group: group, addr: fmt.Sprintf("127.0.0.1:%d", port),
			argv: []string{o.rmq, "broker", "-n", c.namesrvAddr, "-c", file}})
	}
	return nil
}

// addApache writes the file of a lone Apache broker that joins the cluster.
func (c *cluster) addApache(o options, version string) error {
	port, err := o.ports.Free(-2, 1)
	if err != nil {
		return err
	}
	store := filepath.Join(c.dir, apacheGroup)
	file := store + ".conf"
	text := fmt.Sprintf(`brokerClusterName=%s
brokerName=%s
brokerId=0
listenPort=%d
haListenPort=%d
brokerIP1=127.0.0.1
namesrvAddr=%s
storePathRootDir=%s
storePathCommitLog=%s/commitlog
mappedFileSizeCommitLog=67108864
waitTimeMillsInSendQueue=3000
`, clusterName, apacheGroup, port, port+1, c.namesrvAddr, store, store)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return err
	}
	argv, err := harness.ApacheCommand(o.clients, version, "broker.BrokerStartup", c.dir, "-Xms256m", "-Xmx256m", "-XX:MaxDirectMemorySize=256m")
	if err != nil {
		return err
	}
	c.nodes = append(c.nodes, &node{name: apacheGroup, group: apacheGroup, addr: fmt.Sprintf("127.0.0.1:%d", port), argv: append(argv, "-c", file)})
	return nil
}

func (c *cluster) start(n *node) (err error) {
	if n.process, err = harness.Start(n.name, c.dir, n.argv); err == nil {
		n.process.StopTimeout = gracefulStop
	}
	return err
}

// kill ends a broker with SIGKILL.
func (c *cluster) kill(n *node) error { return n.process.Kill() }

// terminate ends a broker with SIGTERM.
func (c *cluster) terminate(n *node) error { return n.process.Stop() }

// restart starts a broker that has ended and waits until it is up.
func (c *cluster) restart(ctx context.Context, n *node) error {
	if err := c.start(n); err != nil {
		return err
	}
	return n.process.AwaitLine(ctx, bootLine)
}

// heal restarts every broker that was ended, and waits until every group has a leader.
func (c *cluster) heal(ctx context.Context) error {
	if !c.namesrv.Running() {
		if err := c.restartNamesrv(ctx); err != nil {
			return err
		}
	}
	for _, n := range c.nodes {
		if !n.process.Running() {
			if err := c.restart(ctx, n); err != nil {
				return err
			}
		}
	}
	for _, g := range c.groups() {
		if _, err := c.leader(ctx, g); err != nil {
			return err
		}
	}
	return nil
}

// groups lists the names of the groups, each once.
func (c *cluster) groups() (groups []string) {
	for _, n := range c.nodes {
		if len(groups) == 0 || groups[len(groups)-1] != n.group {
			groups = append(groups, n.group)
		}
	}
	return groups
}

// leader waits until the name server shows a running broker as that with id 0 of a group.
func (c *cluster) leader(ctx context.Context, group string) (*node, error) {
	ctx, cancel := context.WithTimeout(ctx, leaderLimit)
	defer cancel()
	var last error
	for {
		shown, err := c.brokers(ctx)
		for _, n := range c.nodes {
			if err == nil && n.group == group && shown[group]["0"] == n.addr && n.process.Running() {
				return n, nil
			}
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the name server shows no running leader of %s: %v %w", group, shown[group], errors.Join(last, ctx.Err()))
		case <-time.After(lookEach):
		}
	}
}

// follower returns a running broker of a group that does not lead.
func (c *cluster) follower(ctx context.Context, group string) (*node, error) {
	leader, err := c.leader(ctx, group)
	if err != nil {
		return nil, err
	}
	for _, n := range c.nodes {
		if n.group == group && n != leader && n.process.Running() {
			return n, nil
		}
	}
	return nil, fmt.Errorf("%s has no follower that runs", group)
}

// brokers returns the addresses by group and id that the name server knows.
func (c *cluster) brokers(ctx context.Context) (map[string]map[string]string, error) {
	a, err := ask(ctx, c.namesrvAddr, codeClusterInfo, nil)
	if err != nil {
		return nil, err
	}
	var info struct {
		BrokerAddrTable map[string]struct{ BrokerAddrs map[string]string }
	}
	if err := json.Unmarshal(bareKey.ReplaceAll(a.body, []byte(`$1"$2":`)), &info); err != nil {
		return nil, fmt.Errorf("cluster info: %w", err)
	}
	brokers := make(map[string]map[string]string)
	for name, b := range info.BrokerAddrTable {
		brokers[name] = b.BrokerAddrs
	}
	return brokers, nil
}

// createTopic makes a topic in every group and waits until its route is there.
func (c *cluster) createTopic(ctx context.Context, topic string, queues int) error {
	for _, g := range c.groups() {
		n, err := c.leader(ctx, g)
		if err != nil {
			return err
		}
		if err := createTopic(ctx, n.addr, topic, queues); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, leaderLimit)
	defer cancel()
	for {
		n, err := routeGroups(ctx, c.namesrvAddr, topic)
		if n == len(c.groups()) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the route of %s has %d groups: %w", topic, n, errors.Join(err, ctx.Err()))
		case <-time.After(lookEach):
		}
	}
}

// stop ends everything and reports servers that had ended by themselves or crashed.
func (c *cluster) stop() error {
	// First the signal to all: each one that leads would hand over to the next.
	for _, n := range c.nodes {
		if n.process != nil {
			n.process.Signal(syscall.SIGCONT)
			n.process.Signal(syscall.SIGTERM)
		}
	}
	var errs []error
	for _, n := range c.nodes {
		if n.process != nil {
			errs = append(errs, n.process.Wait())
		}
	}
	if c.namesrv != nil {
		errs = append(errs, c.namesrv.Stop())
	}
	return errors.Join(errs...)
}
