package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Evidence is what a history is held against.
type Evidence struct {
	Read     []Record   // of the topic, through the protocol, after everything has healed
	Replicas []*Replica // after everything has ended
	// AckedMin and DeliveredMin make a run that proves nothing fail.
	AckedMin, DeliveredMin int
	// LossAllowed: acknowledged messages may be gone (asynchronous modes), nothing else may be wrong.
	LossAllowed bool
	// InSequence: the producers sent each message until it was acknowledged, so no key may skip or go back.
	InSequence bool
}

// Verdict is what Check finds.
type Verdict struct {
	Violations []string // first ones of each kind
	Lost       []Send   // acknowledged and not read
	Acked      int
	Failed     int // sends that were not acknowledged
	Duplicates int // copies beyond the first
}

// perKind bounds how many violations of a kind are told one by one.
const perKind = 5

// checker gathers violations.
type checker struct {
	h       *History
	v       Verdict
	kinds   map[string]int
	bySend  map[ID]*Send
	exposed map[place]ID // where something was seen, and what
}

// place is a position in a queue.
type place struct {
	queue  int32
	offset int64
}

// Check holds a history against what is there. The invariants are those of a log that is the same on every replica:
// every acknowledged message is there once, at its offset (I1); nothing is read that was not sent (I2); copies come only
// from attempts whose outcome was unknown (I3); offsets of a queue have no hole and are given once (I4); messages of a key
// lie in the order in which they were sent (I5), and a message whose send began after another's was acknowledged lies
// behind it (I6); the logs are the same bytes (I7); what a consumer got is what lies there (I10).
func Check(h *History, e Evidence) Verdict {
	c := &checker{h: h, kinds: map[string]int{}, bySend: map[ID]*Send{}, exposed: map[place]ID{}}
	for i := range h.Sends {
		s := &h.Sends[i]
		c.bySend[s.ID] = s
		c.v.Failed += b2i(!s.Acked)
		c.v.Acked += b2i(s.Acked)
	}
	if c.v.Acked < e.AckedMin || len(h.Deliveries) < e.DeliveredMin {
		c.add("vacuous", "%d acknowledged (want %d), %d delivered (want %d): the run proves nothing", c.v.Acked, e.AckedMin, len(h.Deliveries), e.DeliveredMin)
	}
	for _, a := range h.Anomalies {
		c.add("anomaly", "%s", a)
	}
	found := c.copies("read through the protocol", e.Read, e)
	for i := range h.Sends {
		s := &h.Sends[i]
		if s.Acked && len(found[s.ID]) == 0 {
			c.v.Lost = append(c.v.Lost, *s)
		}
		c.v.Duplicates += max(0, len(found[s.ID])-1)
	}
	for _, r := range e.Replicas {
		c.copies("in the log of "+r.Name, r.Records, e)
	}
	if len(e.Replicas) > 1 {
		for _, d := range CompareLogs(e.Replicas) {
			c.add("logs", "%s", d)
		}
	}
	c.realTime()
	c.deliveries()
	for kind, n := range c.kinds {
		if n > perKind {
			c.v.Violations = append(c.v.Violations, fmt.Sprintf("%s: %d in all", kind, n))
		}
	}
	slices.Sort(c.v.Violations)
	return c.v
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (c *checker) add(kind, format string, args ...any) {
	if c.kinds[kind]++; c.kinds[kind] <= perKind {
		c.v.Violations = append(c.v.Violations, kind+": "+fmt.Sprintf(format, args...))
	}
}

// copies checks one complete list of what is stored, and returns it by message.
func (c *checker) copies(where string, records []Record, e Evidence) map[ID][]Record {
	records = slices.SortedFunc(slices.Values(records), func(a, b Record) int {
		return cmp.Or(cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.Offset, b.Offset))
	})
	found := map[ID][]Record{}
	for i, r := range records {
		if i > 0 && r.Queue == records[i-1].Queue && r.Offset != records[i-1].Offset+1 {
			c.add("I4 hole or reuse", "%s: queue %d has offset %d behind %d", where, r.Queue, r.Offset, records[i-1].Offset)
		}
		if s := c.bySend[r.ID]; !r.Known || s == nil || s.Queue != r.Queue {
			c.add("I2 phantom", "%s: queue %d offset %d has what nobody sent there (%v, intact %v)", where, r.Queue, r.Offset, r.ID, r.Known)
			continue
		}
		found[r.ID] = append(found[r.ID], r)
		c.expose(where, r)
	}
	for i := range c.h.Sends {
		c.send(where, &c.h.Sends[i], found[c.h.Sends[i].ID], e)
	}
	c.keyOrder(where, records, e)
	return found
}

// expose notes what lies at an offset: it must be the same everywhere and at any time.
func (c *checker) expose(where string, r Record) {
	at := place{r.Queue, r.Offset}
	if id, seen := c.exposed[at]; seen && id != r.ID {
		c.add("I4 one offset, two messages", "%s: queue %d offset %d has %v, elsewhere %v", where, r.Queue, r.Offset, r.ID, id)
	}
	c.exposed[at] = r.ID
}

