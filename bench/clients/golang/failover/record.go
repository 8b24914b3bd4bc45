package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// send is one message as its producer saw it; times in microseconds of the epoch.
type send struct {
	key, n     int
	begin, end int64
	status     string // "" if it failed
	reason     string // why it failed
	place      place  // where it was stored, unless it failed
}

// place is where a message lies in a topic.
type place struct {
	broker string
	queue  int
	offset int64
}

// receipt is one call of a listener.
type receipt struct {
	consumer   string
	place      place
	reconsumed int  // also counted by the client itself, when it cannot send a message back
	copied     bool // place is in the retry topic or the dead-letter queue
	begin, end int64
	key, n     int
}

// record is everything that the clients of one workload have reported. Safe for concurrent use.
type record struct {
	mu       sync.Mutex
	sends    []send
	receipts []receipt
	dead     []receipt // of the dead-letter queue
	errs     []error
}

// deadLetters ends the id of a consumer that reads the dead-letter queue.
const deadLetters = "-dead"

// add notes one line of an agent, already split, that begins with what happened and to whom.
func (r *record) add(words []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.parse(words); err != nil {
		r.errs = append(r.errs, fmt.Errorf("%w in %q", err, strings.Join(words, " ")))
	}
}

func (r *record) parse(words []string) error {
	f := fields{words: words[2:]}
	switch words[0] {
	case "sent":
		r.sends = append(r.sends, send{key: f.int(), n: f.int(), begin: f.int64(), end: f.int64(), status: f.text(), place: f.place()})
	case "failed":
		r.sends = append(r.sends, send{key: f.int(), n: f.int(), begin: f.int64(), end: f.int64(), reason: strings.Join(f.words, " ")})
	case "got":
		g := receipt{consumer: words[1], place: f.place(), reconsumed: f.int(), copied: f.text() == "true", begin: f.int64(), end: f.int64()}
		key, n, _ := strings.Cut(f.text(), ":")
		body := fields{words: []string{key, n}}
		g.key, g.n = body.int(), body.int()
		if strings.HasSuffix(g.consumer, deadLetters) {
			r.dead = append(r.dead, g)
		} else {
			r.receipts = append(r.receipts, g)
		}
		return body.err
	default:
		return fmt.Errorf("unknown event")
	}
	return f.err
}

// fields takes words one after the other and keeps the first error.
type fields struct {
	words []string
	err   error
}

func (f *fields) text() string {
	if len(f.words) == 0 {
		if f.err == nil {
			f.err = fmt.Errorf("too few words")
		}
		return ""
	}
	w := f.words[0]
	f.words = f.words[1:]
	return w
}

func (f *fields) int64() int64 {
	n, err := strconv.ParseInt(f.text(), 10, 64)
	if err != nil && f.err == nil {
		f.err = err
	}
	return n
}

func (f *fields) int() int { return int(f.int64()) }

func (f *fields) place() place { return place{f.text(), f.int(), f.int64()} }

// acked counts the messages acknowledged whose sending began after from.
func (r *record) acked(from int64) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, s := range r.sends {
		if s.status != "" && s.begin > from {
			n++
		}
	}
	return n
}

// received counts the calls of listeners.
func (r *record) received() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.receipts)
}

// active counts the consumers that have received something.
func (r *record) active() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	who := make(map[string]bool)
	for _, g := range r.receipts {
		who[g.consumer] = true
	}
	return len(who)
}

// missing lists the acknowledged messages that no consumer has received, or with dead that are not in the dead-letter queue.
func (r *record) missing(dead bool) []send {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := make(map[[2]int]bool)
	receipts := r.receipts
	if dead {
		receipts = r.dead
	}
	for _, g := range receipts {
		seen[[2]int{g.key, g.n}] = true
	}
	var missing []send
	for _, s := range r.sends {
		if s.status != "" && !seen[[2]int{s.key, s.n}] {
			missing = append(missing, s)
		}
	}
	return missing
}

