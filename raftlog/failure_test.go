package raftlog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rmq/raftlog/crashfs"
)

// TestAnyOperationMayFail fails each of the first operations on each kind of file once, in the course of a whole life from an
// empty directory to a clean stop. Whatever the log makes of it, it ends in order, and the disk opens again with all that was answered.
func TestAnyOperationMayFail(t *testing.T) {
	paths := []string{"/log/0000", nodeFile, runFile, manifestSuffix, indexSuffix, "/log"}
	for _, path := range paths {
		for nth := 1; nth <= 14; nth++ {
			if path == "/log" && nth > 1 {
				break // its operations are those of the files, and the directory's own
			}
			op := "any"
			if path == "/log" {
				op = "syncdir"
			}
			spec := fmt.Sprintf("fail %s path=%s nth=%d once", op, path, nth)
			t.Run(spec, func(t *testing.T) {
				disk := crashfs.New()
				o := Options{FS: disk, Flush: SyncFlush, SegmentBytes: 64 << 10, TailCacheBytes: 16 << 10, CoalesceBytesMax: 8 << 10,
					FlushInterval: time.Millisecond, BootID: func() string { return "boot" }}
				defer disk.Inject(spec)()
				acked := map[uint64]ackedItem{}
				if n, err := trySolo(t, "/d", o); err == nil {
					for range 40 {
						r := n.put(make([]byte, 5000), AckCommitted)
						if r.Err != nil {
							break
						}
						acked[toySerial(r.Record)] = ackedItem{r.Offset, r.Record}
					}
					if err := n.log.Snapshot(); err != nil {
						t.Logf("snapshot: %v", err)
					}
					n.log.saveSidecar()
					if err := n.log.Close(); err != nil && !errors.Is(err, ErrPoisoned) && !errors.Is(err, crashfs.ErrInjected) {
						t.Fatal(err)
					}
				}
				o.FS = disk.Clone()
				n, err := trySolo(t, "/d", o)
				if err != nil {
					t.Fatalf("after the failure: %v", err)
				}
				checkItems(t, n, acked)
				checkLog(t, n.log)
				n.close()
			})
		}
	}
}

// TestCrashInTheVeryFirstOpen leaves a database that bbolt had not finished. Nobody has relied on a vote yet, so the directory
// opens; with a log beside it, it would not.
func TestCrashInTheVeryFirstOpen(t *testing.T) {
	for _, left := range [][]byte{{}, []byte("half a database")} {
		dir := t.TempDir()
		l, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, voteBolt), left, 0o600); err != nil {
			t.Fatal(err)
		}
		if l, err = Open(dir, Options{}); err != nil {
			t.Fatalf("%q: %v", left, err)
		}
		if err := l.Bootstrap(soloServers()); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, voteBolt), left, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = Open(dir, Options{})
		wantFault(t, err, ExitStableCorrupt)
	}
}
