package bench

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Comparison is the outcome of "rmq bench compare", as written to its JSON file.
type Comparison struct {
	StartedAt  time.Time       `json:"started_at"`
	Machine    Machine         `json:"machine"`
	Contenders []ContenderInfo `json:"contenders"`
	Scenarios  []scenario      `json:"scenarios"`
	Rounds     int             `json:"rounds"`
	WarmupS    float64         `json:"warmup_s"`
	BetweenS   float64         `json:"between_s"`
	DurationS  float64         `json:"duration_s"`
	Summary    []Summary       `json:"summary"`
	Samples    []Sample        `json:"samples"`
}

// ContenderInfo names what was measured.
type ContenderInfo struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Sample is one measurement of one contender. Latencies are milliseconds; CPU seconds are per million acknowledged
// messages; Broker figures are the broker's process, its CPU with the name server's.
type Sample struct {
	Contender        string           `json:"contender"`
	Scenario         string           `json:"scenario"`
	Round            int              `json:"round"`
	MsgsPerS         float64          `json:"msgs_per_s"`
	P50              float64          `json:"p50"`
	P99              float64          `json:"p99"`
	P999             float64          `json:"p99.9"`
	Max              float64          `json:"max"`
	Failed           int64            `json:"failed_messages"`
	Errors           map[string]int64 `json:"errors"`
	BrokerCPU        float64          `json:"broker_cpu_s_per_million"`
	ClientCPU        float64          `json:"client_cpu_s_per_million"`
	BrokerRSS        int64            `json:"broker_rss_bytes"`      // at the end of the measurement
	BrokerAnon       int64            `json:"broker_rss_anon_bytes"` // of it, not pages of mapped files
	WrittenPerMsg    float64          `json:"written_bytes_per_message"`
	AcknowledgedLost int64            `json:"acknowledged_lost"` // acknowledged messages that the queues do not hold
}

func newSample(r *Result, used processUsage) Sample {
	perMillion := func(seconds float64) float64 { return round(seconds / float64(r.Messages) * 1e6) }
	s := Sample{
		MsgsPerS: r.MsgsPerS, P50: r.Latency.P50, P99: r.Latency.P99, P999: r.Latency.P999, Max: r.Latency.Max,
		Failed: r.Failed, Errors: r.Errors,
		BrokerCPU: perMillion(used.CPUSeconds), ClientCPU: perMillion(r.Client.CPUSeconds),
		BrokerRSS: used.RSSBytes, BrokerAnon: used.AnonBytes,
		WrittenPerMsg: round(float64(used.WrittenBytes) / float64(r.Messages)),
	}
	if r.Totals.Stored >= 0 {
		s.AcknowledgedLost = max(r.Totals.Messages-r.Totals.Stored, 0)
	}
	return s
}

// Summary is one contender's row of one scenario over all rounds.
type Summary struct {
	Scenario      string `json:"scenario"`
	Contender     string `json:"contender"`
	MsgsPerS      Spread `json:"msgs_per_s"`
	P50           Spread `json:"p50"`
	P99           Spread `json:"p99"`
	P999          Spread `json:"p99.9"`
	BrokerCPU     Spread `json:"broker_cpu_s_per_million"`
	ClientCPU     Spread `json:"client_cpu_s_per_million"`
	BrokerRSS     Spread `json:"broker_rss_bytes"`
	BrokerAnon    Spread `json:"broker_rss_anon_bytes"`
	WrittenPerMsg Spread `json:"written_bytes_per_message"`
	Failed        int64  `json:"failed_messages"` // in all rounds
}

// Spread is a median with the smallest and the largest value.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// newSpread returns the spread of values, of which there must be at least one.
func newSpread(values []float64) Spread {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return Spread{Median: (sorted[(n-1)/2] + sorted[n/2]) / 2, Min: sorted[0], Max: sorted[n-1]}
}

// summarize computes the summary from the samples, scenario by scenario.
func (c *Comparison) summarize() {
	c.Summary = nil
	for _, sc := range c.Scenarios {
		for _, contender := range c.Contenders {
			var of []Sample
			var failed int64
			for _, s := range c.Samples {
				if s.Scenario == sc.Name && s.Contender == contender.Name {
					of, failed = append(of, s), failed+s.Failed
				}
			}
			if len(of) == 0 {
				continue
			}
			spread := func(value func(Sample) float64) Spread {
				var values []float64
				for _, s := range of {
					values = append(values, value(s))
				}
				return newSpread(values)
			}
			c.Summary = append(c.Summary, Summary{
				Scenario: sc.Name, Contender: contender.Name, Failed: failed,
				MsgsPerS:      spread(func(s Sample) float64 { return s.MsgsPerS }),
				P50:           spread(func(s Sample) float64 { return s.P50 }),
				P99:           spread(func(s Sample) float64 { return s.P99 }),
				P999:          spread(func(s Sample) float64 { return s.P999 }),
				BrokerCPU:     spread(func(s Sample) float64 { return s.BrokerCPU }),
				ClientCPU:     spread(func(s Sample) float64 { return s.ClientCPU }),
				BrokerRSS:     spread(func(s Sample) float64 { return float64(s.BrokerRSS) }),
				BrokerAnon:    spread(func(s Sample) float64 { return float64(s.BrokerAnon) }),
				WrittenPerMsg: spread(func(s Sample) float64 { return s.WrittenPerMsg }),
			})
		}
	}
}

// write writes the report to w and, unless dir is empty, report and JSON into dir.
func (c *Comparison) write(w io.Writer, dir, name string) error {
	text := c.markdown()
	if _, err := io.WriteString(w, text); err != nil || dir == "" {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, name+".json"), append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name+".md"), []byte(text), 0o644)
}
