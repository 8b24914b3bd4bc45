package broker

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Names of what is counted, as the statistics request spells them.
const (
	TopicPutNums = "TOPIC_PUT_NUMS" // by topic
	TopicPutSize = "TOPIC_PUT_SIZE" // by topic
	GroupGetNums = "GROUP_GET_NUMS" // by topic@group
	GroupGetSize = "GROUP_GET_SIZE" // by topic@group
	SendBackNums = "SNDBCK_PUT_NUMS"
	BrokerPut    = "BROKER_PUT_NUMS" // by cluster
	BrokerGet    = "BROKER_GET_NUMS" // by cluster
)

// statKey names one counter.
type statKey struct{ name, topic, group string }

// statsKeysMax bounds how many counters exist; topics and groups are bounded, their pairs are not.
const statsKeysMax = 100_000

// counter is one count with its history: samples every 10 s for the minute, every 10 min for the hour, every hour for
// the day, as RocketMQ keeps them.
type counter struct {
	sum   atomic.Int64
	times atomic.Int64

	mu                sync.Mutex
	minute, hour, day []sample
}

type sample struct {
	at         time.Time
	sum, times int64
}

// Window is the traffic of a counter over a period.
type Window struct {
	Sum     int64
	PerSec  float64
	PerTime float64
}

func (c *counter) add(sum, times int64) {
	c.sum.Add(sum)
	c.times.Add(times)
}

func (c *counter) sampleInto(list *[]sample, now time.Time, keep int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*list = append(*list, sample{now, c.sum.Load(), c.times.Load()})
	if len(*list) > keep {
		*list = slices.Delete(*list, 0, len(*list)-keep)
	}
}

func (c *counter) window(list *[]sample) Window {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(*list) < 2 {
		return Window{}
	}
	first, last := (*list)[0], (*list)[len(*list)-1]
	w := Window{Sum: last.sum - first.sum}
	if s := last.at.Sub(first.at).Seconds(); s > 0 {
		w.PerSec = float64(w.Sum) / s
	}
	if times := last.times - first.times; times > 0 {
		w.PerTime = float64(w.Sum) / float64(times)
	}
	return w
}

// Stats counts the broker's traffic since it started. Counting is safe for concurrent use and cheap.
type Stats struct {
	clock    Clock
	counters sync.Map // statKey -> *counter
	count    atomic.Int64

	putTimes, putFailed, putBytes, putMessages atomic.Int64
	getFound, getMiss, getMessages, getBytes   atomic.Int64
	putMax                                     atomic.Int64 // ns
	buckets                                    [13]atomic.Int64
	recent                                     latencies

	mu      sync.Mutex
	seconds []totals // one a second, newest last, at most 601
	days    dayMarks
}

// totals is a reading of the counters that rates are made of.
type totals struct {
	at                                          time.Time
	putMessages, getFound, getMiss, transferred int64
}

// dayMarks holds the message totals at the last two mornings.
type dayMarks struct {
	day                    int
	yesterday, today       int64
	getYesterday, getToday int64
}

func newStats(clock Clock) *Stats {
	s := &Stats{clock: clock}
	s.days.day = clock.Now().YearDay()
	return s
}

func (s *Stats) counter(name, topic, group string) *counter {
	key := statKey{name, topic, group}
	if c, ok := s.counters.Load(key); ok {
		return c.(*counter)
	}
	if s.count.Load() >= statsKeysMax {
		return &counter{} // counted nowhere rather than growing without bound
	}
	// The names may be parts of a request's text, which must not live as long as the counter.
	key.topic, key.group = strings.Clone(topic), strings.Clone(group)
	c, loaded := s.counters.LoadOrStore(key, &counter{})
	if !loaded {
		s.count.Add(1)
	}
	return c.(*counter)
}

func (s *Stats) sent(topic string, messages, bytes int, took time.Duration) {
	s.putTimes.Add(1)
	s.putMessages.Add(int64(messages))
	s.putBytes.Add(int64(bytes))
	s.counter(TopicPutNums, topic, "").add(int64(messages), 1)
	s.counter(TopicPutSize, topic, "").add(int64(bytes), 1)
	s.counter(BrokerPut, "", "").add(int64(messages), 1)
	s.buckets[latencyBucket(took)].Add(1)
	s.recent.note(took)
	for {
		old := s.putMax.Load()
		if int64(took) <= old || s.putMax.CompareAndSwap(old, int64(took)) {
			return
		}
	}
}

func (s *Stats) sendRefused() { s.putFailed.Add(1) }

func (s *Stats) sentBack(topic, group string) { s.counter(SendBackNums, topic, group).add(1, 1) }

func (s *Stats) pulled(topic, group string, messages, bytes int) {
	s.getFound.Add(1)
	s.getMessages.Add(int64(messages))
	s.getBytes.Add(int64(bytes))
	s.counter(GroupGetNums, topic, group).add(int64(messages), 1)
	s.counter(GroupGetSize, topic, group).add(int64(bytes), 1)
	s.counter(BrokerGet, "", "").add(int64(messages), 1)
}

