package bench

import (
	"sync"
	"testing"
	"time"
)

func TestRecorderSumsShardsAndStartsAnew(t *testing.T) {
	r := newRecorder(200)
	if len(r.shards) != shardsMax {
		t.Fatalf("200 connections got %d shards, want %d", len(r.shards), shardsMax)
	}
	r.shard(0).succeeded(1, 100, 2*time.Millisecond)
	r.shard(1).succeeded(32, 3200, 4*time.Millisecond)
	r.shard(199).failed("timeout", 3)
	r.shard(5).counted(2, 20)
	iv := r.rotate()
	if iv.Messages != 35 || iv.Bytes != 3320 || iv.Requests != 3 || iv.Failed != 3 || iv.Errors["timeout"] != 1 {
		t.Errorf("interval %+v", iv)
	}
	if got := iv.Latency.TotalCount(); got != 2 {
		t.Errorf("%d latencies, want 2: counted messages have none", got)
	}
	if iv = r.rotate(); iv.Messages != 0 || len(iv.Errors) != 0 || iv.Latency.TotalCount() != 0 {
		t.Errorf("second rotation returned %+v, want nothing", iv)
	}
}

func TestRecorderLosesNothingUnderConcurrentRotation(t *testing.T) {
	const goroutines, each = 8, 2000
	r := newRecorder(goroutines)
	var recording sync.WaitGroup
	for i := range goroutines {
		recording.Go(func() {
			for range each {
				r.shard(i).succeeded(1, 1, time.Millisecond)
			}
		})
	}
	done := make(chan struct{})
	go func() {
		recording.Wait()
		close(done)
	}()
	sum := newInterval()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		sum.add(r.rotate())
	}
	sum.add(r.rotate())
	if sum.Messages != goroutines*each || sum.Latency.TotalCount() != goroutines*each {
		t.Errorf("got %d messages and %d latencies, want %d", sum.Messages, sum.Latency.TotalCount(), goroutines*each)
	}
}

func TestLatencyIsClampedToTheHistogram(t *testing.T) {
	r := newRecorder(1)
	for _, d := range []time.Duration{-time.Second, 0, time.Nanosecond, 2 * latencyMax} {
		r.shard(0).succeeded(1, 0, d)
	}
	if got := r.rotate().Latency.TotalCount(); got != 4 {
		t.Errorf("%d of 4 latencies were recorded", got)
	}
}

func TestCollectorKeepsPhasesApart(t *testing.T) {
	iv := func(messages int64, latency time.Duration) *interval {
		iv := newInterval()
		iv.Messages = messages
		if err := iv.Latency.RecordValues(latency.Microseconds(), messages); err != nil {
			t.Fatal(err)
		}
		return iv
	}
	c := newCollector()
	c.take(phaseWarmup, iv(1000, time.Second), time.Second)
	c.take(phaseMeasure, iv(10, time.Millisecond), time.Second)
	c.take(phaseMeasure, iv(30, time.Millisecond), 500*time.Millisecond)
	c.take(phaseDrain, iv(5, 10*time.Second), time.Second)

	var closed Result
	closed.fill(c, false)
	if closed.Messages != 40 || closed.Seconds != 1.5 || closed.MsgsPerS != 26.7 || closed.Totals.Messages != 1045 {
		t.Errorf("result %+v", closed)
	}
	if closed.Latency.Max > 2 {
		t.Errorf("closed loop: max %v ms, want that of the measurement alone", closed.Latency.Max)
	}
	if len(closed.Series) != 2 || closed.Series[1].At != 1.5 || closed.Series[1].MsgsPerS != 60 {
		t.Errorf("series %+v", closed.Series)
	}
	var open Result
	open.fill(c, true)
	if open.Latency.Max < 9000 {
		t.Errorf("fixed rate: max %v ms, want the messages that were answered after the end included", open.Latency.Max)
	}
	if open.Messages != 40 {
		t.Errorf("fixed rate: %d messages, want those of the measurement alone", open.Messages)
	}
}

func TestPercentilesOfAKnownDistribution(t *testing.T) {
	h := newHistogram()
	for ms := int64(1); ms <= 1000; ms++ {
		if err := h.RecordValue(ms * 1000); err != nil {
			t.Fatal(err)
		}
	}
	l := newLatency(h)
	for _, c := range []struct {
		name      string
		got, want float64
	}{{"p50", l.P50, 500}, {"p99", l.P99, 990}, {"p99.9", l.P999, 999}, {"p99.99", l.P9999, 1000}, {"max", l.Max, 1000}, {"mean", l.Mean, 500.5}} {
		if c.got < c.want*0.999 || c.got > c.want*1.001 {
			t.Errorf("%s = %v ms, want %v within 0.1 %%", c.name, c.got, c.want)
		}
	}
}