// figures are what is printed of one workload.
type figures struct {
	Acked         int            `json:"acked"`
	Failed        int            `json:"failedSends"`
	UnderWay      int            `json:"failedUnderWay,omitempty"` // of the failed ones: see underWay
	Statuses      map[string]int `json:"otherStatuses,omitempty"`  // other than SEND_OK
	Reasons       map[string]int `json:"reasons,omitempty"`        // of failures
	GapMs         int64          `json:"longestGapMs"`             // between two acknowledgements
	SlowestMs     int64          `json:"slowestSendMs"`            // acknowledged or not
	ReceiveGapMs  int64          `json:"longestReceiveGapMs"`      // between two receipts
	Lost          int            `json:"lost"`                     // acknowledged and never received
	StoredTwice   int            `json:"storedTwice"`              // at a second place, after an uncertain outcome
	ReceivedTwice int            `json:"receivedTwice"`            // from the same place
	Dead          int            `json:"deadLetters,omitempty"`
}

// judge computes the figures and lists what must never be: losses, changes of what was acknowledged, broken order.
func (r *record) judge(w workload, x expectation) (figures, []error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := figures{Statuses: make(map[string]int), Reasons: make(map[string]int)}
	errs := slices.Clone(r.errs)
	var acks, ins []int64
	for _, s := range r.sends {
		f.SlowestMs = max(f.SlowestMs, (s.end-s.begin)/1000)
		if s.status == "" {
			f.Failed++
			if underWay(s) {
				f.UnderWay++
			}
			f.Reasons[shorten(s.reason)]++
			continue
		}
		f.Acked++
		acks = append(acks, s.end)
		if s.status != "SEND_OK" {
			f.Statuses[s.status]++
		}
	}
	for _, g := range r.receipts {
		ins = append(ins, g.begin)
	}
	f.GapMs, f.ReceiveGapMs = longestGap(acks)/1000, longestGap(ins)/1000
	errs = append(errs, r.judgePlaces(&f, x.async)...)
	if w.orderly {
		errs = append(errs, r.judgeOrder()...)
	}
	if w.refuse {
		errs = append(errs, r.judgeRetries(&f, w)...)
	}
	return f, errs
}

// underWay says that a send failed because its first attempt got no answer. Java clients, of either version, now and then let a request
// that is under way at a kill wait for its time-out although they have noticed the reset of its connection; nothing is left of the send's time then for another
// attempt. No server can help that, so it is counted and printed, and not held against rmq.
func underWay(s send) bool { return s.end-s.begin >= sendTimeoutMs*1000 }

// judgePlaces compares what was acknowledged with what came from there. With async, what was acknowledged may be lost, and its place taken.
func (r *record) judgePlaces(f *figures, async bool) (errs []error) {
	at := make(map[place][2]int) // what lies where
	bodies := make(map[[2]int]map[place]bool)
	for _, g := range r.receipts {
		body := [2]int{g.key, g.n}
		if g.copied {
			continue
		}
		if was, ok := at[g.place]; ok {
			f.ReceivedTwice++
			if was != body {
				errs = append(errs, fmt.Errorf("at %v lay %v, now %v", g.place, was, body))
			}
		}
		at[g.place] = body
		if bodies[body] == nil {
			bodies[body] = make(map[place]bool)
		}
		bodies[body][g.place] = true
	}
	acked := make(map[place]send)
	for _, s := range r.sends {
		if s.status == "" {
			continue
		}
		body := [2]int{s.key, s.n}
		if other, ok := acked[s.place]; ok && !async {
			errs = append(errs, fmt.Errorf("two messages acknowledged at %v: %d:%d and %d:%d", s.place, other.key, other.n, s.key, s.n))
		}
		acked[s.place] = s
		switch {
		case len(bodies[body]) == 0 && async:
			f.Lost++
		case len(bodies[body]) == 0:
			f.Lost++
			errs = append(errs, fmt.Errorf("LOST: %d:%d, acknowledged with %s at %v", s.key, s.n, s.status, s.place))
		case !bodies[body][s.place]:
			errs = append(errs, fmt.Errorf("%d:%d was acknowledged at %v but lies at %v", s.key, s.n, s.place, bodies[body]))
		}
	}
	for _, places := range bodies {
		f.StoredTwice += len(places) - 1
	}
	return errs
}

