package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
)

// suite is a cluster and what happens to it.
type suite struct {
	name      string
	topology  topology
	clients   []string
	scenarios []scenario
}

var (
	javaClients = []string{"java-4.9.8", "java-5.3.3"}
	allClients  = []string{"java-4.9.8", "java-5.3.3", goClient}
)

// allSuites lists the suites, those that take longest first. Go clients have a cluster of their own in most, for a fault costs them 30 s and more:
// they ask for routes that rarely, and do not notice a broken connection.
func allSuites() []suite {
	one := topology{groups: 1, replicas: 3}
	graceful := expectation{noFailedSend: true, onlySendOK: true}
	return []suite{
		{"java", one, javaClients, []scenario{
			{"order", []workload{keys64, single}, everything, expectation{}},
			{"killed", []workload{plain, retry}, killRestarted, expectation{onlySendOK: true, gapMs: 3_000}},
			{"gone", []workload{plain}, killGone, expectation{onlySendOK: true}},
			{"terminated", []workload{plain}, terminateLeader, graceful},
			{"rolling", []workload{plain}, rolling, graceful},
			{"frozen", []workload{plain}, freeze, expectation{onlySendOK: true}},
			{"namesrv-killed", []workload{plain}, killNamesrv, graceful},
		}},
		{"go", one, []string{goClient}, []scenario{
			{"killed", []workload{plain, keys64, single, retry}, killRestarted, expectation{onlySendOK: true}},
			{"terminated", []workload{plain}, terminateLeader, graceful},
		}},
		{"groups", topology{groups: 3, replicas: 3}, allClients, []scenario{
			{"killed", []workload{spread}, killRestarted, expectation{noFailedSend: true, killed: true, onlySendOK: true}},
			{"terminated", []workload{spread}, terminateLeader, graceful},
		}},
		{"apache-namesrv", topology{groups: 1, replicas: 3, namesrv: "5.3.3"}, allClients, []scenario{
			{"killed", []workload{plain}, killRestarted, expectation{}},
		}},
		{"apache-broker", topology{groups: 1, replicas: 3, apacheBroker: "4.9.7"}, allClients, []scenario{
			{"killed", []workload{spread}, killRestarted, expectation{noFailedSend: true, killed: true, apacheToo: true}},
		}},
		{"2m-2s-async", topology{groups: 2, replicas: 2, role: "ASYNC_MASTER"}, javaClients, []scenario{
			{"slave-stopped", []workload{spread}, terminateFollower, graceful},
			{"master-killed", []workload{spread}, killGone, expectation{noFailedSend: true, killed: true, onlySendOK: true, async: true}},
		}},
		{"2m-2s-async-no-arbiter", topology{groups: 2, replicas: 2, role: "ASYNC_MASTER", noArbiter: true}, javaClients, []scenario{
			{"slave-stopped", []workload{spread}, terminateFollower, graceful},
			{"master-killed", []workload{backlog}, killGone, expectation{noFailedSend: true, killed: true, onlySendOK: true, async: true}},
		}},
		{"2m-2s-sync", topology{groups: 2, replicas: 2, role: "SYNC_MASTER"}, javaClients, []scenario{
			{"slave-killed", []workload{spread}, killFollower, expectation{noFailedSend: true, notOnlyHere: true}},
			{"master-killed", []workload{spread}, killGone, expectation{noFailedSend: true, killed: true}},
			{"rolling", []workload{spread}, rolling, expectation{noFailedSend: true}},
		}},
	}
}

func wanted(all []scenario, pattern *regexp.Regexp) (some []scenario) {
	for _, s := range all {
		if pattern.MatchString(s.name) {
			some = append(some, s)
		}
	}
	return some
}

// run runs the suite on a cluster of its own below dir, and reports each scenario.
func (s suite) run(ctx context.Context, o options, dir string, agents map[string]*agent, report func(name string, problems []string)) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var own []*agent
	for _, client := range s.clients {
		if o.only.MatchString(client) {
			own = append(own, agents[client])
		}
	}
	if len(own) == 0 {
		return fmt.Errorf("no client matches %s", o.only)
	}
	c, err := startCluster(ctx, o, s.topology, dir)
	if err != nil {
		return err
	}
	for _, sc := range s.scenarios {
		r, healed := sc.run(ctx, s.name, c, own)
		r.Groups, r.Replicas = s.topology.groups, s.topology.replicas
		fmt.Println(r.line())
		report(s.name+"/"+sc.name, r.Problems)
		if healed != nil {
			err = fmt.Errorf("after %s: %w", sc.name, healed)
			break
		}
	}
	return errors.Join(err, c.stop())
}
