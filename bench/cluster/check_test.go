package cluster

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// whole is a history of a few messages with which everything is right, and what was read.
func whole() (*History, Evidence) {
	h := &History{Run: "r", Queues: 2}
	began := time.Now()
	var read []Record
	for seq := range 5 {
		for key := range 4 {
			queue := int32(key % 2)
			offset := int64(seq*2 + key/2)
			at := began.Add(time.Duration(seq*4+key) * time.Second)
			h.Sends = append(h.Sends, Send{ID: ID{key, seq}, Queue: queue, Began: at, Ended: at.Add(time.Millisecond), Acked: true, Attempts: 1, Offset: offset, Physical: offset * 100})
			read = append(read, Record{ID: ID{key, seq}, Known: true, Queue: queue, Offset: offset, Physical: offset * 100})
			h.Deliveries = append(h.Deliveries, Delivery{ID: ID{key, seq}, Known: true, Queue: queue, Offset: offset, At: at})
		}
	}
	return h, Evidence{Read: read, AckedMin: 20, DeliveredMin: 19, InSequence: true}
}

// at finds a record by its message.
func at(e Evidence, id ID) *Record {
	return &e.Read[slices.IndexFunc(e.Read, func(r Record) bool { return r.ID == id })]
}

// Every kind of harm is found, and a run without harm passes.
func TestCheckFindsHarm(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(h *History, e *Evidence)
		want string
	}{
		"none": {func(*History, *Evidence) {}, ""},
		"an acknowledged message is lost": {func(_ *History, e *Evidence) {
			e.Read = slices.DeleteFunc(e.Read, func(r Record) bool { return r.ID == ID{3, 4} })
		}, "I1 acknowledged and lost"},
		"it is lost where losing is allowed": {func(h *History, e *Evidence) {
			e.LossAllowed = true
			e.Read = slices.DeleteFunc(e.Read, func(r Record) bool { return r.ID == ID{3, 4} })
			h.Deliveries = slices.DeleteFunc(h.Deliveries, func(d Delivery) bool { return d.ID == ID{3, 4} })
		}, ""},
		"it is lost and was read by a consumer": {func(_ *History, e *Evidence) {
			e.LossAllowed = true
			e.Read = slices.DeleteFunc(e.Read, func(r Record) bool { return r.ID == ID{3, 4} })
		}, "I10 phantom"},
		"a message lies at another offset": {func(_ *History, e *Evidence) {
			a, b := at(*e, ID{0, 0}), at(*e, ID{2, 0})
			a.Offset, b.Offset = b.Offset, a.Offset
		}, "I1 acknowledged and lost"},
		"its id is wrong": {func(_ *History, e *Evidence) { at(*e, ID{0, 1}).Physical++ }, "I1 message id"},
		"a hole": {func(_ *History, e *Evidence) {
			for i := range e.Read {
				if r := &e.Read[i]; r.Queue == 0 && r.Offset > 3 {
					r.Offset++
				}
			}
		}, "I4 hole or reuse"},
		"a body that nobody sent":    {func(_ *History, e *Evidence) { at(*e, ID{1, 1}).Known = false }, "I2 phantom"},
		"a message in another queue": {func(h *History, _ *Evidence) { h.Sends[0].Queue = 1 }, "I2 phantom"},
		"a copy without a reason": {func(_ *History, e *Evidence) {
			e.Read = append(e.Read, Record{ID: ID{1, 4}, Known: true, Queue: 1, Offset: 10})
		}, "I3 duplicate"},
		"a copy of an attempt without answer": {func(h *History, e *Evidence) {
			last := &h.Sends[slices.IndexFunc(h.Sends, func(s Send) bool { return s.ID == ID{3, 4} })]
			last.Attempts, last.Uncertain = 2, 1
			e.Read = append(e.Read, Record{ID: ID{3, 4}, Known: true, Queue: 1, Offset: 10})
		}, ""},
		"a late copy": {func(h *History, e *Evidence) {
			h.Sends[0].Attempts, h.Sends[0].Uncertain = 2, 1
			e.Read = append(e.Read, Record{ID: h.Sends[0].ID, Known: true, Queue: 0, Offset: 10})
		}, "I5 order"},
		"a message that is skipped": {func(h *History, e *Evidence) {
			for i := range h.Sends {
				if h.Sends[i].ID == (ID{0, 2}) {
					h.Sends[i].Acked, h.Sends[i].Uncertain = false, 1
				}
			}
			e.Read = slices.DeleteFunc(e.Read, func(r Record) bool { return r.ID == ID{0, 2} })
		}, "I5 order"},
		"a later send before an earlier one": {func(h *History, e *Evidence) {
			h.Sends[4].Offset, h.Sends[6].Offset = h.Sends[6].Offset, h.Sends[4].Offset // 0/1 and 2/1
			a, b := at(*e, ID{0, 1}), at(*e, ID{2, 1})
			a.Offset, b.Offset = b.Offset, a.Offset
		}, "I6 real time"},
		"a consumer read something else":         {func(h *History, _ *Evidence) { h.Deliveries[3].ID = ID{1, 0} }, "I10 phantom"},
		"a consumer got a body that nobody sent": {func(h *History, _ *Evidence) { h.Deliveries[3].Known = false }, "I2 phantom"},
		"a consumer missed one":                  {func(h *History, _ *Evidence) { h.Deliveries = slices.Delete(h.Deliveries, 4, 5) }, "I4 delivery"},
		"a replica has something else": {func(_ *History, e *Evidence) {
			other := slices.Clone(e.Read)
			other[0].ID, other[2].ID = other[2].ID, other[0].ID
			e.Replicas = []*Replica{{Name: "n1", Records: other}}
		}, "I4 one offset, two messages"},
		"a replica lacks one": {func(_ *History, e *Evidence) {
			e.Replicas = []*Replica{{Name: "n1", Records: e.Read[:len(e.Read)-1]}}
		}, "I1 acknowledged and lost"},
		"an answer that must not come": {func(h *History, _ *Evidence) { h.Anomalies = []string{"code 21"} }, "anomaly"},
		"nothing happened":             {func(_ *History, e *Evidence) { e.AckedMin = 21 }, "vacuous"},
	} {
		t.Run(name, func(t *testing.T) {
			h, e := whole()
			c.harm(h, &e)
			v := Check(h, e)
			if c.want == "" && len(v.Violations) > 0 || c.want != "" && !slices.ContainsFunc(v.Violations, func(s string) bool { return strings.HasPrefix(s, c.want) }) {
				t.Errorf("found %q, want %q", v.Violations, c.want)
			}
		})
	}
}

