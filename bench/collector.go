package bench

import "time"

// phase is the part of a run that an interval belongs to.
type phase uint8

const (
	phaseWarmup phase = iota
	phaseMeasure
	phaseDrain // load has stopped, answers to what was sent are still arriving
)

func (p phase) String() string {
	switch p {
	case phaseWarmup:
		return "warm-up"
	case phaseMeasure:
		return "measure"
	default:
		return "drain"
	}
}

// collector sorts intervals into the phases of a run. It reads no clock: the caller says which phase an interval belongs
// to and how long it was. Not safe for concurrent use.
type collector struct {
	warmup   *interval
	measured *interval
	drained  *interval
	elapsed  time.Duration // of the measurement
	series   []Second
}

func newCollector() *collector {
	return &collector{warmup: newInterval(), measured: newInterval(), drained: newInterval()}
}

// take adds an interval of the given length to a phase.
func (c *collector) take(p phase, iv *interval, length time.Duration) {
	switch p {
	case phaseWarmup:
		c.warmup.add(iv)
	case phaseMeasure:
		c.measured.add(iv)
		c.elapsed += length
		c.series = append(c.series, newSecond(c.elapsed, length, iv))
	case phaseDrain:
		c.drained.add(iv)
	}
}

// latency returns the percentiles of the measurement. With a fixed rate the messages whose turn had come within the
// measurement but whose answer came after it belong to it: leaving them out would hide exactly those that waited.
func (c *collector) latency(withDrained bool) Latency {
	if !withDrained {
		return newLatency(c.measured.Latency)
	}
	all := c.measured.clone()
	all.add(c.drained)
	return newLatency(all.Latency)
}
