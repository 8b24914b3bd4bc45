package remoting

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"testing"

	"rmq/remoting/protocol"
)

func testReader() *reader {
	return &reader{pool: new(pool), budget: &budget{max: math.MaxInt64}}
}

// split feeds stream to a reader in pieces of the given sizes, in turn, and returns the frames and the error that
// ended it. After each piece the reader may wait, as on a socket.
func split(stream []byte, sizes ...int) (frames [][]byte, err error) {
	r := testReader()
	defer r.release()
	for i := 0; len(stream) > 0; i++ {
		if err := r.prepare(bufferMin << (2 * (i % 3))); err != nil {
			return frames, err
		}
		room := r.room()
		n := copy(room[:min(len(room), sizes[i%len(sizes)])], stream)
		stream = stream[n:]
		r.received(n)
		for {
			more := r.hasNext()
			frame, err := r.next()
			if err != nil {
				return frames, err
			}
			if frame == nil {
				break
			}
			if !more {
				return frames, errors.New("next gave a frame that hasNext denied")
			}
			frames = append(frames, bytes.Clone(frame))
		}
		if i%2 == 0 {
			r.relax()
		}
	}
	return frames, nil
}

// rawFrame returns a frame with its length word, around n bytes that are no header.
func rawFrame(n int) []byte {
	p := binary.BigEndian.AppendUint32(nil, uint32(4+n))
	p = append(p, 0, 0, 0, 0)
	for i := range n {
		p = append(p, byte(i))
	}
	return p
}

func TestReaderFindsFramesHoweverTheyCome(t *testing.T) {
	var stream []byte
	var want [][]byte
	for _, n := range []int{0, 1, 100, bufferMin - 9, bufferMin - 8, bufferMin, 20_000, scratchSize - 8, scratchSize, 3 * scratchSize, bufferMax + 5, 3} {
		p := rawFrame(n)
		stream = append(stream, p...)
		want = append(want, p[4:])
	}
	for _, sizes := range [][]int{{1 << 30}, {4096}, {1000, 1, 3}, {70_000, 2}, {7}} {
		got, err := split(stream, sizes...)
		if err != nil {
			t.Fatalf("pieces of %v: %v", sizes, err)
		}
		if len(got) != len(want) {
			t.Fatalf("pieces of %v: %d frames, want %d", sizes, len(got), len(want))
		}
		for i := range got {
			if !bytes.Equal(got[i], want[i]) {
				t.Errorf("pieces of %v: frame %d differs", sizes, i)
			}
		}
	}
}

func TestReaderRefusesAsSoonAsItCan(t *testing.T) {
	word := func(words ...uint32) (p []byte) {
		for _, w := range words {
			p = binary.BigEndian.AppendUint32(p, w)
		}
		return p
	}
	for name, tc := range map[string]struct {
		bytes []byte
		bad   bool
	}{
		"no header word":                   {word(3), true},
		"empty":                            {word(0), true},
		"length -4":                        {word(math.MaxUint32 - 3), true},
		"negative":                         {word(1 << 31), true},
		"one byte too long":                {word(protocol.MaxFrame - 3), true},
		"longest":                          {word(protocol.MaxFrame - 4), false},
		"TLS or text":                      {[]byte("GET / HTTP/1.1\r\n"), true},
		"header longer than frame":         {word(10, 7), true},
		"header as long as frame":          {word(10, 6), false},
		"header over the limit":            {word(1<<20, protocol.MaxHeader+1), true},
		"header at the limit":              {word(1<<20, protocol.MaxHeader), false},
		"codec byte is not for the reader": {word(10, 9<<24|6), false},
	} {
		frames, err := split(tc.bytes, 1)
		if errors.Is(err, errBadFrame) != tc.bad || len(frames) > 0 {
			t.Errorf("%s: %d frames, %v", name, len(frames), err)
		}
	}
}

