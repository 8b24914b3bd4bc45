// Package cluster runs whole clusters of rmq, each server a process of its own, breaks them in every way that a machine or
// a network breaks, and says whether what they promised still holds.
//
// A Cluster starts name servers and brokers from classic property files. A Network says which addresses they have and
// cuts them off from each other. A Workload sends and reads through the protocol, as stock clients do, and keeps a
// History of what was answered. When the faults are over, Check holds the History against what can be read and against
// the log files of every replica.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options of New.
type Options struct {
	Program string  // the rmq executable
	Dir     string  // for everything that the servers write; the caller removes it
	Network Network // nil: all on the loopback interface, nothing can be cut off. Close closes it
}

// Cluster is a set of servers. Its methods that add servers are not for concurrent use; Close ends them all.
type Cluster struct {
	o     Options
	names []*Node
	nodes []*Node // every server, name servers too
	free  ports
}

// New returns a cluster without servers.
func New(o Options) (*Cluster, error) {
	if _, err := os.Stat(o.Program); err != nil {
		return nil, fmt.Errorf("cluster: rmq executable: %w", err)
	}
	if o.Network == nil {
		o.Network = loopback{}
	}
	return &Cluster{o: o}, nil
}

// AddNameServer adds a name server. Start starts it. Brokers that are added later register with it.
func (c *Cluster) AddNameServer(more ...string) (*Node, error) {
	n, err := c.add(fmt.Sprintf("names%d", len(c.names)), "namesrv")
	if err != nil {
		return nil, err
	}
	c.names = append(c.names, n)
	return n, n.writeFile(append([]string{"listenPort=" + fmt.Sprint(n.Port), "bindAddress=" + n.bind, "arbiterAddress=" + n.Host}, more...))
}

// AddBroker adds one replica of one broker group. sample is a classic property file; "" stands for an empty one. Its keys
// that tie it to an address or to a directory are replaced, and more ("key=value") is added.
func (c *Cluster) AddBroker(name, sample string, more ...string) (*Node, error) {
	n, err := c.add(name, "broker")
	if err != nil {
		return nil, err
	}
	return n, c.Configure(n, sample, more...)
}

// Configure writes a broker's property file anew; it counts from the next Start on.
func (c *Cluster) Configure(n *Node, sample string, more ...string) error {
	var names []string
	for _, s := range c.names {
		address, err := c.o.Network.nameServerOf(n, s)
		if err != nil {
			return err
		}
		names = append(names, address)
	}
	settings := append([]string{
		"listenPort=" + fmt.Sprint(n.Port), "bindAddress=" + n.bind, "brokerIP1=" + n.Host, "namesrvAddr=" + strings.Join(names, ";"),
		"storePathRootDir=" + filepath.Join(n.Dir, "store"), "mappedFileSizeCommitLog=" + fmt.Sprint(segmentBytes),
	}, more...)
	var lines []string
	if sample != "" {
		text, err := os.ReadFile(sample)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			key, _, _ := strings.Cut(line, "=")
			replaced := slices.ContainsFunc(settings, func(s string) bool {
				own, _, _ := strings.Cut(s, "=")
				return own == strings.TrimSpace(key)
			})
			if !replaced {
				lines = append(lines, strings.TrimSuffix(line, "\n"))
			}
		}
	}
	return n.writeFile(append(lines, settings...))
}

// segmentBytes of the logs: small, so that a test of seconds fills several segments.
const segmentBytes = 1 << 20

func (c *Cluster) add(name, role string) (*Node, error) {
	if slices.ContainsFunc(c.nodes, func(n *Node) bool { return n.Name == name }) {
		return nil, fmt.Errorf("cluster: two servers are named %s", name)
	}
	n := &Node{Name: name, Dir: filepath.Join(c.o.Dir, name), role: role, program: c.o.Program, number: len(c.nodes)}
	if err := os.MkdirAll(n.Dir, 0o755); err != nil {
		return nil, err
	}
	if err := c.o.Network.join(n, &c.free); err != nil {
		return nil, err
	}
	c.nodes = append(c.nodes, n)
	return n, nil
}

