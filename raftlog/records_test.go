package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

// Scan sees every record once, in order, from any byte on, over segment ends and after a restart.
func TestScan(t *testing.T) {
	dir := t.TempDir()
	o := Options{SegmentBytes: 64 << 10}
	n := startSolo(t, dir, o)
	type stored struct {
		offset int64
		record []byte
	}
	var want []stored
	for i := range 300 {
		r := n.mustPut(bytes.Repeat([]byte{byte(i)}, 100+i*7))
		want = append(want, stored{r.Offset, r.Record})
	}
	check := func(n *node) {
		t.Helper()
		for _, k := range []int{0, 1, 77, 150, 298, 299} {
			for _, within := range []int64{0, int64(len(want[k].record) - 1)} {
				from, i := want[k].offset+within, k
				err := n.log.Scan(from, func(record []byte, offset int64) error {
					if i == len(want) || offset != want[i].offset || !bytes.Equal(record, want[i].record) {
						return fmt.Errorf("record %d at offset %d is not the one that was stored", i, offset)
					}
					i++
					return nil
				})
				if err != nil || i != len(want) {
					t.Errorf("scan from record %d: reached %d of %d, %v", k, i, len(want), err)
				}
			}
		}
		stop := errors.New("enough")
		calls := 0
		if err := n.log.Scan(0, func([]byte, int64) error { calls++; return stop }); err != stop || calls != 1 {
			t.Errorf("a scan that is stopped: %d calls, %v", calls, err)
		}
		if err := n.log.Scan(n.log.EndOffset(), func([]byte, int64) error { return stop }); err != nil {
			t.Errorf("a scan from the end: %v", err)
		}
	}
	check(n)
	n.close()
	n = startSolo(t, dir, o)
	check(n)
	n.close()
}
