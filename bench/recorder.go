package bench

import (
	"maps"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latencies are kept in microseconds with three significant digits, from 1 us to latencyMax; what is longer counts as
// latencyMax.
const (
	latencyMax    = 10 * time.Minute
	latencyDigits = 3
	shardsMax     = 64 // more connections than this share histograms, so that 20,000 of them do not need gigabytes
)

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, latencyMax.Microseconds(), latencyDigits)
}

// recorder gathers outcomes from many goroutines and hands them out by interval. Every connection records into its own
// shard (up to shardsMax of them), so that the load generator does not queue up behind one lock.
type recorder struct {
	shards []*shard
}

// shard collects what its connections did since the last rotation. Any goroutine may record.
type shard struct {
	mu    sync.Mutex
	now   *interval
	spare *interval // empty; swapped in at the next rotation so that recording waits for a pointer, not for a merge
}

// interval is what happened between two rotations.
type interval struct {
	Messages int64            // messages that succeeded
	Bytes    int64            // their bodies
	Requests int64            // requests that succeeded: a batch is one, a pull that found messages is one
	Failed   int64            // messages that did not succeed
	Errors   map[string]int64 // failed requests by cause, see errorKey
	Latency  *hdrhistogram.Histogram
}

func newInterval() *interval {
	return &interval{Errors: map[string]int64{}, Latency: newHistogram()}
}

// add merges b into a.
func (a *interval) add(b *interval) {
	a.Messages += b.Messages
	a.Bytes += b.Bytes
	a.Requests += b.Requests
	a.Failed += b.Failed
	for key, n := range b.Errors {
		a.Errors[key] += n
	}
	if b.Latency.TotalCount() > 0 {
		a.Latency.Merge(b.Latency)
	}
}

func (a *interval) reset() {
	a.Messages, a.Bytes, a.Requests, a.Failed = 0, 0, 0, 0
	clear(a.Errors)
	if a.Latency.TotalCount() > 0 {
		a.Latency.Reset()
	}
}

func (a *interval) clone() *interval {
	b := *a
	b.Errors = maps.Clone(a.Errors)
	b.Latency = hdrhistogram.Import(a.Latency.Export())
	return &b
}

// newRecorder makes a recorder for the given number of connections.
func newRecorder(connections int) *recorder {
	r := &recorder{shards: make([]*shard, min(max(connections, 1), shardsMax))}
	for i := range r.shards {
		r.shards[i] = &shard{now: newInterval(), spare: newInterval()}
	}
	return r
}

// shard returns the shard of a connection.
func (r *recorder) shard(connection int) *shard {
	return r.shards[connection%len(r.shards)]
}

// succeeded records one request that carried the given messages and body bytes.
func (s *shard) succeeded(messages, bytes int, latency time.Duration) {
	us := clampLatency(latency)
	s.mu.Lock()
	s.now.Messages += int64(messages)
	s.now.Bytes += int64(bytes)
	s.now.Requests++
	_ = s.now.Latency.RecordValue(us) // within the range of the histogram
	s.mu.Unlock()
}

// counted records messages without a latency: nothing answers a oneway request, and the age of a backlog says nothing.
func (s *shard) counted(messages, bytes int) {
	s.mu.Lock()
	s.now.Messages += int64(messages)
	s.now.Bytes += int64(bytes)
	s.now.Requests++
	s.mu.Unlock()
}

// pulled records one pull that brought messages; the latencies are those of the messages that have one.
func (s *shard) pulled(messages, bytes int, latencies []time.Duration) {
	s.mu.Lock()
	s.now.Messages += int64(messages)
	s.now.Bytes += int64(bytes)
	s.now.Requests++
	for _, latency := range latencies {
		_ = s.now.Latency.RecordValue(clampLatency(latency)) // within range
	}
	s.mu.Unlock()
}

// failed records one request that failed, and the messages it carried.
func (s *shard) failed(cause string, messages int) {
	s.mu.Lock()
	s.now.Failed += int64(messages)
	s.now.Errors[cause]++
	s.mu.Unlock()
}

// rotate returns what was recorded since the last rotation. One caller at a time.
func (r *recorder) rotate() *interval {
	sum := newInterval()
	for _, s := range r.shards {
		s.mu.Lock()
		s.now, s.spare = s.spare, s.now
		s.mu.Unlock()
		sum.add(s.spare)
		s.spare.reset()
	}
	return sum
}

func clampLatency(d time.Duration) int64 {
	return min(max(d.Microseconds(), 1), latencyMax.Microseconds())
}
