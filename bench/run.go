package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"
)

const (
	progressInterval = time.Second
	drainTimeout     = 5 * time.Second // for answers to what is in flight when the load stops
)

// load is what a run puts on a broker.
type load interface {
	// begin starts the load. It returns at once; the load goes on until halt.
	begin(now time.Time)
	// halt stops new requests and returns a channel that is closed when the last one in flight has its outcome.
	halt() (drained <-chan struct{})
}

// hooks are called at the two ends of the measurement; nil is nothing to do.
type hooks struct {
	begin, end func()
}

func (h hooks) call(f func()) {
	if f != nil {
		f()
	}
}

// measure runs a load through warm-up, measurement and drain. It ends early, with what it has, when ctx is cancelled or
// done is closed (nil never is). Progress goes to w, one line per second, unless w is nil.
func measure(ctx context.Context, l load, r *recorder, plan common, done <-chan struct{}, h hooks, w io.Writer) (*collector, ClientUsage) {
	c := newCollector()
	progress := &progressLine{w: w, plan: plan}
	defer progress.finish()

	start := time.Now()
	l.begin(start)
	last := start
	take := func(p phase) {
		now := time.Now()
		iv := r.rotate()
		c.take(p, iv, now.Sub(last))
		progress.show(p, now.Sub(start), now.Sub(last), iv)
		last = now
	}
	if plan.warmup > 0 {
		every(ctx, done, plan.warmup, func() { take(phaseWarmup) })
	}
	h.call(h.begin)
	before := selfCPU()
	every(ctx, done, plan.duration, func() { take(phaseMeasure) })
	usage := ClientUsage{CPUSeconds: round(selfCPU() - before)}
	h.call(h.end)
	if u, err := readUsage(syscall.Getpid()); err == nil {
		usage.RSSBytes = u.RSSBytes
	}

	timer := time.NewTimer(drainTimeout)
	defer timer.Stop()
	select {
	case <-l.halt():
	case <-timer.C:
	}
	take(phaseDrain)
	return c, usage
}

// every calls f each progressInterval and once more at the end of length, or when ctx or done ends it early.
func every(ctx context.Context, done <-chan struct{}, length time.Duration, f func()) {
	if ctx.Err() != nil {
		return
	}
	end := time.NewTimer(length)
	defer end.Stop()
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	began := time.Now()
	for {
		select {
		case <-tick.C:
			if length-time.Since(began) > progressInterval/10 { // else the end is at hand and takes this interval too
				f()
			}
			continue
		case <-end.C:
		case <-done:
		case <-ctx.Done():
		}
		f()
		return
	}
}

// selfCPU is the user and system time of this process in seconds.
func selfCPU() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(u.Utime) + seconds(u.Stime)
}

// progressLine shows each interval as a line, which on a terminal takes the place of the one before.
type progressLine struct {
	w     io.Writer // nil shows nothing
	plan  common
	shown bool
}

func (p *progressLine) show(ph phase, at, length time.Duration, iv *interval) {
	if p.w == nil || ph == phaseDrain {
		return
	}
	var b strings.Builder
	total := p.plan.warmup + p.plan.duration
	fmt.Fprintf(&b, "%s %.0f/%.0f s  %.0f msgs/s  %.1f MB/s", ph, at.Seconds(), total.Seconds(),
		perSecond(iv.Messages, length), perSecond(iv.Bytes, length)/1e6)
	if iv.Latency.TotalCount() > 0 {
		fmt.Fprintf(&b, "  p50 %.2f ms  p99 %.2f ms", milliseconds(iv.Latency.ValueAtQuantile(50)), milliseconds(iv.Latency.ValueAtQuantile(99)))
	}
	if iv.Failed > 0 || len(iv.Errors) > 0 {
		fmt.Fprintf(&b, "  failed %d", iv.Failed)
	}
	if !isTerminal(p.w) {
		fmt.Fprintln(p.w, b.String())
		return
	}
	p.shown = true
	fmt.Fprintf(p.w, "\r\x1b[K%s", b.String())
}

// finish ends the line on a terminal.
func (p *progressLine) finish() {
	if p.shown {
		fmt.Fprintln(p.w)
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
