package remoting

import (
	"errors"
	"sync"
	"sync/atomic"
)

// Sizes of pooled memory: 4 KiB, then times four, up to 1 MiB. Larger memory is not kept.
const (
	bufferMin     = 4 << 10
	bufferMax     = 1 << 20
	bufferClasses = 5
)

// buffer is a piece of pooled memory. Its holder may replace p by a larger slice.
type buffer struct{ p []byte }

// pool hands out buffers by size class. Safe for concurrent use.
type pool struct{ classes [bufferClasses]sync.Pool }

// get returns an empty buffer of at least size bytes capacity.
func (p *pool) get(size int) *buffer {
	class, have := 0, bufferMin
	for have < size {
		class, have = class+1, have<<2
	}
	if class >= bufferClasses {
		return &buffer{make([]byte, 0, size)}
	}
	if b, ok := p.classes[class].Get().(*buffer); ok {
		return b
	}
	return &buffer{make([]byte, 0, have)}
}

// put takes b back; nobody may use it or its bytes afterwards.
func (p *pool) put(b *buffer) {
	size := cap(b.p)
	if size < bufferMin || size > bufferMax {
		return
	}
	class := 0
	for have := bufferMin << 2; have <= size; have <<= 2 {
		class++
	}
	b.p = b.p[:0]
	p.classes[class].Put(b)
}

var errBudget = errors.New("remoting: memory for received frames is used up")

// budget bounds the memory that all half-received frames of a server hold beyond the working buffers.
type budget struct {
	max  int64
	held atomic.Int64
}

func (b *budget) take(n int64) error {
	if b.held.Add(n) > b.max {
		b.held.Add(-n)
		return errBudget
	}
	return nil
}

func (b *budget) give(n int64) { b.held.Add(-n) }
