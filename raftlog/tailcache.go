package raftlog

import (
	"sync"
	"sync/atomic"
)

// tailChunkMax is the largest unit of the tail cache.
const tailChunkMax = 1 << 20

// tailCache keeps the newest bytes of the log in memory. It is the writer's buffer as well: frames are encoded into it and written
// to the file from it. One goroutine at a time writes; any number read. A reader must look only at bytes below an end that the
// writer has published, which is what makes the unlocked writes safe.
type tailCache struct {
	chunkBytes int64
	slots      []atomic.Pointer[tailChunk] // slot i holds the chunk whose number is i modulo len(slots)
}

// tailChunk holds the bytes of one aligned range of offsets, from lo to the end of the log.
type tailChunk struct {
	mu   sync.RWMutex // readers share it; the writer takes it to give the chunk to another range
	base int64
	lo   int64 // bytes below it were never in the cache
	buf  []byte
}

// newTailCache makes a cache of about size bytes; memory is taken as the log grows.
func newTailCache(size int) *tailCache {
	chunk := tailChunkMax
	for chunk > 4096 && size/chunk < 4 {
		chunk /= 2
	}
	n := max(size/chunk, 4)
	return &tailCache{chunkBytes: int64(chunk), slots: make([]atomic.Pointer[tailChunk], n)}
}

// capacity is how many bytes behind the end are kept at least.
func (c *tailCache) capacity() int64 { return c.chunkBytes * int64(len(c.slots)-1) }

func (c *tailCache) slot(off int64) *atomic.Pointer[tailChunk] {
	return &c.slots[off/c.chunkBytes%int64(len(c.slots))]
}

// buffer returns the memory for the bytes from off to the end of off's chunk. Writer only.
func (c *tailCache) buffer(off int64) []byte {
	base := off - off%c.chunkBytes
	slot := c.slot(off)
	ch := slot.Load()
	if ch == nil || ch.base != base {
		ch = c.claim(ch, base, off)
		slot.Store(ch)
	}
	return ch.buf[off-base:]
}

// claim gives the chunk old to the range at base, or a new one if a reader is busy in it: the writer never waits for a reader.
func (c *tailCache) claim(old *tailChunk, base, lo int64) *tailChunk {
	if old != nil && old.mu.TryLock() {
		old.base, old.lo = base, lo
		old.mu.Unlock()
		return old
	}
	return &tailChunk{base: base, lo: lo, buf: make([]byte, c.chunkBytes)}
}

// readAt copies cached bytes from off on and returns how many; they end where the chunk ends. The caller has limited p to
// published bytes.
func (c *tailCache) readAt(p []byte, off int64) int {
	ch := c.slot(off).Load()
	if ch == nil {
		return 0
	}
	ch.mu.RLock()
	defer ch.mu.RUnlock()
	if off < ch.lo || off < ch.base || off >= ch.base+c.chunkBytes {
		return 0
	}
	return copy(p, ch.buf[off-ch.base:])
}

// truncate forgets everything from end on, so that other bytes can take its place while readers are still busy in the old ones.
// Writer only.
func (c *tailCache) truncate(end int64) {
	for i := range c.slots {
		ch := c.slots[i].Load()
		switch {
		case ch == nil || ch.base+c.chunkBytes <= end:
		case ch.base >= end || ch.lo >= end:
			c.slots[i].Store(nil)
		default:
			fresh := &tailChunk{base: ch.base, lo: ch.lo, buf: make([]byte, c.chunkBytes)}
			copy(fresh.buf, ch.buf[:end-ch.base])
			c.slots[i].Store(fresh)
		}
	}
}
