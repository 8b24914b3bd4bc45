package cluster

import (
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
)

// ports gives out ports, none twice.
type ports struct{ given []int }

// portsEach is how many a server may use: p-2, which a broker serves too, to p+1, for the other replicas, and some more for
// arbiters.
const portsEach = 8

// take returns a port p such that p-2 to p+1 were free on every address a moment ago. It stays below the ports that the
// kernel hands out meanwhile.
func (g *ports) take() (int, error) {
	const lowest, highest, tries = 10_000, 32_000, 100
	for range tries {
		port := lowest + rand.IntN(highest-lowest)
		near := func(other int) bool { return other > port-portsEach && other < port+portsEach }
		if !slices.ContainsFunc(g.given, near) && portsFree(port-2, port+1) {
			g.given = append(g.given, port)
			return port, nil
		}
	}
	return 0, errors.New("cluster: no free ports")
}

func portsFree(from, to int) bool {
	for p := from; p <= to; p++ {
		l, err := net.Listen("tcp", ":"+strconv.Itoa(p))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}
