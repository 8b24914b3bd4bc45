package raftlog

import (
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"
)

// ringStore is a log store in memory that keeps the newest entries only.
type ringStore struct {
	*raft.InmemStore
}

const ringKeep = 512

func (s ringStore) StoreLogs(logs []*raft.Log) error {
	err := s.InmemStore.StoreLogs(logs)
	if last := logs[len(logs)-1].Index; err == nil && last > ringKeep {
		first, _ := s.FirstIndex()
		err = s.DeleteRange(first, last-ringKeep)
	}
	return err
}

func (s ringStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// nothing is a raft.FSM that keeps nothing.
type nothing struct{ recorder }

func (f *nothing) Apply(*raft.Log) any { return nil }

// BenchmarkReplicate commits entries on three replicas in one process, eight in flight, over a PeerNet and over the transport that
// comes with Raft.
func BenchmarkReplicate(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10, 256 << 10} {
		b.Run(fmt.Sprintf("PeerNet/%dKiB", size>>10), func(b *testing.B) {
			benchReplicate(b, size, func(id raft.ServerID) raft.Transport {
				return listenPeers(b, PeerNetOptions{ServerID: string(id)}).Transport()
			})
		})
		b.Run(fmt.Sprintf("NetworkTransport/%dKiB", size>>10), func(b *testing.B) {
			benchReplicate(b, size, func(raft.ServerID) raft.Transport {
				t, err := raft.NewTCPTransportWithLogger("127.0.0.1:0", nil, 4, 10*time.Second, &raftLogger{out: discardLogger()})
				if err != nil {
					b.Fatal(err)
				}
				return t
			})
		})
	}
}

func benchReplicate(b *testing.B, size int, transport func(id raft.ServerID) raft.Transport) {
	var servers []raft.Server
	var trans []raft.Transport
	for i := range 3 {
		id := raft.ServerID(fmt.Sprint(i))
		trans = append(trans, transport(id))
		servers = append(servers, raft.Server{ID: id, Address: trans[i].LocalAddr()})
	}
	var rafts []*raft.Raft
	for i := range servers {
		c := raft.DefaultConfig()
		c.LocalID = servers[i].ID
		c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout, c.CommitTimeout = time.Second, time.Second, time.Second, 5*time.Millisecond
		c.Logger = &raftLogger{out: discardLogger()}
		c.BatchApplyCh = true
		c.SnapshotInterval = time.Hour
		c.NoLegacyTelemetry = true
		store := ringStore{raft.NewInmemStore()}
		if err := raft.BootstrapCluster(c, store, store, raft.NewDiscardSnapshotStore(), trans[i], raft.Configuration{Servers: servers}); err != nil {
			b.Fatal(err)
		}
		r, err := raft.NewRaft(c, &nothing{}, store, store, raft.NewDiscardSnapshotStore(), trans[i])
		if err != nil {
			b.Fatal(err)
		}
		rafts = append(rafts, r)
		defer func() {
			if err := r.Shutdown().Error(); err != nil {
				b.Error(err)
			}
		}()
	}
	var lead *raft.Raft
	awaitCond(b, "a leader", func() bool {
		for _, r := range rafts {
			if r.State() == raft.Leader && r.Barrier(time.Second).Error() == nil {
				lead = r
				return true
			}
		}
		return false
	})
	data := make([]byte, size)
	inFlight := make(chan raft.ApplyFuture, 8)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime(b)
	go func() {
		defer close(inFlight)
		for range b.N {
			inFlight <- lead.Apply(data, 0)
		}
	}()
	for f := range inFlight {
		if err := f.Error(); err != nil {
			b.Error(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
}

// cpuTime returns what this process has used; on a shared machine it says more than the clock.
func cpuTime(b *testing.B) int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkPeerCall is one caller, BenchmarkPeerCalls many.
func BenchmarkPeerCall(b *testing.B)  { benchCalls(b, 1) }
func BenchmarkPeerCalls(b *testing.B) { benchCalls(b, 256) }

func benchCalls(b *testing.B, callers int) {
	n := listenPeers(b, PeerNetOptions{ServerID: "1-a"})
	other := listenPeers(b, PeerNetOptions{ServerID: "2-b", Handler: echo})
	addr, request := other.Addr().String(), make([]byte, 1024)
	b.SetParallelism(callers)
	b.ReportAllocs()
	if callers > 1 {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := n.Call(b.Context(), addr, request); err != nil {
					b.Error(err)
				}
			}
		})
		return
	}
	for range b.N {
		if _, err := n.Call(b.Context(), addr, request); err != nil {
			b.Fatal(err)
		}
	}
}
