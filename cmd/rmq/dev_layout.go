package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	devClusterName = "DefaultCluster"
	devLoopback    = "127.0.0.1"
	devSource      = "rmq dev" // of the settings that differ from the defaults
	// devGroupStep keeps the ports of the groups of a node apart: each takes its client port, that - 2 and that + 1.
	devGroupStep = 20
	// devNodeStep keeps the nodes apart.
	devNodeStep = 100
	// devGroupsMax is how many names broker-a ... broker-z there are; with several nodes the ports allow fewer.
	devGroupsMax = 26
	devNodesMax  = 9
	// devShapeFile says what cluster a data directory holds.
	devShapeFile = "dev.json"
)

// devOptions is the size of a development cluster and where it lies.
type devOptions struct {
	data        string
	namesrvPort int
	brokerPort  int // of node 0 in group 0
	nodes       int
	groups      int
	verbose     bool
}

func devDefaults() devOptions {
	return devOptions{data: "rmq-data", namesrvPort: 9876, brokerPort: 10911, nodes: 1, groups: 1}
}

func (o devOptions) check() error {
	switch {
	case o.data == "":
		return errors.New("--data names no directory")
	case o.nodes < 1 || o.nodes > devNodesMax:
		return fmt.Errorf("--nodes must lie in 1..%d", devNodesMax)
	case o.groups < 1 || o.groups > devGroupsMax:
		return fmt.Errorf("--groups must lie in 1..%d", devGroupsMax)
	case o.nodes > 1 && o.groups > devNodeStep/devGroupStep:
		return fmt.Errorf("--groups must lie in 1..%d with several nodes: more would need the next node's ports", devNodeStep/devGroupStep)
	case o.namesrvPort < 1 || o.namesrvPort > 65535 || o.brokerPort < 3 || o.port(o.nodes-1, o.groups-1)+1 > 65535:
		return errors.New("a port is outside 1..65535 (a broker also takes its port - 2 and + 1)")
	}
	return nil
}

// port is where a node answers the clients of a group; the other nodes reach it at that + 1.
func (o devOptions) port(node, group int) int {
	return o.brokerPort + devGroupStep*group + devNodeStep*node
}

func (o devOptions) address(node, group int) string {
	return net.JoinHostPort(devLoopback, strconv.Itoa(o.port(node, group)))
}

func (o devOptions) namesrvAddr() string {
	return net.JoinHostPort(devLoopback, strconv.Itoa(o.namesrvPort))
}

// nodeAt names the node that answers at an address, for people.
func (o devOptions) nodeAt(address string) string {
	if j, ok := o.nodeNumber(address); ok {
		return fmt.Sprintf("node %d (%s)", j, address)
	}
	return address
}

func (o devOptions) nodeNumber(address string) (int, bool) {
	for j := range o.nodes {
		for i := range o.groups {
			if o.address(j, i) == address {
				return j, true
			}
		}
	}
	return 0, false
}

func devGroupName(i int) string { return "broker-" + string(rune('a'+i)) }

// nodeDir is where a node that is a process of its own keeps its pid and its logs.
func (o devOptions) nodeDir(node int) string {
	return filepath.Join(o.data, "node"+strconv.Itoa(node))
}

// logs is where the process that has the name server keeps its log, if there are several nodes.
func (o devOptions) logs() string { return filepath.Join(o.data, "log") }

// openDevLog opens broker.log in a directory.
func openDevLog(dir string, console slog.Handler) (*slog.Logger, io.Closer, error) {
	return OpenRoleLog(func(key string) string {
		if key == "ROCKETMQ_LOG_DIR" {
			return dir
		}
		return ""
	}, "broker.log", slog.LevelInfo, console)
}

// storeDir is where a node keeps its data: a single node directly below the data directory.
func (o devOptions) storeDir(node int) string {
	if o.nodes == 1 {
		return o.data
	}
	return o.nodeDir(node)
}

