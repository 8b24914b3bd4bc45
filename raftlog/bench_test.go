package raftlog

import (
	"encoding/binary"
	"sync"
	"testing"
)

// null is a state machine that stamps like a real one and keeps nothing.
type null struct {
	next uint64
	end  int64
}

func (s *null) Stamp(record []byte, offset int64) error {
	return toyItems(record, func(item []byte, at int) {
		if toySerial(item) == ^uint64(0) {
			binary.BigEndian.PutUint64(item[4:], s.next)
			binary.BigEndian.PutUint64(item[12:], uint64(offset+int64(at)))
		}
		s.next++
	})
}
func (s *null) Rewind() int64               { return 0 }
func (s *null) Apply([]byte, int64)         {}
func (s *null) Applied(end int64)           { s.end = end }
func (s *null) AppliedOffset() int64        { return 0 }
func (s *null) Snapshot() (Snapshot, error) { return nullSnapshot{}, nil }
func (s *null) Floor() int64                { return 0 }

type nullSnapshot struct{}

func (nullSnapshot) Persist() error { return nil }
func (nullSnapshot) Release()       {}

// BenchmarkAppendAsync keeps 64 records of 1 KiB in flight, as a pipelined client does: each answer brings the next record.
func BenchmarkAppendAsync(b *testing.B) { benchInFlight(b, AsyncFlush, 64) }

// BenchmarkAppendAsync1024 is the same with 1,024 in flight.
func BenchmarkAppendAsync1024(b *testing.B) { benchInFlight(b, AsyncFlush, 1024) }

// BenchmarkAppendSyncInFlight is BenchmarkAppendAsync with an fsync before every answer.
func BenchmarkAppendSyncInFlight(b *testing.B) { benchInFlight(b, SyncFlush, 64) }

func benchInFlight(b *testing.B, flush FlushMode, inFlight int) {
	n := startSoloNull(b, Options{Flush: flush})
	record := toyItem(make([]byte, 1024-toyHeader))
	tokens := make(chan struct{}, inFlight)
	done := func(r AppendResult) {
		if r.Err != nil {
			b.Error(r.Err)
		}
		<-tokens
	}
	b.SetBytes(int64(len(record)))
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		tokens <- struct{}{}
		if err := n.Append(record, AckCommitted, done); err != nil {
			b.Fatal(err)
		}
	}
	for range inFlight {
		tokens <- struct{}{}
	}
	b.StopTimer()
	report(b, n)
}

// BenchmarkAppendSync64 is 64 producers that each wait for their answer.
func BenchmarkAppendSync64(b *testing.B) { benchBlocking(b, SyncFlush, 64) }

// BenchmarkAppendAsync64Blocking is the same without fsync.
func BenchmarkAppendAsync64Blocking(b *testing.B) { benchBlocking(b, AsyncFlush, 64) }

// BenchmarkAppendOne is one producer alone: the latency of one message.
func BenchmarkAppendOne(b *testing.B) { benchBlocking(b, AsyncFlush, 1) }

func benchBlocking(b *testing.B, flush FlushMode, callers int) {
	n := startSoloNull(b, Options{Flush: flush})
	record := toyItem(make([]byte, 1024-toyHeader))
	b.SetBytes(int64(len(record)))
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			answered := make(chan error, 1)
			done := func(r AppendResult) { answered <- r.Err }
			for range b.N/callers + min(1, max(0, b.N%callers-c)) {
				if err := n.Append(record, AckCommitted, done); err != nil {
					b.Error(err)
					return
				}
				if err := <-answered; err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	report(b, n)
}

func startSoloNull(b *testing.B, o Options) *Log {
	l, err := Open(b.TempDir(), o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := l.Close(); err != nil {
			b.Error(err)
		}
	})
	if err := l.Bootstrap(soloServers()); err != nil {
		b.Fatal(err)
	}
	if err := l.Start(&null{}, Member{ServerID: "0", Address: "solo"}); err != nil {
		b.Fatal(err)
	}
	if !<-l.Leadership() {
		b.Fatal("not leading")
	}
	return l
}

func report(b *testing.B, l *Log) {
	s := l.Stats()
	b.ReportMetric(float64(s.RecordsAppended)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(s.RecordsAppended)/float64(s.EntriesAppended), "records/entry")
	if s.Syncs > 0 {
		b.ReportMetric(float64(s.SyncNanos)/float64(s.Syncs)/1e3, "us/sync")
		b.ReportMetric(float64(s.RecordsAppended)/float64(s.Syncs), "records/sync")
	}
}
