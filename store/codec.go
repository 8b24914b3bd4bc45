package store

import (
	"bytes"
	"fmt"
	"sort"

	"github.com/vmihailenco/msgpack/v5"
)

// encoder writes msgpack values to memory. Writing to memory cannot fail, so its methods return nothing.
type encoder struct {
	buf bytes.Buffer
	enc *msgpack.Encoder
}

func newEncoder() *encoder {
	e := &encoder{}
	e.enc = msgpack.NewEncoder(&e.buf)
	e.enc.UseCompactInts(true)
	return e
}

func (e *encoder) int(v int64)   { _ = e.enc.EncodeInt(v) }
func (e *encoder) str(v string)  { _ = e.enc.EncodeString(v) }
func (e *encoder) bool(v bool)   { _ = e.enc.EncodeBool(v) }
func (e *encoder) array(n int)   { _ = e.enc.EncodeArrayLen(n) }
func (e *encoder) bytes() []byte { return e.buf.Bytes() }

// strings writes a string map as a flat array in key order, so that equal maps have equal bytes.
func (e *encoder) strings(m map[string]string) {
	e.array(2 * len(m))
	for _, k := range sortedKeys(m) {
		e.str(k)
		e.str(m[k])
	}
}

// sortedKeys returns a map's keys in order. Whatever leaves the store or enters a digest goes through it, for a map's own
// order differs between replicas.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// decoder reads what encoder wrote. The first error sticks and later reads return zero values; ask err or finish.
// Nothing is allocated beyond what the remaining bytes can fill.
type decoder struct {
	r   *bytes.Reader
	dec *msgpack.Decoder
	err error
}

func newDecoder(b []byte) *decoder {
	r := bytes.NewReader(b)
	return &decoder{r: r, dec: msgpack.NewDecoder(r)}
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

func (d *decoder) int() int64 {
	if d.err != nil {
		return 0
	}
	v, err := d.dec.DecodeInt64()
	if err != nil {
		d.fail(err)
		return 0
	}
	return v
}

func (d *decoder) int32() int32 {
	v := d.int()
	if int64(int32(v)) != v {
		d.fail(fmt.Errorf("value %d does not fit 32 bits", v))
		return 0
	}
	return int32(v)
}

func (d *decoder) str() string {
	if d.err != nil {
		return ""
	}
	v, err := d.dec.DecodeString()
	if err != nil {
		d.fail(err)
		return ""
	}
	return v
}

func (d *decoder) bool() bool {
	if d.err != nil {
		return false
	}
	v, err := d.dec.DecodeBool()
	if err != nil {
		d.fail(err)
		return false
	}
	return v
}

// array reads an array's length. Every element takes at least one byte, which bounds what a caller may allocate.
func (d *decoder) array() int {
	if d.err != nil {
		return 0
	}
	n, err := d.dec.DecodeArrayLen()
	if err == nil && (n < 0 || n > d.r.Len()) {
		err = fmt.Errorf("array of %d elements in %d bytes", n, d.r.Len())
	}
	if err != nil {
		d.fail(err)
		return 0
	}
	return n
}

// fields reads the length of a fixed array and checks it.
func (d *decoder) fields(want int) {
	if n := d.array(); d.err == nil && n != want {
		d.fail(fmt.Errorf("%d fields, want %d", n, want))
	}
}

// records reads the length of a flat array of records of width fields each.
func (d *decoder) records(width int) int {
	n := d.array()
	if d.err == nil && n%width != 0 {
		d.fail(fmt.Errorf("%d fields are not records of %d", n, width))
		return 0
	}
	return n / width
}

func (d *decoder) strings() map[string]string {
	n := d.array()
	if d.err == nil && n%2 != 0 {
		d.fail(fmt.Errorf("map of %d keys and values", n))
	}
	if d.err != nil || n == 0 {
		return nil
	}
	m := make(map[string]string, n/2)
	for range n / 2 {
		k := d.str()
		m[k] = d.str()
	}
	return m
}

// finish returns the first error, or an error if bytes are left over.
func (d *decoder) finish() error {
	if d.err == nil && d.r.Len() > 0 {
		d.err = fmt.Errorf("%d bytes left over", d.r.Len())
	}
	return d.err
}