// send checks the copies of one message.
func (c *checker) send(where string, s *Send, copies []Record, e Evidence) {
	at := slices.IndexFunc(copies, func(r Record) bool { return r.Offset == s.Offset })
	switch {
	case s.Acked && at < 0 && e.LossAllowed && len(copies) == 0:
	case s.Acked && at < 0:
		var offsets []string
		for _, r := range copies {
			offsets = append(offsets, fmt.Sprint(r.Offset))
		}
		c.add("I1 acknowledged and lost", "%s: %v, acknowledged at queue %d offset %d after %v (%v), is not there; copies at [%s]", where, s.ID, s.Queue, s.Offset, s.Ended.Sub(s.Began).Round(time.Millisecond), s.Ended.Format(clock), strings.Join(offsets, " "))
	case s.Acked && copies[at].Physical != s.Physical:
		c.add("I1 message id", "%s: %v lies at byte %d, its id says %d", where, s.ID, copies[at].Physical, s.Physical)
	}
	allowed := s.Uncertain + b2i(s.Acked)
	if len(copies) > allowed {
		c.add("I3 duplicate", "%s: %d copies of %v; %d attempts, of which %d may have been carried out", where, len(copies), s.ID, s.Attempts, allowed)
	}
}

// clock is how moments are written, as in the servers' logs.
const clock = "15:04:05.000"

// keyOrder checks the order of the messages of each key in what is stored; records are in order of their offsets.
func (c *checker) keyOrder(where string, records []Record, e Evidence) {
	last := map[int]Record{}
	for _, r := range records {
		if !r.Known || c.bySend[r.ID] == nil {
			continue
		}
		before, seen := last[r.Key]
		switch {
		case seen && r.Seq < before.Seq && (e.InSequence || c.bySend[r.ID].Acked && c.bySend[r.ID].Offset == r.Offset):
			// Without InSequence an attempt that was given up may come late; the acknowledged copy may not.
			c.add("I5 order", "%s: queue %d: %v at offset %d lies behind %v at %d", where, r.Queue, r.ID, r.Offset, before.ID, before.Offset)
		case e.InSequence && !seen && r.Seq != 0, e.InSequence && seen && r.Seq > before.Seq+1:
			c.add("I5 order", "%s: queue %d: %v at offset %d follows %v", where, r.Queue, r.ID, r.Offset, before.ID)
		}
		if !seen || r.Seq > before.Seq {
			last[r.Key] = r
		}
	}
}

// realTime checks that a message whose send began after another's acknowledgement lies behind it.
func (c *checker) realTime() {
	queues := map[int32][]*Send{}
	lost := map[ID]bool{} // their offsets were given again, as asynchronous modes have it; elsewhere losing them is told already
	for _, s := range c.v.Lost {
		lost[s.ID] = true
	}
	for i := range c.h.Sends {
		if s := &c.h.Sends[i]; s.Acked && !lost[s.ID] {
			queues[s.Queue] = append(queues[s.Queue], s)
		}
	}
	for _, sends := range queues {
		ended := slices.SortedFunc(slices.Values(sends), func(a, b *Send) int { return a.Ended.Compare(b.Ended) })
		slices.SortFunc(sends, func(a, b *Send) int { return a.Began.Compare(b.Began) })
		var highest *Send // of those that ended before
		next := 0
		for _, s := range sends {
			for ; next < len(ended) && ended[next].Ended.Before(s.Began); next++ {
				if highest == nil || ended[next].Offset > highest.Offset {
					highest = ended[next]
				}
			}
			// An acknowledgement may be that of the last of several attempts; what began then is not known to be later.
			if highest != nil && s.Offset <= highest.Offset {
				c.add("I6 real time", "queue %d: %v began after %v was acknowledged and has offset %d, not above %d", s.Queue, s.ID, highest.ID, s.Offset, highest.Offset)
			}
		}
	}
}

// deliveries checks what consumers got.
func (c *checker) deliveries() {
	type reader struct {
		consumer int
		queue    int32
	}
	next := map[reader]int64{}
	for _, d := range c.h.Deliveries {
		who := reader{d.Consumer, d.Queue}
		if want, seen := next[who]; seen && d.Offset != want || !seen && d.Offset != 0 {
			c.add("I4 delivery", "consumer %d got offset %d of queue %d, not %d", d.Consumer, d.Offset, d.Queue, next[who])
		}
		next[who] = d.Offset + 1
		if !d.Known {
			c.add("I2 phantom", "consumer %d got something else than was sent at queue %d offset %d (%s)", d.Consumer, d.Queue, d.Offset, d.At.Format(clock))
			continue
		}
		if id, there := c.exposed[place{d.Queue, d.Offset}]; !there || id != d.ID {
			c.add("I10 phantom", "consumer %d got %v at queue %d offset %d (%s), where there is %v (anything: %v) now", d.Consumer, d.ID, d.Queue, d.Offset, d.At.Format(clock), id, there)
		}
	}
}

// CheckProgress reports consumers whose progress went back: offsets are those found after a fault, by queue; every commit
// that was acknowledged before the moment given must be in them.
func CheckProgress(h *History, consumer int, offsets map[int32]int64, before time.Time) []string {
	var violations []string
	delivered := map[int32]int64{}
	for _, d := range h.Deliveries {
		if d.Consumer == consumer {
			delivered[d.Queue] = max(delivered[d.Queue], d.Offset+1)
		}
	}
	for _, commit := range h.Commits {
		if commit.Consumer == consumer && commit.At.Before(before) && offsets[commit.Queue] < commit.Offset {
			violations = append(violations, fmt.Sprintf("queue %d: progress is %d, and %d was acknowledged at %s", commit.Queue, offsets[commit.Queue], commit.Offset, commit.At.Format(clock)))
		}
	}
	for queue, offset := range offsets {
		if offset > delivered[queue] {
			violations = append(violations, fmt.Sprintf("queue %d: progress is %d, and only %d messages were delivered", queue, offset, delivered[queue]))
		}
	}
	return violations
}
