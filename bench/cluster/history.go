package cluster

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"sync"
	"time"
)

// ID names a message of a Workload: the seq-th of a key. All messages of a key go to one queue, one after the other.
type ID struct {
	Key int
	Seq int
}

func (id ID) String() string { return fmt.Sprintf("%d/%d", id.Key, id.Seq) }

// body is the text of a message, a function of its name: what is read can be compared without keeping what was sent.
func (id ID) body(run string) []byte {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %s", run, id)
	const shortest, spread = 64, 1500
	sum := h.Sum64()
	b := make([]byte, 0, shortest+spread)
	b = fmt.Appendf(b, "%s %d %d %016x ", run, id.Key, id.Seq, sum)
	for size := shortest + int(sum%spread); len(b) < size; {
		b = append(b, byte('a'+(sum>>(len(b)%57))%26))
	}
	return b
}

// parseBody returns the name of a message, and false if its body is not exactly what was sent under that name.
func parseBody(run string, body []byte) (ID, bool) {
	var from string
	var id ID
	if _, err := fmt.Fscanf(bytes.NewReader(body), "%s %d %d ", &from, &id.Key, &id.Seq); err != nil {
		return ID{}, false
	}
	return id, bytes.Equal(body, id.body(run))
}

// Send is one message that a producer sent, in one or several attempts.
type Send struct {
	ID
	Queue        int32
	Began, Ended time.Time
	Acked        bool
	Degraded     bool  // acknowledged with the status that fewer replicas hold it than were asked for
	Uncertain    int   // attempts that may have been carried out although they were not acknowledged
	Attempts     int   // all of them
	Offset       int64 // in its queue, if it was acknowledged
	Physical     int64 // its byte position in the log, likewise
	MsgID        string
	LastError    string // of the last attempt that was not acknowledged
}

// Delivery is one message that a consumer got.
type Delivery struct {
	ID
	Known    bool // its body is what was sent under ID
	Queue    int32
	Offset   int64
	Consumer int
	At       time.Time
}

// Commit is a consumer's progress that the broker has acknowledged.
type Commit struct {
	Consumer int
	Queue    int32
	Offset   int64
	At       time.Time // of the acknowledgement
}

// History is what happened to a workload.
type History struct {
	Run        string // in every body
	Queues     int32
	Sends      []Send
	Deliveries []Delivery
	Commits    []Commit
	Anomalies  []string // answers that must not come
}

// Acked counts the sends that were acknowledged.
func (h *History) Acked() int { return h.count(func(s *Send) bool { return s.Acked }) }

// Failed counts the sends that were not.
func (h *History) Failed() int { return h.count(func(s *Send) bool { return !s.Acked }) }

func (h *History) count(which func(*Send) bool) (n int) {
	for i := range h.Sends {
		if which(&h.Sends[i]) {
			n++
		}
	}
	return n
}

// AckedWith counts the acknowledgements in a stretch of time: plain ones, and those with the status of fewer replicas.
func (h *History) AckedWith(from, to time.Time) (plain, degraded int) {
	for _, s := range h.Sends {
		switch {
		case !s.Acked || s.Began.Before(from) || s.Ended.After(to):
		case s.Degraded:
			degraded++
		default:
			plain++
		}
	}
	return plain, degraded
}

// LongestGap is the longest time without an acknowledgement, and when it began.
func (h *History) LongestGap() (gap time.Duration, from time.Time) {
	var last time.Time
	for _, s := range sortedByEnd(h.Sends) {
		if !s.Acked {
			continue
		}
		if d := s.Ended.Sub(last); !last.IsZero() && d > gap {
			gap, from = d, last
		}
		last = s.Ended
	}
	return gap, from
}

// recorder gathers a history from several goroutines.
type recorder struct {
	mu sync.Mutex
	h  History
	// of Workload.Acked and its likes
	acked, delivered int
}

func (r *recorder) sent(s Send) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Sends = append(r.h.Sends, s)
	if s.Acked {
		r.acked++
	}
}

func (r *recorder) got(d []Delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Deliveries = append(r.h.Deliveries, d...)
	r.delivered += len(d)
}

func (r *recorder) committed(c Commit) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Commits = append(r.h.Commits, c)
}

// anomaliesMax bounds what is kept of answers that must not come.
const anomaliesMax = 50

func (r *recorder) anomaly(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.h.Anomalies) < anomaliesMax {
		r.h.Anomalies = append(r.h.Anomalies, fmt.Sprintf(format, args...))
	}
}
