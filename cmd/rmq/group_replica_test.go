package main

import (
	"testing"
	"time"

	"rmq/controller"
)

// A pair that stays without an arbiter is warned of once.
func TestPairWithoutArbiter(t *testing.T) {
	lone := []controller.ReplicaState{{Role: controller.RoleLeader}}
	pair := append(lone[:1:1], controller.ReplicaState{Role: controller.RoleLearner})
	safe := append(lone[:1:1], controller.ReplicaState{Role: controller.RoleVoter}, controller.ReplicaState{Role: controller.RoleArbiter})
	var w pairWatch
	now := time.Now()
	said := 0
	look := func(members []controller.ReplicaState, after time.Duration) {
		now = now.Add(after)
		if w.unsafe(members, now) {
			said++
		}
	}
	look(lone, time.Second)
	look(pair, time.Second)
	look(pair, pairPatience) // an arbiter may still come
	if said != 0 {
		t.Fatal("warned too early")
	}
	for range 5 {
		look(pair, time.Second)
	}
	if said != 1 {
		t.Fatalf("warned %d times, want once", said)
	}
	look(safe, time.Second)
	look(pair, time.Second)
	look(pair, 2*pairPatience)
	if said != 2 {
		t.Errorf("warned %d times, want once more when the arbiter is lost", said)
	}
}
