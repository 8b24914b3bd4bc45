package harness

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports hands out ports, none twice. Safe for concurrent use.
type Ports struct {
	mu    sync.Mutex
	given map[int]bool
}

// Free returns a port that was free a moment ago together with those at the given distances from it. It stays below the range from
// which Linux takes the ports of outgoing connections, for such a port may be taken before the server listens on it.
func (p *Ports) Free(distances ...int) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.given == nil {
		p.given = make(map[int]bool)
	}
	distances = append([]int{0}, distances...)
	for range 100 {
		port := 10_000 + rand.IntN(20_000)
		var held []net.Listener
		for _, d := range distances {
			if p.given[port+d] {
				break
			}
			if n, err := net.Listen("tcp", fmt.Sprintf(":%d", port+d)); err == nil {
				held = append(held, n)
			}
		}
		for _, h := range held {
			h.Close()
		}
		if len(held) == len(distances) {
			for _, d := range distances {
				p.given[port+d] = true
			}
			return port, nil
		}
	}
	return 0, errors.New("no free ports found")
}
