package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// watch is something that is looked at over and over while a scenario runs.
type watch struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // what was seen that must not be; set when done is closed
}

func startWatch(ctx context.Context, each time.Duration, look func(context.Context) error) *watch {
	ctx, cancel := context.WithCancel(ctx)
	w := &watch{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for {
			if err := look(ctx); err != nil && w.err == nil {
				w.err = err
			}
			if pause(ctx, each) != nil {
				return
			}
		}
	}()
	return w
}

func (w *watch) stop() error {
	w.cancel()
	<-w.done
	return w.err
}

// progressWritten is the age from which progress must survive a leader: brokers write it a few times a second, and clients report it
// without waiting for an answer.
const progressWritten = time.Second

// watchProgress reads the progress of the load's group at whoever leads, which must never go back behind what was read a while before.
func (l *load) watchProgress(ctx context.Context) *watch {
	const each = 100 * time.Millisecond
	progress, began := make(map[place]*history), time.Now()
	return startWatch(ctx, each, func(ctx context.Context) (seen error) {
		shown, err := l.cluster.brokers(ctx)
		if err != nil {
			return nil // asked again
		}
		for group, addrs := range shown {
			for q := range l.queues {
				at := place{broker: group, queue: q}
				n, known, err := queryOffset(ctx, addrs["0"], l.group, l.topic, q)
				if err != nil {
					continue
				}
				h := progress[at]
				if h == nil {
					h = new(history)
					progress[at] = h
				}
				if !known {
					n = 0
				}
				if err := h.add(time.Now(), addrs["0"], n); err != nil {
					seen = errors.Join(seen, fmt.Errorf("progress of %s in queue %s/%d, %d ms after the watch began: %w", l.group, group, q, time.Since(began).Milliseconds(), err))
				}
			}
		}
		return seen
	})
}

// history is the progress of a group in a queue, as it was read.
type history struct {
	leader  string    // that the recent ones are from
	recent  []reading // younger than progressWritten when the last one was taken
	settled int64     // the highest that is older
}

type reading struct {
	at time.Time
	n  int64
}

// add notes a reading and requires that it is not below what has long been read. What was read from a leader just before it ceased to lead
// may be gone with it.
func (h *history) add(now time.Time, leader string, n int64) error {
	if leader != h.leader {
		h.leader, h.recent = leader, nil
	}
	for len(h.recent) > 0 && now.Sub(h.recent[0].at) > progressWritten {
		h.settled = max(h.settled, h.recent[0].n)
		h.recent = h.recent[1:]
	}
	h.recent = append(h.recent, reading{now, n})
	if n < h.settled {
		return fmt.Errorf("went back to %d, before it was %d for more than %v", n, h.settled, progressWritten)
	}
	return nil
}

// leaderChange is a new broker 0 at the name server.
type leaderChange struct {
	AtMs  int64  `json:"atMs"` // since the watch began
	Group string `json:"group"`
	Node  string `json:"node"` // "" if none is shown
}

// watchLeaders notes who leads, as the name server has it.
func (c *cluster) watchLeaders(ctx context.Context, changes *[]leaderChange) *watch {
	began := time.Now()
	last := make(map[string]string)
	return startWatch(ctx, lookEach, func(ctx context.Context) error {
		shown, err := c.brokers(ctx)
		if err != nil {
			return nil
		}
		for _, g := range c.groups() {
			name := ""
			for _, n := range c.nodes {
				if n.addr == shown[g]["0"] {
					name = n.name
				}
			}
			if was, known := last[g]; known && was != name {
				*changes = append(*changes, leaderChange{time.Since(began).Milliseconds(), g, name})
			}
			last[g] = name
		}
		return nil
	})
}