// judgeOrder requires that every key's messages are stored and received in order, and that no two listeners are in one queue at a time.
func (r *record) judgeOrder() (errs []error) {
	byPlace := slices.Clone(r.receipts)
	slices.SortFunc(byPlace, func(a, b receipt) int { return comparePlaces(a.place, b.place) })
	byPlace = slices.CompactFunc(byPlace, func(a, b receipt) bool { return a.place == b.place })
	if err := inOrder(byPlace); err != nil {
		errs = append(errs, fmt.Errorf("stored order: %w", err))
	}
	byTime := slices.Clone(r.receipts)
	slices.SortStableFunc(byTime, func(a, b receipt) int { return int(a.begin - b.begin) })
	if err := inOrder(byTime); err != nil {
		errs = append(errs, fmt.Errorf("order of receipt: %w", err))
	}
	inside := make(map[place]receipt) // the last one in each queue; offset 0
	for _, g := range byTime {
		q := place{broker: g.place.broker, queue: g.place.queue}
		if other, ok := inside[q]; ok && other.end > g.begin {
			errs = append(errs, fmt.Errorf("%s entered queue %s/%d at %d, %s left it at %d only", g.consumer, q.broker, q.queue, g.begin, other.consumer, other.end))
		}
		if g.end > inside[q].end {
			inside[q] = g
		}
	}
	return errs
}

func comparePlaces(a, b place) int {
	if c := strings.Compare(a.broker, b.broker); c != 0 {
		return c
	}
	if a.queue != b.queue {
		return a.queue - b.queue
	}
	return int(a.offset - b.offset)
}

// inOrder requires of every key the numbers from 0 on, once repeats of a suffix already seen are left out: 0 1 2 1 2 3 is in order, 0 1 2 1 3 is not.
func inOrder(receipts []receipt) error {
	type progress struct{ last, highest int } // last < highest: within a repeat
	keys := make(map[int]progress)
	for _, g := range receipts {
		p, ok := keys[g.key]
		if !ok {
			p = progress{-1, -1}
		}
		switch {
		case g.n == p.last+1:
		case g.n <= p.last: // a repeat begins
		default:
			return fmt.Errorf("key %d: %d came after %d (the highest was %d), from %v", g.key, g.n, p.last, p.highest, g.place)
		}
		keys[g.key] = progress{g.n, max(p.highest, g.n)}
	}
	return nil
}

// judgeRetries requires that every message was copied to the retry topic as often as allowed, each time with the next number, and then lies once
// in the dead-letter queue.
func (r *record) judgeRetries(f *figures, w workload) (errs []error) {
	f.Dead = len(r.dead)
	dead, retries := copies(r.dead), copies(r.receipts)
	var want []int
	for i := range w.maxReconsume {
		want = append(want, i+1)
	}
	for _, s := range r.sends {
		body := [2]int{s.key, s.n}
		if s.status == "" {
			continue
		}
		if n := len(dead[body]); n != 1 {
			errs = append(errs, fmt.Errorf("%d:%d lies %d times in the dead-letter queue", s.key, s.n, n))
		}
		got := slices.Sorted(maps.Values(retries[body]))
		if !slices.Equal(got, want) {
			errs = append(errs, fmt.Errorf("%d:%d came back with the numbers %v, not %v", s.key, s.n, got, want))
		}
	}
	return errs
}

// copies lists by message where copies of it lie, and with which number of retries.
func copies(receipts []receipt) map[[2]int]map[place]int {
	all := make(map[[2]int]map[place]int)
	for _, g := range receipts {
		body := [2]int{g.key, g.n}
		if !g.copied {
			continue
		}
		if all[body] == nil {
			all[body] = make(map[place]int)
		}
		if n, ok := all[body][g.place]; !ok || g.reconsumed < n {
			all[body][g.place] = g.reconsumed
		}
	}
	return all
}

// longestGap is the longest time between two neighbours.
func longestGap(times []int64) (longest int64) {
	times = slices.Sorted(slices.Values(times))
	for i := 1; i < len(times); i++ {
		longest = max(longest, times[i]-times[i-1])
	}
	return longest
}

// shorten cuts a reason down to what is the same for many messages.
func shorten(reason string) string {
	const enough = 120
	var b strings.Builder
	for _, r := range reason {
		if r >= '0' && r <= '9' {
			r = '#'
		}
		if s := b.String(); r == '#' && strings.HasSuffix(s, "#") {
			continue
		}
		if b.Len() >= enough {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}
