package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
)

// namespaces gives every server a network namespace of its own on a bridge, and cuts it off by blackhole routes: nothing
// comes through and nobody is told, as when a cable is pulled. It needs root.
type namespaces struct {
	id     string // of the bridge and the namespaces: several runs share the machine
	subnet string // first three bytes
	made   []string
}

// Namespaces returns a Network of network namespaces. It fails if this process may not make them.
func Namespaces() (Network, error) {
	id := rand.IntN(1 << 16)
	// From the range for benchmarks of devices (RFC 2544), which nothing else uses.
	s := &namespaces{id: fmt.Sprintf("rmq%04x", id), subnet: fmt.Sprintf("198.%d.%d", 18+id>>8&1, id&0xff)}
	err := ip(
		"link add "+s.bridge()+" type bridge",
		"addr add "+s.subnet+".1/24 dev "+s.bridge(),
		"link set "+s.bridge()+" up",
	)
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *namespaces) bridge() string { return s.id + "br" }

func (s *namespaces) join(n *Node, _ *ports) error {
	n.namespace = fmt.Sprintf("%s-%d", s.id, n.number)
	n.Host = fmt.Sprintf("%s.%d", s.subnet, 10+n.number)
	n.bind = "0.0.0.0"
	link := fmt.Sprintf("%sv%d", s.id, n.number)
	if err := ip("netns add " + n.namespace); err != nil {
		return err
	}
	s.made = append(s.made, n.namespace)
	err := ip(
		"link add "+link+" type veth peer name eth0 netns "+n.namespace,
		"link set "+link+" master "+s.bridge(),
		"link set "+link+" up",
	)
	if err == nil {
		err = ipIn(n, "link set lo up", "addr add "+n.Host+"/24 dev eth0", "link set eth0 up")
	}
	n.Port = map[string]int{"namesrv": 9876}[n.role]
	if n.Port == 0 {
		n.Port = 10911
	}
	return err
}

func (s *namespaces) nameServerOf(_, server *Node) (string, error) { return server.Address(), nil }

func (s *namespaces) command(n *Node) []string { return []string{"ip", "netns", "exec", n.namespace} }

// isolate puts blackholes between a server and all others, in both directions.
func (s *namespaces) isolate(n *Node, others []*Node) error {
	return errors.Join(s.blackholes("add", []*Node{n}, others), s.blackholes("add", others, []*Node{n}))
}

func (s *namespaces) deafen(n *Node, others []*Node) error {
	return s.blackholes("add", others, []*Node{n})
}

// heal removes whatever isolate or deafen made.
func (s *namespaces) heal(n *Node, others []*Node) error {
	for _, o := range append([]*Node{n}, others...) {
		if err := ipIn(o, "route flush type blackhole"); err != nil {
			return err
		}
	}
	return nil
}

// blackholes changes the routes by which some servers reach others.
func (s *namespaces) blackholes(verb string, from, to []*Node) error {
	for _, f := range from {
		var lines []string
		for _, t := range to {
			lines = append(lines, "route "+verb+" blackhole "+t.Host+"/32")
		}
		if err := ipIn(f, lines...); err != nil {
			return err
		}
	}
	return nil
}

func (s *namespaces) close() error {
	var errs []error
	for _, name := range s.made { // takes the links along
		errs = append(errs, ip("netns del "+name))
	}
	return errors.Join(append(errs, ip("link del "+s.bridge()))...)
}

func ip(lines ...string) error { return ipBatch(nil, lines) }

func ipIn(n *Node, lines ...string) error { return ipBatch([]string{"-n", n.namespace}, lines) }

// ipBatch runs the commands of ip(8), one a line.
func ipBatch(flags, lines []string) error {
	cmd := exec.Command("ip", append(flags, "-batch", "-")...)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("cluster: ip %s: %w: %s", strings.Join(lines, "; "), err, strings.TrimSpace(out.String()))
	}
	return nil
}
