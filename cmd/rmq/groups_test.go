package main

import (
	"log/slog"
	"testing"
	"time"
)

// A replica that hears while it starts that it is to be filled anew is closed when it is up, not under the feet of its start.
func TestRefillWaitsForStart(t *testing.T) {
	s := newGroupSet("n", slog.New(slog.DiscardHandler))
	closed := make(chan struct{})
	c := &BrokerConfig{BrokerIP1: "nowhere", BrokerName: "broker-a"} // it cannot be started again
	g := &group{o: s.options(c, s.logger, false), config: c, logger: s.logger, ended: func() { close(closed) }, expel: func(error) {}}
	s.refill(g)
	s.refills.Wait()
	select {
	case <-closed:
		t.Fatal("it was closed while it started")
	default:
	}
	s.put(c, g)
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("it is not filled anew")
	}
	s.end(func(*group) {})
}
