package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// scenario is one fault under load.
type scenario struct {
	name      string
	workloads []workload
	fault     func(ctx context.Context, c *cluster) error // returns when the cluster may serve again
	expect    expectation
}

// expectation is what a scenario demands beyond what all do: nothing lost, nothing moved, order kept, progress not gone back.
type expectation struct {
	noFailedSend bool
	killed       bool // but for those that underWay describes
	onlySendOK   bool
	gapMs        int64 // of Java clients, at most; 0: whatever it is
	apacheToo    bool  // messages are acknowledged by the Apache broker and by the groups
	// The leader acknowledged before others had the message: what the next one lacks is lost, but never what a consumer has seen.
	async bool
	// No SEND_OK from the first group from settle after the fault on, but some other answer.
	notOnlyHere bool
}

var (
	plain = workload{name: "plain", threads: 4, keys: 4, pauseMs: 10, queues: 4}
	// spread is plain over several groups. The Go client forgets which group has failed when it tries again (it shadows the variable) and takes the
	// next queue: with its own two retries and several queues of a group in a row it may not leave the group.
	spread = workload{name: "plain", threads: 4, keys: 4, pauseMs: 10, queues: 2, retries: 6}
	// backlog is consumed more slowly than it is sent.
	backlog = workload{name: "backlog", threads: 4, keys: 4, pauseMs: 10, queues: 2, workMs: 20}
	keys64  = workload{name: "keys", threads: 8, keys: 64, pauseMs: 10, queues: 4, orderly: true, workMs: 1}
	single  = workload{name: "single", threads: 1, keys: 1, pauseMs: 10, queues: 1, orderly: true, workMs: 1}
	retry   = workload{name: "retry", threads: 1, keys: 1, pauseMs: 100, queues: 1, refuse: true, maxReconsume: 2}
)

// supervised is the time after which systemd, as delivered in our unit, starts a broker again.
const supervised = time.Second

// killGone kills the leader of the first group; the caller heals the cluster later.
func killGone(ctx context.Context, c *cluster) error {
	n, err := c.leader(ctx, c.groups()[0])
	if err != nil {
		return err
	}
	return c.kill(n)
}

// killRestarted kills the leader and starts it again as its supervisor would.
func killRestarted(ctx context.Context, c *cluster) error {
	n, err := c.leader(ctx, c.groups()[0])
	if err != nil {
		return err
	}
	if err := c.kill(n); err != nil {
		return err
	}
	if err := pause(ctx, supervised); err != nil {
		return err
	}
	return c.restart(ctx, n)
}

// everything kills the leader five times, stops it in order once, and freezes it once.
func everything(ctx context.Context, c *cluster) error {
	const between = time.Second
	for _, fault := range []func(context.Context, *cluster) error{
		killRestarted, killRestarted, terminateLeader, killRestarted, freeze, killRestarted, killRestarted,
	} {
		if err := fault(ctx, c); err != nil {
			return err
		}
		if err := pause(ctx, between); err != nil {
			return err
		}
	}
	return nil
}

// terminateLeader stops the leader in order and starts it again.
func terminateLeader(ctx context.Context, c *cluster) error {
	n, err := c.leader(ctx, c.groups()[0])
	if err != nil {
		return err
	}
	if err := c.terminate(n); err != nil {
		return err
	}
	return c.restart(ctx, n)
}

// rolling restarts every broker in order, one after the other.
func rolling(ctx context.Context, c *cluster) error {
	for _, n := range c.nodes {
		if err := c.terminate(n); err != nil {
			return err
		}
		if err := c.restart(ctx, n); err != nil {
			return err
		}
		if _, err := c.leader(ctx, n.group); err != nil {
			return err
		}
	}
	return nil
}

// freeze stops the leader's process for longer than its clients wait for an answer, and lets it go on.
func freeze(ctx context.Context, c *cluster) error {
	const frozen = 5 * time.Second
	n, err := c.leader(ctx, c.groups()[0])
	if err != nil {
		return err
	}
	if err := n.process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	err = pause(ctx, frozen)
	return errors.Join(err, n.process.Signal(syscall.SIGCONT))
}

// killFollower kills a follower of the first group; the caller heals the cluster later.
func killFollower(ctx context.Context, c *cluster) error {
	n, err := c.follower(ctx, c.groups()[0])
	if err != nil {
		return err
	}
	return c.kill(n)
}

// terminateFollower stops a follower of the first group in order; the caller heals the cluster later.
func terminateFollower(ctx context.Context, c *cluster) error {
	n, err := c.follower(ctx, c.groups()[0])
	if err != nil {
		return err
	}
	return c.terminate(n)
}