// AddListed adds a group whose members are listed in dLegerPeers, from RocketMQ's own dledger samples in the directory
// given; members beyond those of the samples take the last one's file.
func (c *Cluster) AddListed(samples string, count int, more ...string) ([]*Node, error) {
	const group = "RaftNode00"
	var members []*Node
	var peers []string
	for i := range count {
		n, err := c.add(fmt.Sprintf("n%d", i), "broker")
		if err != nil {
			return nil, err
		}
		n.replicaDir = filepath.Join(n.Dir, "store", fmt.Sprintf("%s-%d", group, i))
		members = append(members, n)
		peers = append(peers, fmt.Sprintf("n%d-%s:%d", i, n.Host, n.Port+1))
	}
	for i, n := range members {
		sample := filepath.Join(samples, fmt.Sprintf("broker-n%d.conf", min(i, 2)))
		settings := append([]string{"dLegerPeers=" + strings.Join(peers, ";"), fmt.Sprintf("dLegerSelfId=n%d", i), "storePathCommitLog=" + filepath.Join(n.Dir, "commitlog")}, more...)
		if err := c.Configure(n, sample, settings...); err != nil {
			return nil, err
		}
	}
	return members, nil
}

// AddReplica adds one replica of a classic group (brokerRole, brokerId) from its sample file.
func (c *Cluster) AddReplica(samples, file, group string, id int, more ...string) (*Node, error) {
	n, err := c.AddBroker(strings.TrimSuffix(file, filepath.Ext(file)), filepath.Join(samples, file), more...)
	if err != nil {
		return nil, err
	}
	n.replicaDir = filepath.Join(n.Dir, "store", fmt.Sprintf("%s-%d", group, id))
	return n, nil
}

// NameServers lists where clients ask for routes.
func (c *Cluster) NameServers() []string {
	var list []string
	for _, n := range c.names {
		list = append(list, n.Address())
	}
	return list
}

// startTimeout bounds how long a server may take from its start to saying that it is ready.
const startTimeout = 30 * time.Second

// Start starts servers and waits until each says that it is ready.
func (c *Cluster) Start(ctx context.Context, nodes ...*Node) error {
	for _, n := range nodes {
		if err := n.Start(c.o.Network.command(n)); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for _, n := range nodes {
		if err := n.WaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Launch starts a server and does not wait for it.
func (c *Cluster) Launch(n *Node) error { return n.Start(c.o.Network.command(n)) }

// StopInOrder ends servers by SIGTERM, one after the other, and waits for each.
func (c *Cluster) StopInOrder(ctx context.Context, nodes ...*Node) error {
	var errs []error
	for _, n := range nodes {
		code, err := n.Term(ctx)
		if err == nil && code != 0 {
			err = fmt.Errorf("cluster: %s ended with code %d", n.Name, code)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Isolate cuts a server off from every other one; clients on its side still reach it at Inside. Heal ends that.
func (c *Cluster) Isolate(n *Node) error { return c.o.Network.isolate(n, c.others(n)) }

// Deafen lets what a server sends through to the others, and nothing of theirs to it: a broken half of a link. It needs
// Namespaces.
func (c *Cluster) Deafen(n *Node) error { return c.o.Network.deafen(n, c.others(n)) }

// Heal ends what Isolate or Deafen did; of several servers at a time it may end all.
func (c *Cluster) Heal(n *Node) error { return c.o.Network.heal(n, c.others(n)) }

func (c *Cluster) others(n *Node) []*Node {
	return slices.DeleteFunc(slices.Clone(c.nodes), func(o *Node) bool { return o == n })
}

// Report is the end of what every server wrote, for a test that failed.
func (c *Cluster) Report() string {
	var b strings.Builder
	for _, n := range c.nodes {
		fmt.Fprintf(&b, "==== %s (%s, %s)\n%s", n.Name, n.Address(), n.State(), n.Tail(reportLines))
	}
	return b.String()
}

const reportLines = 40

// Close kills every server and takes the network down.
func (c *Cluster) Close() error {
	var all sync.WaitGroup
	for _, n := range c.nodes {
		all.Go(n.Kill)
	}
	all.Wait()
	return c.o.Network.close()
}
