package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"testing"
)

func discardLogger() *slog.Logger { return slog.New(slog.DiscardHandler) }

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

func TestAppendReadRestart(t *testing.T) {
	dir := t.TempDir()
	for round := range 3 {
		n := startSolo(t, dir, Options{})
		for i := range 100 {
			payload := []byte(fmt.Sprintf("round %d message %d", round, i))
			r := n.mustPut(payload)
			if s := toySerial(r.Record); s != uint64(round*100+i) {
				t.Fatalf("serial %d, expected %d", s, round*100+i)
			}
			got := make([]byte, len(r.Record))
			if _, err := n.log.ReadAt(got, r.Offset); err != nil || !bytes.Equal(got, r.Record) || !bytes.Equal(got[toyHeader:], payload) {
				t.Fatalf("read %q, %v; expected %q", got, err, r.Record)
			}
		}
		n.close()
	}
}
