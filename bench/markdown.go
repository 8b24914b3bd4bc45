package bench

import (
	"fmt"
	"strings"
)

// markdown is the report for people: a table per scenario, how the contenders relate, and how it was measured.
func (c *Comparison) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Brokers compared, %s\n\n", c.StartedAt.Format("2006-01-02 15:04 MST"))
	fmt.Fprintf(&b, "%s, %d cores, %d GiB, %s; load generator, name server and broker share them over loopback.\n",
		c.Machine.CPU, c.Machine.Cores, c.Machine.MemoryGiB, c.Machine.Kernel)
	for _, contender := range c.Contenders {
		fmt.Fprintf(&b, "- **%s**: %s\n", contender.Name, contender.Version)
	}
	fmt.Fprintf(&b, "\nMedian of %d rounds (smallest to largest), contenders in turn within a round. Each contender is started with an empty store, "+
		"warmed up with %.0f s of load (%.0f s before each later scenario on the same broker) and measured for %.0f s. "+
		"Flush mode apart, every setting is as shipped. Latency is from the intended send time to the decoded answer.\n",
		c.Rounds, c.WarmupS, c.BetweenS, c.DurationS)
	for _, sc := range c.Scenarios {
		fmt.Fprintf(&b, "\n## %s, %d B bodies\n\n", sc.Title, sc.Size)
		b.WriteString("| contender | msgs/s | p50 ms | p99 ms | p99.9 ms | broker CPU s per 10^6 | client CPU s per 10^6 | broker RSS MiB (anonymous) | written B per msg | failed |\n")
		b.WriteString("|---|---|---|---|---|---|---|---|---|---|\n")
		for _, s := range c.of(sc.Name) {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %.0f (%.0f) | %.0f | %d |\n", s.Contender,
				s.MsgsPerS.text("%.0f"), s.P50.text("%.2f"), s.P99.text("%.2f"), s.P999.text("%.2f"),
				s.BrokerCPU.text("%.1f"), s.ClientCPU.text("%.1f"),
				s.BrokerRSS.Median/(1<<20), s.BrokerAnon.Median/(1<<20), s.WrittenPerMsg.Median, s.Failed)
		}
		c.writeRatios(&b, sc)
	}
	return b.String()
}

// writeRatios relates the first contender to each other one.
func (c *Comparison) writeRatios(b *strings.Builder, sc scenario) {
	rows := c.of(sc.Name)
	if len(rows) < 2 {
		return
	}
	first := rows[0]
	b.WriteString("\n")
	for _, other := range rows[1:] {
		fmt.Fprintf(b, "%s against %s: %s the rate, %s the p99, %s the broker CPU per message, %s the resident memory.\n", first.Contender, other.Contender,
			ratio(first.MsgsPerS, other.MsgsPerS), ratio(first.P99, other.P99), ratio(first.BrokerCPU, other.BrokerCPU), ratio(first.BrokerRSS, other.BrokerRSS))
	}
}

// of returns the summaries of a scenario in the order of the contenders.
func (c *Comparison) of(scenario string) []Summary {
	var rows []Summary
	for _, s := range c.Summary {
		if s.Scenario == scenario {
			rows = append(rows, s)
		}
	}
	return rows
}

func ratio(a, b Spread) string {
	if b.Median == 0 {
		return "?"
	}
	return fmt.Sprintf("%.2f x", a.Median/b.Median)
}

// text shows the median with the extremes, or the median alone where they are equal.
func (s Spread) text(format string) string {
	median := fmt.Sprintf(format, s.Median)
	if s.Min == s.Max {
		return median
	}
	return fmt.Sprintf("%s ("+format+" - "+format+")", median, s.Min, s.Max)
}