// brokerConfig depends on o only: a developer's NAMESRV_ADDR and the like must not reach into the development cluster.
func (o devOptions) brokerConfig(node, group int) (*BrokerConfig, error) {
	values := map[string]string{
		"brokerClusterName": devClusterName, "brokerName": devGroupName(group), "brokerId": strconv.Itoa(node),
		"bindAddress": devLoopback, "brokerIP1": devLoopback, "listenPort": strconv.Itoa(o.port(node, group)),
		"storePathRootDir": o.storeDir(node), "namesrvAddr": o.namesrvAddr(),
	}
	switch {
	case o.nodes == 2: // as in RocketMQ's 2m-2s files; the name server's arbiter is the third voter
		values["brokerRole"] = string(SyncMaster)
		if node > 0 {
			values["brokerRole"] = string(Slave)
		}
	case o.nodes > 2:
		var peers []string
		for j := range o.nodes {
			peers = append(peers, fmt.Sprintf("n%d-%s:%d", j, devLoopback, o.port(j, group)+1))
		}
		values["enableDLegerCommitLog"] = "true"
		values["dLegerPeers"], values["dLegerSelfId"] = strings.Join(peers, ";"), "n"+strconv.Itoa(node)
	}
	// What it would warn of is said once for the whole cluster.
	return brokerConfigOf(values, devSource, slog.New(slog.DiscardHandler))
}

func startDevNames(o devOptions, logger *slog.Logger) (*nameServer, error) {
	c, err := namesrvConfigOf(map[string]string{
		"bindAddress": devLoopback, "arbiterAddress": devLoopback, "listenPort": strconv.Itoa(o.namesrvPort), "kvConfigPath": filepath.Join(o.data, "namesrv", "kvConfig.json"),
	}, devSource)
	if err != nil {
		return nil, err
	}
	return startNameServer(c, logger)
}

// devShape is what cannot change about the cluster in a data directory.
type devShape struct {
	Nodes  int `json:"nodes"`
	Groups int `json:"groups"`
	// BrokerPort is the members' addresses in the groups' logs; a single node has no other members.
	BrokerPort int `json:"brokerPort,omitempty"`
}

func (o devOptions) shape() devShape {
	s := devShape{Nodes: o.nodes, Groups: o.groups}
	if o.nodes > 1 {
		s.BrokerPort = o.brokerPort
	}
	return s
}

// checkHeldShape refuses a data directory that holds another cluster than o asks for.
func checkHeldShape(o devOptions) error {
	held, err := heldShape(o.data)
	if err != nil || held == nil || *held == o.shape() {
		return err
	}
	flags := fmt.Sprintf("--nodes %d --groups %d", held.Nodes, held.Groups)
	if held.BrokerPort != 0 {
		flags += fmt.Sprintf(" --broker-port %d", held.BrokerPort)
	}
	return &exitError{exitUsage, fmt.Errorf("%s holds a cluster of another form: start it with %s, or give another directory with --data", o.data, flags)}
}

// heldShape returns what a data directory holds, nil for nothing.
func heldShape(data string) (*devShape, error) {
	path := filepath.Join(data, devShapeFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return heldSingleNode(data)
	}
	if err != nil {
		return nil, err
	}
	var s devShape
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("%s does not say what cluster the directory holds: %w", path, err)
	}
	return &s, nil
}

// heldSingleNode recognizes a directory from before there was a devShapeFile.
func heldSingleNode(data string) (*devShape, error) {
	replicas, err := filepath.Glob(filepath.Join(data, "broker-[a-z]-0"))
	if err != nil || len(replicas) == 0 {
		return nil, err
	}
	return &devShape{Nodes: 1, Groups: len(replicas)}, nil
}

// recordShape writes down what the data directory will hold, once.
func recordShape(o devOptions) error {
	path := filepath.Join(o.data, devShapeFile)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text, err := json.Marshal(o.shape())
	if err != nil {
		return err
	}
	return writeWhole(path, append(text, '\n'))
}

// writeWhole makes a file appear with all its content.
func writeWhole(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	part := path + ".part"
	if err := os.WriteFile(part, content, 0o644); err != nil {
		return err
	}
	return os.Rename(part, path)
}

// checkPortsFree fails if another program has a port that a node needs: all nodes are named now rather than one by one.
func checkPortsFree(o devOptions) error {
	for j := range o.nodes {
		for i := range o.groups {
			for _, port := range []int{o.port(j, i), o.port(j, i) - 2, o.port(j, i) + 1} {
				l, err := net.Listen("tcp", net.JoinHostPort(devLoopback, strconv.Itoa(port)))
				if err == nil {
					err = l.Close()
				}
				if err != nil {
					return portHint(fmt.Errorf("node %d, %s: %w", j, devGroupName(i), err), "--broker-port", port)
				}
			}
		}
	}
	return nil
}
