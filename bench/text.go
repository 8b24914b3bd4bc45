package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// WriteText writes the result for a person to read.
func (r *Result) WriteText(w io.Writer) error {
	var b strings.Builder
	wl := r.Workload
	fmt.Fprintf(&b, "%s %s: %s, %d connections", r.Kind, r.Target.Topic, wl.Mode, wl.Connections)
	if wl.Concurrency > 0 {
		fmt.Fprintf(&b, " x %d in flight", wl.Concurrency)
	}
	if wl.Size > 0 {
		fmt.Fprintf(&b, ", %d B", wl.Size)
	}
	if wl.Batch > 1 {
		fmt.Fprintf(&b, ", %d messages per request at most", wl.Batch)
	}
	if wl.Rate > 0 {
		fmt.Fprintf(&b, ", %.0f msgs/s asked for", wl.Rate)
	}
	fmt.Fprintf(&b, ", %d queues on %s\n\n", r.Target.Queues, strings.Join(r.Target.Brokers, ", "))

	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "measured\t%.1f s after %.0f s of warm-up\n", r.Seconds, wl.WarmupS)
	fmt.Fprintf(t, "messages\t%d\n", r.Messages)
	fmt.Fprintf(t, "rate\t%.0f msgs/s, %.1f MB/s\n", r.MsgsPerS, r.MBPerS)
	fmt.Fprintf(t, "failed\t%d\n", r.Failed)
	for _, cause := range sortedKeys(r.Errors) {
		fmt.Fprintf(t, "  %s\t%d requests\n", cause, r.Errors[cause])
	}
	l := r.Latency
	if l.Count > 0 {
		fmt.Fprintf(t, "latency, ms\tmean %.3f, max %.3f\n", l.Mean, l.Max)
		fmt.Fprintf(t, "\tp50 %.3f, p75 %.3f, p90 %.3f, p95 %.3f\n", l.P50, l.P75, l.P90, l.P95)
		fmt.Fprintf(t, "\tp99 %.3f, p99.9 %.3f, p99.99 %.3f\n", l.P99, l.P999, l.P9999)
	}
	fmt.Fprintf(t, "whole run\t%d messages", r.Totals.Messages)
	switch {
	case r.Kind == kindProduce && r.Totals.Stored >= 0:
		fmt.Fprintf(t, ", queues grew by %d", r.Totals.Stored)
	case r.Kind == kindConsume:
		fmt.Fprintf(t, ", %d offsets missed, %d seen again", r.Totals.Gaps, r.Totals.Repeats)
	}
	fmt.Fprintf(t, "\nload generator\t%.1f CPU s, %.0f MiB\n", r.Client.CPUSeconds, float64(r.Client.RSSBytes)/(1<<20))
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