func TestCheckProgress(t *testing.T) {
	killed := time.Now()
	h := &History{
		Commits: []Commit{
			{Queue: 0, Offset: 5, At: killed.Add(-2 * time.Second)}, {Queue: 0, Offset: 8, At: killed.Add(-time.Millisecond)},
			{Consumer: 1, Queue: 0, Offset: 9, At: killed.Add(-2 * time.Second)},
		},
		Deliveries: []Delivery{{Queue: 0, Offset: 8}},
	}
	before := killed.Add(-time.Second)
	for offset, violations := range map[int64]int{5: 0, 8: 0, 9: 0, 4: 1, 10: 1} {
		if got := CheckProgress(h, 0, map[int32]int64{0: offset}, before); len(got) != violations {
			t.Errorf("progress %d: %q", offset, got)
		}
	}
	if got := CheckProgress(h, 0, map[int32]int64{}, before); len(got) != 1 {
		t.Errorf("no progress at all: %q", got)
	}
}

func TestBodiesTellOfThemselves(t *testing.T) {
	for seq := range 100 {
		body := ID{7, seq}.body("r")
		if id, known := parseBody("r", body); !known || id != (ID{7, seq}) {
			t.Fatalf("%v %v of %s", id, known, body)
		}
		body[len(body)-1]++
		if _, known := parseBody("r", body); known {
			t.Fatalf("changed, and taken for whole: %s", body)
		}
	}
	if _, known := parseBody("r", ID{7, 1}.body("another")); known {
		t.Error("the body of another run is taken for one's own")
	}
}
