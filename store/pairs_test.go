package store

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func (l *pairList) items() []pair { return flatten(l.chunks) }

func flatten(chunks []*pairChunk) []pair {
	var out []pair
	for _, c := range chunks {
		out = append(out, c.items...)
	}
	return out
}

// TestPairList compares random changes with a sorted slice, and checks that captures do not change.
func TestPairList(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		var l pairList
		var want []pair
		var captured []*pairChunk
		var capturedWant []pair
		span := int64(1 + rnd.IntN(6000))
		adding := true
		for step := range 8000 {
			if step%1500 == 0 {
				adding = !adding || step == 0
			}
			p := pair{rnd.Int64N(span), rnd.Int64N(3)}
			if seed%3 == 0 && adding {
				p = pair{int64(step), 0} // in order, as log positions come
			}
			i, found := slices.BinarySearchFunc(want, p, pair.compare)
			if adding == (rnd.IntN(5) > 0) {
				if l.insert(p) == found {
					t.Fatalf("insert %v says %v", p, found)
				}
				if !found {
					want = slices.Insert(want, i, p)
				}
			} else {
				if l.remove(p) != found {
					t.Fatalf("remove %v says %v", p, !found)
				}
				if found {
					want = slices.Delete(want, i, i+1)
				}
			}
			if l.size != len(want) {
				t.Fatalf("size %d, want %d", l.size, len(want))
			}
			if step%700 == 0 {
				captured, capturedWant = l.capture(), slices.Clone(want)
			}
		}
		if got := l.items(); !slices.Equal(got, want) {
			t.Fatalf("seed %d: items differ", seed)
		}
		if got := flatten(captured); !slices.Equal(got, capturedWant) {
			t.Fatalf("seed %d: a capture changed", seed)
		}
		for range 100 {
			p := pair{rnd.Int64N(span + 2), rnd.Int64N(4)}
			i, _ := slices.BinarySearchFunc(want, p, pair.compare)
			got, ok := l.atLeast(p)
			if ok != (i < len(want)) || ok && got != want[i] {
				t.Fatalf("at least %v: %v %v", p, got, ok)
			}
		}
		for _, c := range l.chunks {
			if len(c.items) == 0 || len(c.items) > pairChunkMax {
				t.Fatalf("a chunk of %d", len(c.items))
			}
		}
	}
}

// TestPairListStaysDense: pairs that come in order fill their chunks, and what is left of many is merged.
func TestPairListStaysDense(t *testing.T) {
	var l pairList
	const n = 100 * pairChunkMax
	for i := range int64(n) {
		l.insert(pair{i, 0})
	}
	if len(l.chunks) != 100 {
		t.Fatalf("%d chunks for %d pairs in order", len(l.chunks), n)
	}
	for i := range int64(n) {
		if i%100 != 0 {
			l.remove(pair{i, 0})
		}
	}
	if len(l.chunks) > 12 {
		t.Fatalf("%d chunks for %d pairs", len(l.chunks), l.size)
	}
}