// killNamesrv kills the only name server and starts it again after a while.
func killNamesrv(ctx context.Context, c *cluster) error {
	const away = 3 * time.Second
	if err := c.namesrv.Kill(); err != nil {
		return err
	}
	if err := pause(ctx, away); err != nil {
		return err
	}
	return c.restartNamesrv(ctx)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// result is printed as one line of JSON.
type result struct {
	Suite    string                        `json:"suite"`
	Scenario string                        `json:"scenario"`
	Groups   int                           `json:"groups"`
	Replicas int                           `json:"replicas"`
	FaultMs  int64                         `json:"faultMs"` // how long the fault lasted, from its first blow until the servers were up again
	Seconds  float64                       `json:"seconds"`
	Leaders  []leaderChange                `json:"leaders"` // from shortly before the fault on
	PollMs   map[string]int                `json:"pollMs"`  // how often each client asked for routes
	Clients  map[string]map[string]figures `json:"clients"` // by client and workload
	Problems []string                      `json:"problems,omitempty"`
}

func (r result) line() string {
	b, err := json.Marshal(r)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// run runs one scenario with every agent at once and leaves the cluster healed. Only an error of the latter ends the suite.
func (s scenario) run(ctx context.Context, suite string, c *cluster, agents []*agent) (result, error) {
	r := result{Suite: suite, Scenario: s.name, PollMs: make(map[string]int), Clients: make(map[string]map[string]figures)}
	start := time.Now()
	problem := func(err error) {
		if err != nil {
			r.Problems = append(r.Problems, err.Error())
		}
	}
	var loads []*load
	faultEnded, err := s.measure(ctx, suite, c, agents, &loads, &r)
	problem(err)
	problem(each(loads, func(l *load) error { return l.drain(ctx, s.expect.async) }))
	for _, l := range loads {
		f, errs := l.judge(l.workload, s.expect)
		if r.Clients[l.agent.client] == nil {
			r.Clients[l.agent.client] = make(map[string]figures)
		}
		r.Clients[l.agent.client][l.name], r.PollMs[l.agent.client] = f, l.agent.pollMs
		const most = 5 // one cause, a thousand consequences
		for i, err := range append(errs, s.expect.check(l, f, faultEnded)...) {
			if i == most {
				r.Problems = append(r.Problems, fmt.Sprintf("%s: and %d more", l.topic, len(errs)-most))
				break
			}
			r.Problems = append(r.Problems, l.topic+": "+err.Error())
		}
	}
	err = c.heal(ctx)
	r.Seconds = float64(time.Since(start).Milliseconds()) / 1000
	return r, err
}

// measure starts the loads, brings about the fault, and returns when messages flow again. It returns when the fault was over.
func (s scenario) measure(ctx context.Context, suite string, c *cluster, agents []*agent, loads *[]*load, r *result) (ended time.Time, err error) {
	for _, a := range agents {
		for _, w := range s.workloads {
			l, err := startLoad(ctx, c, a, w, suite+"-"+s.name)
			if err != nil {
				return ended, err
			}
			*loads = append(*loads, l)
		}
	}
	if err := each(*loads, func(l *load) error { return l.awaitSteady(ctx) }); err != nil {
		return ended, err
	}
	watches := []*watch{c.watchLeaders(ctx, &r.Leaders)}
	for _, l := range *loads {
		watches = append(watches, l.watchProgress(ctx))
	}
	defer func() {
		for _, w := range watches {
			err = errors.Join(err, w.stop())
		}
	}()
	const before, after = 1500 * time.Millisecond, 1500 * time.Millisecond
	if err := pause(ctx, before); err != nil {
		return ended, err
	}
	began := time.Now()
	if err := s.fault(ctx, c); err != nil {
		return ended, err
	}
	ended = time.Now()
	r.FaultMs = ended.Sub(began).Milliseconds()
	if err := each(*loads, func(l *load) error { return l.awaitAcks(ctx, ended) }); err != nil {
		return ended, err
	}
	return ended, pause(ctx, after)
}

// check says in what way the figures of a load are not as expected.
func (x expectation) check(l *load, f figures, faultEnded time.Time) (errs []error) {
	if x.notOnlyHere {
		const settle = time.Second
		by := make(map[string]int)
		for _, s := range l.sends {
			if s.status != "" && s.place.broker == l.cluster.groups()[0] && s.begin > faultEnded.Add(settle).UnixMicro() {
				by[s.status]++
			}
		}
		if by["SEND_OK"] > 0 || len(by) == 0 {
			errs = append(errs, fmt.Errorf("with its follower dead, the group answered %v", by))
		}
	}
	failed := f.Failed
	if x.killed {
		failed -= f.UnderWay
	}
	if x.noFailedSend && failed > 0 && !l.orderly {
		errs = append(errs, fmt.Errorf("%d failed sends: %v", failed, f.Reasons))
	}
	if x.onlySendOK && len(f.Statuses) > 0 {
		errs = append(errs, fmt.Errorf("not only SEND_OK: %v", f.Statuses))
	}
	if x.gapMs > 0 && f.GapMs > x.gapMs && l.agent.client != goClient {
		errs = append(errs, fmt.Errorf("no send was acknowledged for %d ms, the limit is %d", f.GapMs, x.gapMs))
	}
	if x.apacheToo {
		by := make(map[bool]int)
		for _, s := range l.sends {
			if s.status != "" {
				by[s.place.broker == apacheGroup]++
			}
		}
		if by[true] == 0 || by[false] == 0 {
			errs = append(errs, fmt.Errorf("acknowledged by the Apache broker %d, by rmq %d", by[true], by[false]))
		}
	}
	return errs
}

// each runs f for all loads at once.
func each(loads []*load, f func(*load) error) error {
	errs := make([]error, len(loads))
	done := make(chan struct{})
	for i, l := range loads {
		go func() {
			errs[i] = f(l)
			done <- struct{}{}
		}()
	}
	for range loads {
		<-done
	}
	return errors.Join(errs...)
}
