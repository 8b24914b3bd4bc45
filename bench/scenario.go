package bench

import (
	"fmt"
	"time"
)

// scenario is one row group of a comparison: a flush mode and the load put on it.
type scenario struct {
	Name        string  `json:"name"`
	Title       string  `json:"title"`
	Flush       string  `json:"flush"`
	Connections int     `json:"connections"`
	Concurrency int     `json:"concurrency"`
	Size        int     `json:"size"`
	Rate        float64 `json:"rate,omitempty"` // messages per second; 0 is closed loop
}

// scenarios returns what a comparison can run. Those of one flush mode run one after the other on the same broker.
func scenarios() []scenario {
	return []scenario{
		{Name: "async-16x64", Title: "ASYNC_FLUSH, 16 connections x 64 in flight", Flush: asyncFlush, Connections: 16, Concurrency: 64, Size: 1024},
		{Name: "async-64x1", Title: "ASYNC_FLUSH, 64 connections x 1 in flight", Flush: asyncFlush, Connections: 64, Concurrency: 1, Size: 1024},
		{Name: "async-5000", Title: "ASYNC_FLUSH, 5,000 msgs/s on 16 connections", Flush: asyncFlush, Connections: 16, Concurrency: 64, Size: 1024, Rate: 5000},
		{Name: "sync-64x1", Title: "SYNC_FLUSH, 64 connections x 1 in flight", Flush: syncFlush, Connections: 64, Concurrency: 1, Size: 1024},
	}
}

// pickScenarios returns the named scenarios in the order of scenarios; no name picks all.
func pickScenarios(names []string) ([]scenario, error) {
	all := scenarios()
	if len(names) == 0 {
		return all, nil
	}
	wanted := map[string]bool{}
	for _, name := range names {
		wanted[name] = true
	}
	var picked []scenario
	for _, s := range all {
		if wanted[s.Name] {
			picked = append(picked, s)
			delete(wanted, s.Name)
		}
	}
	for name := range wanted {
		return nil, fmt.Errorf("no scenario %q", name)
	}
	return picked, nil
}

// byFlush groups scenarios by flush mode, in order.
func byFlush(all []scenario) [][]scenario {
	var groups [][]scenario
	for _, s := range all {
		if n := len(groups); n > 0 && groups[n-1][0].Flush == s.Flush {
			groups[n-1] = append(groups[n-1], s)
			continue
		}
		groups = append(groups, []scenario{s})
	}
	return groups
}

// produce returns the options of a run of the scenario.
func (s scenario) produce(nameServer string, warmup, duration time.Duration) produceOptions {
	return produceOptions{
		common: common{
			nameServers: nameServer, topic: "Bench-" + s.Name, group: "rmq-bench-producer", queues: 8,
			duration: duration, warmup: warmup, connections: s.Connections, concurrency: s.Concurrency,
			timeout: 3 * time.Second,
		},
		mode: modeSync, size: s.Size, batch: 1, rate: s.Rate,
	}
}
