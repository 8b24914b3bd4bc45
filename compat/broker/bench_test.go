package broker

import (
	"net/netip"
	"testing"

	"rmq/raftlog"
	"rmq/store"
)

// sink is a log that answers each append at once with one and the same stored record.
type sink struct {
	*memoryLog
	result raftlog.AppendResult
}

func (l *sink) Append(_ []byte, _ raftlog.Ack, done func(raftlog.AppendResult)) error {
	done(l.result)
	return nil
}

// BenchmarkSend is the broker's own part of a send.
func BenchmarkSend(b *testing.B) {
	for _, c := range []struct {
		name string
		r    Replicas
		s    GroupSettings
	}{{"alone", nil, GroupSettings{}}, {"held", &replicas{data: 3, connected: 3, inSync: 3, held: []uint64{0, 1 << 62, 1 << 62, 0}}, GroupSettings{}},
		{"async", newReplicas(3), GroupSettings{Role: RoleAsync}}} {
		b.Run(c.name, func(b *testing.B) {
			br := newSinkBroker(b, func(o *Options) { o.Replicas, o.Settings = c.r, c.s })
			r := &SendRequest{Topic: "T", MaxReconsumeTimes: -1, Body: make([]byte, 100), Properties: "UNIQ_KEY\x01U\x02WAIT\x01true\x02"}
			b.ReportAllocs()
			for b.Loop() {
				if err := br.Send(r, func(SendResult) {}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// newSinkBroker is a broker over a sink.
func newSinkBroker(b *testing.B, change func(*Options)) *Broker {
	b.Helper()
	log := &memoryLog{}
	st, err := store.Open(b.TempDir(), log, store.Options{FS: raftlog.OSFS()})
	if err != nil {
		b.Fatal(err)
	}
	o := Options{Cluster: "C", Group: "b", Host: netip.MustParseAddrPort("127.0.0.1:10911"), Permission: PermRead | PermWrite, AutoCreateTopic: true}
	first, err := New(log, st, o)
	if err != nil {
		b.Fatal(err)
	}
	log.broker, log.store = first, st
	if err := first.TakeOver(b.Context()); err != nil {
		b.Fatal(err)
	}
	var end int64
	r := &SendRequest{Topic: "T", DefaultTopic: AutoCreateTopic, DefaultTopicQueues: 1, MaxReconsumeTimes: -1, Body: make([]byte, 100)}
	for range 2 {
		end = log.EndOffset()
		if err := first.Send(r, func(SendResult) {}); err != nil {
			b.Fatal(err)
		}
	}
	result := raftlog.AppendResult{Offset: end, Index: 1, Record: log.data[end:]}
	change(&o)
	br, err := New(&sink{log, result}, st, o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := st.Close(); err != nil {
			b.Error(err)
		}
		first.Close()
		br.Close()
	})
	return br
}