func (s *Stats) missed() { s.getMiss.Add(1) }

// bucketLimits are the upper ends, in ms, of the classes of putMessageDistributeTime; the last class is open.
var bucketLimits = [12]int64{0, 10, 50, 100, 200, 500, 1000, 2000, 3000, 4000, 5000, 10000}

func latencyBucket(d time.Duration) int {
	ms := d.Milliseconds()
	for i, limit := range bucketLimits {
		if ms <= limit && i == 0 || i > 0 && ms < limit {
			return i
		}
	}
	return len(bucketLimits)
}

// latencies keeps the durations of the newest sends in a ring, for percentiles.
type latencies struct {
	next atomic.Uint64
	ring [4096]atomic.Int64
}

func (l *latencies) note(d time.Duration) {
	l.ring[(l.next.Add(1)-1)%uint64(len(l.ring))].Store(int64(d))
}

func (l *latencies) percentile(p float64) time.Duration {
	n := min(l.next.Load(), uint64(len(l.ring)))
	if n == 0 {
		return 0
	}
	all := make([]int64, n)
	for i := range all {
		all[i] = l.ring[i].Load()
	}
	slices.Sort(all)
	return time.Duration(all[min(int(p*float64(n)), int(n)-1)])
}

// run samples the counters until ctx ends.
func (s *Stats) run(ctx context.Context) {
	tick := 0
	every(ctx, s.clock, time.Second, func() {
		now := s.clock.Now()
		s.sampleTotals(now)
		if tick%10 == 0 {
			s.sampleCounters(now, tick%600 == 0, tick%3600 == 0)
		}
		tick++
	})
}

func (s *Stats) sampleTotals(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seconds = append(s.seconds, totals{now, s.putMessages.Load(), s.getFound.Load(), s.getMiss.Load(), s.getMessages.Load()})
	if len(s.seconds) > 601 {
		s.seconds = slices.Delete(s.seconds, 0, len(s.seconds)-601)
	}
	if day := now.YearDay(); day != s.days.day {
		s.days.day = day
		s.days.yesterday, s.days.today = s.days.today, s.putMessages.Load()
		s.days.getYesterday, s.days.getToday = s.days.getToday, s.getMessages.Load()
	}
}

func (s *Stats) sampleCounters(now time.Time, hour, day bool) {
	s.counters.Range(func(_, v any) bool {
		c := v.(*counter)
		c.sampleInto(&c.minute, now, 7)
		if hour {
			c.sampleInto(&c.hour, now, 7)
		}
		if day {
			c.sampleInto(&c.day, now, 25)
		}
		return true
	})
}

// Traffic returns a counter's last minute, hour and day; ok is false when nothing was counted under that name.
func (s *Stats) Traffic(name, topic, group string) (minute, hour, day Window, ok bool) {
	v, ok := s.counters.Load(statKey{name, topic, group})
	if !ok {
		return
	}
	c := v.(*counter)
	return c.window(&c.minute), c.window(&c.hour), c.window(&c.day), true
}

// Summary is what the runtime information shows of the traffic.
type Summary struct {
	PutTPS, FoundTPS, MissTPS, TotalTPS, TransferredTPS [3]float64 // over 10 s, 60 s, 600 s
	PutTimes, PutFailed, PutBytes, PutMessages          int64
	PutYesterday, PutToday, GetYesterday, GetToday      int64 // totals at those mornings
	GetMessages                                         int64
	PutMax                                              time.Duration
	Put99, Put999                                       time.Duration
	Buckets                                             [13]int64
}

// Summary reads the counters.
func (s *Stats) Summary() Summary {
	sum := Summary{
		PutTimes: s.putTimes.Load(), PutFailed: s.putFailed.Load(), PutBytes: s.putBytes.Load(), PutMessages: s.putMessages.Load(),
		GetMessages: s.getMessages.Load(), PutMax: time.Duration(s.putMax.Load()),
		Put99: s.recent.percentile(0.99), Put999: s.recent.percentile(0.999),
	}
	for i := range sum.Buckets {
		sum.Buckets[i] = s.buckets[i].Load()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sum.PutYesterday, sum.PutToday = s.days.yesterday, s.days.today
	sum.GetYesterday, sum.GetToday = s.days.getYesterday, s.days.getToday
	for i, span := range []int{10, 60, 600} {
		if len(s.seconds) < 2 {
			break
		}
		last := s.seconds[len(s.seconds)-1]
		first := s.seconds[max(len(s.seconds)-1-span, 0)]
		seconds := last.at.Sub(first.at).Seconds()
		if seconds <= 0 {
			continue
		}
		rate := func(a, b int64) float64 { return float64(b-a) / seconds }
		sum.PutTPS[i] = rate(first.putMessages, last.putMessages)
		sum.FoundTPS[i] = rate(first.getFound, last.getFound)
		sum.MissTPS[i] = rate(first.getMiss, last.getMiss)
		sum.TotalTPS[i] = sum.FoundTPS[i] + sum.MissTPS[i]
		sum.TransferredTPS[i] = rate(first.transferred, last.transferred)
	}
	return sum
}
