package cluster

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// proxies gives every server a loopback address of its own, at which proxies listen that pass on to the server itself. It
// needs no privileges, but Linux, where all of 127.0.0.0/8 is the loopback interface.
type proxies struct {
	subnet string // first three bytes
	mu     sync.Mutex
	cut    map[string]bool // hosts that are cut off
	all    []*Proxy
	names  map[[2]int]*Proxy // from a broker to a name server, by their numbers
}

// Proxies returns a Network of userspace proxies.
func Proxies() Network {
	return &proxies{subnet: fmt.Sprintf("127.%d.%d", 1+rand.IntN(250), rand.IntN(250)), cut: map[string]bool{}, names: map[[2]int]*Proxy{}}
}

func (s *proxies) host(number int) string { return fmt.Sprintf("%s.%d", s.subnet, 10+number) }

func (s *proxies) join(n *Node, free *ports) (err error) {
	if n.Port, err = free.take(); err != nil {
		return err
	}
	n.bind, n.Host = localhost, s.host(n.number)
	if n.role == "namesrv" {
		n.Host = localhost // for clients; brokers go through nameServerOf
		return nil
	}
	// Clients do not say who they are: a server that is cut off is so from all of them.
	if err := s.add(n.Host, n.Port, nil); err != nil {
		return err
	}
	return s.add(n.Host, n.Port+1, raftCaller)
}

// add starts the proxy before a port of a server. It stalls while that server or the calling one is cut off.
func (s *proxies) add(host string, port int, caller func(*bufio.Reader) (string, error)) error {
	p, err := NewProxy(ProxyOptions{
		Listen: net.JoinHostPort(host, strconv.Itoa(port)), Target: net.JoinHostPort(localhost, strconv.Itoa(port)), Caller: caller,
	})
	if err != nil {
		return err
	}
	s.all = append(s.all, p)
	p.Set(s.fault(host))
	return nil
}

// fault is that of the proxy before a host.
func (s *proxies) fault(host string) func(caller string) Fault {
	return func(caller string) Fault {
		s.mu.Lock()
		defer s.mu.Unlock()
		return Fault{Stall: s.cut[host] || s.cut[caller]}
	}
}

func (s *proxies) nameServerOf(n, server *Node) (string, error) {
	link := [2]int{n.number, server.number}
	if p := s.names[link]; p != nil {
		return p.Addr(), nil
	}
	p, err := NewProxy(ProxyOptions{Listen: net.JoinHostPort(n.Host, "0"), Target: server.Address()})
	if err != nil {
		return "", err
	}
	p.Set(s.fault(n.Host))
	s.all, s.names[link] = append(s.all, p), p
	return p.Addr(), nil
}

func (s *proxies) command(*Node) []string { return nil }

func (s *proxies) isolate(n *Node, _ []*Node) error { return s.set(n, true) }

// deafen is beyond a proxy between two servers: it knows connections, not packets.
func (s *proxies) deafen(*Node, []*Node) error { return errUncut }

func (s *proxies) heal(n *Node, _ []*Node) error { return s.set(n, false) }

func (s *proxies) set(n *Node, cut bool) error {
	if n.role == "namesrv" {
		return errors.New("cluster: proxies cannot cut a name server off")
	}
	s.mu.Lock()
	s.cut[n.Host] = cut
	s.mu.Unlock()
	for _, p := range s.all {
		p.wake()
	}
	return nil
}

func (s *proxies) close() error {
	var all sync.WaitGroup
	for _, p := range s.all {
		all.Go(p.Close)
	}
	all.Wait()
	return nil
}

// raftCaller finds in the handshake of the Raft port (raftlog/PEERNET.md) which host calls.
func raftCaller(first *bufio.Reader) (string, error) {
	const fixed, cluster, addr = 8, 0, 3
	head, err := first.Peek(fixed)
	if err != nil {
		return "", err
	}
	all, err := first.Peek(fixed + int(binary.BigEndian.Uint16(head[6:])))
	if err != nil {
		return "", err
	}
	rest := all[fixed:]
	for i := cluster; ; i++ {
		if len(rest) < 2 || len(rest)-2 < int(binary.BigEndian.Uint16(rest)) {
			return "", errors.New("cluster: not the handshake of a Raft port")
		}
		size := int(binary.BigEndian.Uint16(rest))
		if i == addr {
			host, _, err := net.SplitHostPort(string(rest[2 : 2+size]))
			return host, err
		}
		rest = rest[2+size:]
	}
}
