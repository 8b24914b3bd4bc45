package store

import (
	"cmp"
	"slices"
)

// pair is an element of a pairList, ordered by a, then b.
type pair struct{ a, b int64 }

func (p pair) compare(q pair) int { return cmp.Or(cmp.Compare(p.a, q.a), cmp.Compare(p.b, q.b)) }

const pairChunkMax = 512

// pairList is an ordered set of pairs: sorted chunks in a sorted list, 16 bytes a pair and little besides. A chunk is
// changed in place until capture shares it; after that the first change copies it. The zero value is empty. The owner
// locks.
type pairList struct {
	chunks []*pairChunk
	size   int
	epoch  uint64
}

type pairChunk struct {
	epoch uint64
	items []pair
}

// seek returns the chunk that holds p or has to: the last that does not start behind it.
func (l *pairList) seek(p pair) int {
	i, found := slices.BinarySearchFunc(l.chunks, p, func(c *pairChunk, p pair) int { return c.items[0].compare(p) })
	if !found && i > 0 {
		i--
	}
	return i
}

// own makes chunk i changeable.
func (l *pairList) own(i int) *pairChunk {
	c := l.chunks[i]
	if c.epoch != l.epoch {
		items := make([]pair, len(c.items), min(pairChunkMax, len(c.items)+len(c.items)/4+1))
		copy(items, c.items)
		c = &pairChunk{epoch: l.epoch, items: items}
		l.chunks[i] = c
	}
	return c
}

// insert adds p and reports whether it was missing.
func (l *pairList) insert(p pair) bool {
	if len(l.chunks) == 0 {
		l.chunks = append(l.chunks, &pairChunk{epoch: l.epoch, items: []pair{p}})
		l.size = 1
		return true
	}
	i := l.seek(p)
	pos, found := slices.BinarySearchFunc(l.chunks[i].items, p, pair.compare)
	if found {
		return false
	}
	l.size++
	c := l.own(i)
	if len(c.items) < pairChunkMax {
		c.items = slices.Insert(c.items, pos, p)
		return true
	}
	// A full chunk splits in the middle, but at the list's end it stays full: most insertions come in order.
	if i == len(l.chunks)-1 && pos == len(c.items) {
		l.chunks = append(l.chunks, &pairChunk{epoch: l.epoch, items: []pair{p}})
		return true
	}
	half := len(c.items) / 2
	right := &pairChunk{epoch: l.epoch, items: append(make([]pair, 0, pairChunkMax), c.items[half:]...)}
	c.items = c.items[:half]
	l.chunks = slices.Insert(l.chunks, i+1, right)
	if pos <= half {
		c.items = slices.Insert(c.items, pos, p)
	} else {
		right.items = slices.Insert(right.items, pos-half, p)
	}
	return true
}

// remove takes p out and reports whether it was there.
func (l *pairList) remove(p pair) bool {
	if len(l.chunks) == 0 {
		return false
	}
	i := l.seek(p)
	pos, found := slices.BinarySearchFunc(l.chunks[i].items, p, pair.compare)
	if !found {
		return false
	}
	l.size--
	c := l.own(i)
	c.items = slices.Delete(c.items, pos, pos+1)
	switch {
	case len(c.items) == 0:
		l.chunks = slices.Delete(l.chunks, i, i+1)
	case len(c.items) >= pairChunkMax/4:
	case i > 0 && len(l.chunks[i-1].items)+len(c.items) <= pairChunkMax/2:
		l.join(i - 1)
	case i+1 < len(l.chunks) && len(c.items)+len(l.chunks[i+1].items) <= pairChunkMax/2:
		l.join(i)
	}
	return true
}

// join appends chunk i+1 to chunk i.
func (l *pairList) join(i int) {
	c := l.own(i)
	c.items = append(c.items, l.chunks[i+1].items...)
	l.chunks = slices.Delete(l.chunks, i+1, i+2)
}

// atLeast returns the smallest pair that is not below p.
func (l *pairList) atLeast(p pair) (pair, bool) {
	for q := range l.from(p) {
		return q, true
	}
	return pair{}, false
}

// from yields the pairs that are not below p, in order. The list must not change meanwhile.
func (l *pairList) from(p pair) func(yield func(pair) bool) {
	return func(yield func(pair) bool) {
		if len(l.chunks) == 0 {
			return
		}
		i := l.seek(p)
		pos, _ := slices.BinarySearchFunc(l.chunks[i].items, p, pair.compare)
		for ; i < len(l.chunks); i, pos = i+1, 0 {
			for _, q := range l.chunks[i].items[pos:] {
				if !yield(q) {
					return
				}
			}
		}
	}
}

// capture returns the chunks as they are now. They never change; later changes of the list go to copies.
func (l *pairList) capture() []*pairChunk {
	l.epoch++
	return slices.Clone(l.chunks)
}