func TestReaderMemoryFollowsWhatCame(t *testing.T) {
	r := testReader()
	whole := protocol.MaxFrame
	head := binary.BigEndian.AppendUint32(nil, uint32(whole-4))
	for got := 0; got < whole; {
		if err := r.prepare(scratchSize); err != nil {
			t.Fatal(err)
		}
		n := min(len(r.room()), 50_000, whole-got)
		if got == 0 {
			copy(r.room(), append(head, 0, 0, 0, 0))
		}
		r.received(n)
		got += n
		if limit := max(4*got, scratchSize); len(r.p) > limit {
			t.Fatalf("%d bytes of memory after %d bytes", len(r.p), got)
		}
		if len(r.p) > scratchSize && r.budget.held.Load() != int64(len(r.p)) {
			t.Fatalf("%d bytes charged, %d held", r.budget.held.Load(), len(r.p))
		}
	}
	if len(r.p) != whole {
		t.Errorf("%d bytes of memory for a frame of %d", len(r.p), whole)
	}
	if frame, err := r.next(); err != nil || len(frame) != whole-4 {
		t.Fatalf("%d bytes, %v", len(frame), err)
	}
	r.relax()
	if r.buf != nil || r.budget.held.Load() != 0 {
		t.Error("memory is held with nothing in it")
	}
}

func TestReaderStopsAtTheBudget(t *testing.T) {
	r := testReader()
	r.budget.max = scratchSize * 5
	if err := r.prepare(scratchSize); err != nil {
		t.Fatal(err)
	}
	copy(r.room(), binary.BigEndian.AppendUint32(nil, protocol.MaxFrame-4))
	r.received(scratchSize)
	if err := r.prepare(scratchSize); err != nil { // four times scratchSize
		t.Fatal(err)
	}
	r.received(len(r.room()))
	if err := r.prepare(scratchSize); !errors.Is(err, errBudget) {
		t.Errorf("got %v", err)
	}
	r.release()
	if n := r.budget.held.Load(); n != 0 {
		t.Errorf("%d bytes stay charged", n)
	}
}

func TestPoolKeepsSizesApart(t *testing.T) {
	var p pool
	for _, size := range []int{1, bufferMin, bufferMin + 1, scratchSize, scratchSize + 1, bufferMax, bufferMax + 1, 5 << 20} {
		for range 3 {
			b := p.get(size)
			if cap(b.p) < size || len(b.p) != 0 {
				t.Errorf("asked for %d, got cap %d len %d", size, cap(b.p), len(b.p))
			}
			if size <= bufferMax && cap(b.p) >= 4*max(size, bufferMin) {
				t.Errorf("asked for %d, got cap %d", size, cap(b.p))
			}
			b.p = append(b.p, 1)
			p.put(b)
		}
	}
	p.put(&buffer{make([]byte, 0, 10)}) // too small to keep
	if b := p.get(1); cap(b.p) < bufferMin {
		t.Errorf("got cap %d", cap(b.p))
	}
}

// Any bytes, in any pieces, give the same frames and the same verdict.
func FuzzFrameReader(f *testing.F) {
	good := append(rawFrame(5), rawFrame(0)...)
	f.Add(good, 1, 3)
	f.Add(append(good, 0xff, 0, 0, 0, 1), 2, 5)
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), 7, 1)
	f.Add(rawFrame(9000), 4096, 100)
	f.Fuzz(func(t *testing.T, stream []byte, a, b int) {
		whole, wholeErr := split(stream, math.MaxInt)
		parts, partsErr := split(stream, max(a, 1), max(b, 1))
		if (wholeErr == nil) != (partsErr == nil) || len(whole) != len(parts) {
			t.Fatalf("at once: %d frames, %v; in pieces of %d and %d: %d frames, %v", len(whole), wholeErr, a, b, len(parts), partsErr)
		}
		for i := range whole {
			if !bytes.Equal(whole[i], parts[i]) {
				t.Fatalf("frame %d differs", i)
			}
		}
	})
}
