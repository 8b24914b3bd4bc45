package harness

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// FreePort returns a port that was free a moment ago together with those at the given distances from it. It stays below the range from
// which Linux takes the ports of outgoing connections, for such a port may be taken before the server listens on it.
func FreePort(distances ...int) (int, error) {
	distances = append([]int{0}, distances...)
	for range 100 {
		port := 10_000 + rand.IntN(20_000)
		var held []net.Listener
		for _, d := range distances {
			if n, err := net.Listen("tcp", fmt.Sprintf(":%d", port+d)); err == nil {
				held = append(held, n)
			}
		}
		for _, h := range held {
			h.Close()
		}
		if len(held) == len(distances) {
			return port, nil
		}
	}
	return 0, errors.New("no free ports found")
}
