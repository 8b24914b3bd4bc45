package namesrv

import (
	"fmt"
	"testing"
)

// BenchmarkRoute is the table's share of a route request: three brokers of three replicas among 50,000 topics.
func BenchmarkRoute(b *testing.B) {
	table, _ := newTable(Limits{})
	for i := range 3 {
		name := fmt.Sprint("b-", i)
		for id := range int64(3) {
			r := leader(broker(name), at(id, fmt.Sprint(name, ".", id, ":10911")), serving(manyTopicsOf(50_000)...))
			if _, err := table.Register(r); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := table.Route("more777", -1); !ok {
			b.Fatal("no route")
		}
	}
}

// BenchmarkRegister is how long a registration of 50,000 topics holds the table: unchanged, as it is every 30 s, and changed.
func BenchmarkRegister(b *testing.B) {
	for _, changed := range []bool{false, true} {
		b.Run(fmt.Sprint("changed=", changed), func(b *testing.B) {
			table, _ := newTable(Limits{})
			r := leader(serving(manyTopicsOf(50_000)...))
			for b.Loop() {
				if changed {
					r.Version.Counter++
				}
				if _, err := table.Register(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func manyTopicsOf(n int) []Topic { return topicsNamed(6, manyTopics(n)...) }
