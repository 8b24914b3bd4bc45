package bench

import (
	"encoding/json"
	"io"
	"math"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Result is the outcome of one produce or consume run, as written by -o json. Rates are per second, MB is 10^6 bytes of
// message bodies, latencies are milliseconds.
type Result struct {
	Kind      string           `json:"kind"` // "produce" or "consume"
	Target    Target           `json:"target"`
	Workload  Workload         `json:"workload"`
	StartedAt time.Time        `json:"started_at"`
	Seconds   float64          `json:"seconds"` // measured, without warm-up
	Messages  int64            `json:"messages"`
	Bytes     int64            `json:"bytes"`
	Requests  int64            `json:"requests"`
	MsgsPerS  float64          `json:"msgs_per_s"`
	MBPerS    float64          `json:"mb_per_s"`
	Failed    int64            `json:"failed_messages"`
	Errors    map[string]int64 `json:"errors"` // failed requests by cause
	Latency   Latency          `json:"latency_ms"`
	Series    []Second         `json:"series"`
	Totals    Totals           `json:"totals"`
	Client    ClientUsage      `json:"client"`
}

// Target says what was measured.
type Target struct {
	NameServers   []string `json:"name_servers"`
	Topic         string   `json:"topic"`
	Group         string   `json:"group"`
	Queues        int      `json:"queues"`
	Brokers       []string `json:"brokers"`        // name=address
	BrokerVersion int32    `json:"broker_version"` // MQVersion ordinal that the broker puts in its answers
}

// Workload says what was asked for.
type Workload struct {
	Mode        string  `json:"mode"`
	Connections int     `json:"connections"`
	Concurrency int     `json:"concurrency"` // requests in flight per connection
	Size        int     `json:"size,omitempty"`
	Batch       int     `json:"batch,omitempty"`
	Rate        float64 `json:"rate,omitempty"` // messages per second over all connections; 0 is closed loop
	WarmupS     float64 `json:"warmup_s"`
	DurationS   float64 `json:"duration_s"`
	Tag         string  `json:"tag,omitempty"`
	From        string  `json:"from,omitempty"`
}

// Totals covers the whole run: warm-up, measurement and what arrived after it.
type Totals struct {
	Messages int64 `json:"messages"`
	Failed   int64 `json:"failed_messages"`
	// Stored is by how much the broker's queues grew during a produce run, -1 when it could not be asked. At least
	// Messages of them have to be there; more is what was stored although its answer was an error or never came, and
	// what others sent to the topic.
	Stored int64 `json:"stored"`
	// Gaps and Repeats are the queue offsets that a consume run missed and saw again.
	Gaps    int64 `json:"gaps"`
	Repeats int64 `json:"repeats"`
}

// ClientUsage is what the load generator itself used during the measurement.
type ClientUsage struct {
	CPUSeconds float64 `json:"cpu_s"`
	RSSBytes   int64   `json:"rss_bytes"`
}

// Latency is a distribution in milliseconds. All figures are 0 when Count is.
type Latency struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P75   float64 `json:"p75"`
	P90   float64 `json:"p90"`
	P95   float64 `json:"p95"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p99.9"`
	P9999 float64 `json:"p99.99"`
	Max   float64 `json:"max"`
}

// Second is one entry of the time series, usually a second long.
type Second struct {
	At       float64 `json:"at"` // end of the interval, seconds since the measurement began
	MsgsPerS float64 `json:"msgs_per_s"`
	Failed   int64   `json:"failed_messages"`
	P50      float64 `json:"p50"`
	P99      float64 `json:"p99"`
	Max      float64 `json:"max"`
}

func newLatency(h *hdrhistogram.Histogram) Latency {
	if h.TotalCount() == 0 {
		return Latency{}
	}
	at := func(q float64) float64 { return milliseconds(h.ValueAtQuantile(q)) }
	return Latency{
		Count: h.TotalCount(), Mean: round(h.Mean() / 1000),
		P50: at(50), P75: at(75), P90: at(90), P95: at(95), P99: at(99), P999: at(99.9), P9999: at(99.99),
		Max: milliseconds(h.Max()),
	}
}

func newSecond(at, length time.Duration, iv *interval) Second {
	s := Second{At: round(at.Seconds()), Failed: iv.Failed, MsgsPerS: perSecond(iv.Messages, length)}
	if iv.Latency.TotalCount() > 0 {
		s.P50 = milliseconds(iv.Latency.ValueAtQuantile(50))
		s.P99 = milliseconds(iv.Latency.ValueAtQuantile(99))
		s.Max = milliseconds(iv.Latency.Max())
	}
	return s
}

// fill sets what the collector gathered.
func (r *Result) fill(c *collector, openLoop bool) {
	r.Seconds = round(c.elapsed.Seconds())
	r.Messages, r.Bytes, r.Requests = c.measured.Messages, c.measured.Bytes, c.measured.Requests
	r.MsgsPerS = perSecond(r.Messages, c.elapsed)
	r.MBPerS = round(perSecond(r.Bytes, c.elapsed) / 1e6)
	r.Failed, r.Errors = c.measured.Failed, c.measured.Errors
	r.Latency = c.latency(openLoop)
	r.Series = c.series
	r.Totals.Messages = c.warmup.Messages + c.measured.Messages + c.drained.Messages
	r.Totals.Failed = c.warmup.Failed + c.measured.Failed + c.drained.Failed
}

// WriteJSON writes the result as one indented JSON object and a newline.
func (r *Result) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

func milliseconds(us int64) float64 { return float64(us) / 1000 }

func perSecond(n int64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return math.Round(float64(n)/d.Seconds()*10) / 10
}

// round keeps three decimals.
func round(v float64) float64 { return math.Round(v*1000) / 1000 }
