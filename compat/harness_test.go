package compat_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rmq/compat"
	"rmq/compat/broker"
	"rmq/controller"
	"rmq/raftlog"
	"rmq/remoting"
	"rmq/remoting/fastjson"
	"rmq/remoting/protocol"
	"rmq/store"
	"rmq/store/message"
)

// replica is a whole broker replica over real files and sockets, wired as the program wires it.
type replica struct {
	t       *testing.T
	log     *raftlog.Log
	store   *store.Store
	broker  *broker.Broker
	procs   *compat.Processors
	control *controller.Group
	server  *remoting.Server
	client  *remoting.Client
	addr    string
}

// testLevels are delay levels short enough to wait for.
var testLevels = []time.Duration{20 * time.Millisecond, 40 * time.Millisecond, 60 * time.Millisecond, 80 * time.Millisecond, 100 * time.Millisecond}

func startReplica(t *testing.T, dir string, change ...func(*broker.Options)) *replica {
	t.Helper()
	r := &replica{t: t}
	var err error
	r.log, err = raftlog.Open(filepath.Join(dir, "log"), raftlog.Options{
		SegmentBytes:   1 << 20,
		Prepare:        func(rec []byte) { r.broker.Prepare(rec) },
		CompletedBatch: func() { r.procs.FlushReplies() },
		Fatal:          func(code int, id string, err error) { t.Errorf("fault %d %s: %v", code, id, err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	r.store, err = store.Open(filepath.Join(dir, "state"), r.log, store.Options{
		FS: raftlog.OSFS(), KeyIndex: true, Fatal: func(err error) { t.Errorf("store: %v", err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	o := broker.Options{
		Cluster: "DefaultCluster", Group: "broker-a", Host: netip.MustParseAddrPort("127.0.0.1:10911"), Permission: 6,
		AutoCreateTopic: true, AutoCreateGroup: true, LongPolling: true, LitePull: true, DelayLevels: testLevels,
		NotifyMembership: compat.NotifyMembership, Logger: slog.New(slog.DiscardHandler), SegmentBytes: 1 << 20,
	}
	for _, f := range change {
		f(&o)
	}
	if r.broker, err = broker.New(r.log, r.store, o); err != nil {
		t.Fatal(err)
	}
	r.procs = compat.New(compat.Options{
		Broker:      r.broker,
		Identity:    func() compat.Identity { return compat.Identity{Cluster: "DefaultCluster", BrokerName: "broker-a"} },
		Properties:  func() []compat.Property { return []compat.Property{{Key: "brokerName", Value: "broker-a"}} },
		RuntimeInfo: func() map[string]string { return nil },
		VersionDesc: "RMQ_TEST",
	})
	r.control, err = controller.Start(t.Context(), controller.Options{Name: "broker-a", Address: "127.0.0.1:10912", Log: r.log, State: r.store, TakeOver: r.broker.TakeOver, Lead: r.broker.Lead})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := r.control.WaitLeading(ctx); err != nil {
		t.Fatal(err)
	}
	mux := remoting.NewMux()
	r.procs.Register(mux)
	if r.server, err = remoting.Listen(remoting.ServerOptions{Addrs: []string{"127.0.0.1:0"}, Mux: mux}); err != nil {
		t.Fatal(err)
	}
	r.addr = r.server.Addrs()[0].String()
	r.client = remoting.NewClient(remoting.ClientOptions{})
	t.Cleanup(r.stop)
	return r
}

// stop ends the replica as the program does; it may be called again.
func (r *replica) stop() {
	if r.server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r.broker.EndParking()
	r.procs.Close()
	for _, err := range []error{r.server.Close(ctx), r.client.Close(), r.broker.FlushOffsets(ctx)} {
		if err != nil {
			r.t.Errorf("close: %v", err)
		}
	}
	r.control.Close()
	for _, err := range []error{r.log.Close(), r.store.Close()} {
		if err != nil {
			r.t.Errorf("close: %v", err)
		}
	}
	r.broker.Close()
	r.server = nil
}

// call sends a request and returns the answer, whatever its code.
func (r *replica) call(code int32, h protocol.Header, body []byte) *protocol.Command {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := protocol.NewRequest(code, h)
	cmd.Body = body
	resp, err := r.client.Call(ctx, r.addr, cmd)
	if err != nil {
		r.t.Fatalf("request %d: %v", code, err)
	}
	return resp
}

// ask is call for a request that must succeed; out, unless nil, takes the body.
func (r *replica) ask(code int32, h protocol.Header, body []byte, out any) *protocol.Command {
	r.t.Helper()
	resp := r.call(code, h, body)
	if resp.Code != protocol.Success {
		r.t.Fatalf("request %d: code %d %s", code, resp.Code, resp.Remark)
	}
	if out != nil {
		if err := fastjson.Unmarshal(resp.Body, out); err != nil {
			r.t.Fatalf("request %d: body %s: %v", code, resp.Body, err)
		}
	}
	return resp
}

// refused is call for a request that must be refused with a code.
func (r *replica) refused(want int32, code int32, h protocol.Header, body []byte) string {
	r.t.Helper()
	resp := r.call(code, h, body)
	if resp.Code != want {
		r.t.Fatalf("request %d: code %d (%s), want %d", code, resp.Code, resp.Remark, want)
	}
	if resp.Remark == "" {
		r.t.Errorf("request %d: code %d without a remark", code, want)
	}
	return resp.Remark
}

func sendHeader(topic string, queue int32, properties string) *protocol.SendMessageRequestHeaderV2 {
	return &protocol.SendMessageRequestHeaderV2{
		ProducerGroup: "pg", Topic: topic, DefaultTopic: "TBW102", DefaultTopicQueueNums: 4, QueueID: queue, BornTimestamp: 1234567890123, Properties: properties,
	}
}

func props(pairs ...string) string {
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		fmt.Fprintf(&b, "%s\x01%s\x02", pairs[i], pairs[i+1])
	}
	return b.String()
}

func (r *replica) send(topic string, queue int32, properties, body string) protocol.SendMessageResponseHeader {
	r.t.Helper()
	resp := r.ask(protocol.SendMessageV2, sendHeader(topic, queue, properties), []byte(body), nil)
	var h protocol.SendMessageResponseHeader
	if err := h.Decode(resp.Ext); err != nil {
		r.t.Fatal(err)
	}
	return h
}

func pullHeader(group, topic string, queue int32, offset int64) *protocol.PullMessageRequestHeader {
	return &protocol.PullMessageRequestHeader{
		ConsumerGroup: group, Topic: topic, QueueID: queue, QueueOffset: offset, MaxMsgNums: 32, SysFlag: 4, Subscription: "*", ExpressionType: "TAG",
	}
}

// pulled is the answer to a pull.
type pulled struct {
	code     int32
	remark   string
	header   protocol.PullMessageResponseHeader
	messages []message.Message
}

func (p pulled) bodies() string {
	var all []string
	for _, m := range p.messages {
		all = append(all, string(m.Body))
	}
	return strings.Join(all, ",")
}

func (r *replica) pull(h *protocol.PullMessageRequestHeader) pulled {
	r.t.Helper()
	return decodePull(r.t, r.call(protocol.PullMessage, h, nil))
}

func decodePull(t *testing.T, resp *protocol.Command) pulled {
	t.Helper()
	p := pulled{code: resp.Code, remark: resp.Remark}
	if err := p.header.Decode(resp.Ext); err != nil {
		t.Fatalf("pull answer %d %s: %v", resp.Code, resp.Remark, err)
	}
	for rest := resp.Body; len(rest) > 0; {
		v, err := message.ParseView(rest)
		if err != nil {
			t.Fatal(err)
		}
		p.messages = append(p.messages, v.Message())
		rest = rest[v.Size():]
	}
	return p
}

// eventually waits for a condition that an asynchronous part brings about.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline:
			t.Fatalf("not within 20 s: %s", what)
		case <-tick.C:
		}
	}
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := fastjson.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func queue(topic string, id int32) store.QueueID { return store.QueueID{Topic: topic, ID: id} }

// physical is where a message of a queue lies in the log.
func (r *replica) physical(topic string, id int32, offset int64) int64 {
	r.t.Helper()
	e, ok := r.store.Entry(queue(topic, id), offset)
	if !ok {
		r.t.Fatalf("no entry %d in %s queue %d", offset, topic, id)
	}
	return e.Phys
}

// shiftedClock is the real clock, moved ahead.
type shiftedClock struct {
	broker.SystemClock
	shift atomic.Int64
}

func (c *shiftedClock) Now() time.Time { return time.Now().Add(time.Duration(c.shift.Load())) }
