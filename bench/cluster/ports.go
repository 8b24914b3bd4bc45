package cluster

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// freePort returns a port p such that p-2 (which a broker serves too) to p+1 (for the other replicas) were free on every
// address a moment ago. It stays below the ports that the kernel hands out meanwhile.
func freePort() (int, error) {
	const lowest, highest, tries = 10_000, 32_000, 100
	for range tries {
		port := lowest + rand.IntN(highest-lowest)
		if portsFree(port-2, port+1) {
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
