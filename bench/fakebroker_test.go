package bench

import (
	"context"
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"rmq/compat/admin"
	"rmq/remoting"
	"rmq/remoting/fastjson"
	"rmq/remoting/protocol"
	"rmq/store/message"
)

// fakeBroker is a name server and a broker in memory behind a real listener: just enough of the protocol for a run.
type fakeBroker struct {
	t       *testing.T
	server  *remoting.Server
	address string
	// refuse, when set, may give a send another code than SUCCESS. It is called with the number of the send, from 1.
	refuse func(send int) (code int32)
	// stall, when set, is waited for before a send is answered.
	stall <-chan struct{}

	mu      sync.Mutex
	topics  map[string]int // queues
	queues  map[admin.Queue][][]byte
	arrived chan struct{} // closed and renewed at each message
	sends   int
	headers []protocol.Fields // of the sends
	members map[string]bool   // client ids
	commits map[int32]int64   // by queue
}

func startFakeBroker(t *testing.T) *fakeBroker {
	t.Helper()
	b := &fakeBroker{
		t: t, topics: map[string]int{}, queues: map[admin.Queue][][]byte{}, arrived: make(chan struct{}),
		members: map[string]bool{}, commits: map[int32]int64{},
	}
	mux := remoting.NewMux()
	class := &remoting.Class{Name: "test", Limit: 10_000, Mode: remoting.Spawn}
	for code, handle := range map[int32]func(*remoting.Request) *protocol.Command{
		protocol.GetRouteinfoByTopic:  b.route,
		protocol.GetBrokerClusterInfo: b.cluster,
		protocol.UpdateAndCreateTopic: b.createTopic,
		protocol.SendMessageV2:        b.send,
		protocol.SendBatchMessage:     b.send,
		protocol.GetMaxOffset:         b.maxOffset,
		protocol.GetMinOffset:         b.minOffset,
		protocol.PullMessage:          b.pull,
		protocol.HeartBeat:            b.heartbeat,
		protocol.UnregisterClient:     b.unregister,
		protocol.UpdateConsumerOffset: b.commit,
	} {
		mux.Handle(code, class, func(r *remoting.Request) {
			if resp := handle(r); resp != nil {
				r.Reply(resp)
				return
			}
			r.Done()
		})
	}
	var err error
	if b.server, err = remoting.Listen(remoting.ServerOptions{Addrs: []string{"127.0.0.1:0"}, Mux: mux}); err != nil {
		t.Fatal(err)
	}
	b.address = b.server.Addrs()[0].String()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := b.server.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return b
}

func ok(r *remoting.Request) *protocol.Command {
	return protocol.NewResponse(r.Cmd, protocol.Success, "")
}

func (b *fakeBroker) json(r *remoting.Request, body any) *protocol.Command {
	resp := ok(r)
	var err error
	if resp.Body, err = fastjson.Marshal(body); err != nil {
		b.t.Error(err)
	}
	return resp
}

func get(r *remoting.Request, key string) string {
	v, _ := r.Cmd.Ext.Get(key)
	return v
}

func number(r *remoting.Request, key string) int64 {
	n, _ := strconv.ParseInt(get(r, key), 10, 64)
	return n
}

func (b *fakeBroker) brokerData() protocol.BrokerData {
	return protocol.BrokerData{Cluster: "C", BrokerName: "broker-a", BrokerAddrs: map[int64]string{0: b.address}}
}

func (b *fakeBroker) route(r *remoting.Request) *protocol.Command {
	b.mu.Lock()
	n, found := b.topics[get(r, "topic")]
	b.mu.Unlock()
	if !found {
		return protocol.NewResponse(r.Cmd, protocol.TopicNotExist, "No topic route info")
	}
	return b.json(r, &protocol.TopicRouteData{
		BrokerDatas: []protocol.BrokerData{b.brokerData()},
		QueueDatas:  []protocol.QueueData{{BrokerName: "broker-a", ReadQueueNums: int32(n), WriteQueueNums: int32(n), Perm: protocol.PermRead | protocol.PermWrite}},
	})
}

func (b *fakeBroker) cluster(r *remoting.Request) *protocol.Command {
	return b.json(r, &protocol.ClusterInfo{BrokerAddrTable: map[string]protocol.BrokerData{"broker-a": b.brokerData()}})
}

func (b *fakeBroker) createTopic(r *remoting.Request) *protocol.Command {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.topics[get(r, "topic")] = int(number(r, "writeQueueNums"))
	return ok(r)
}

func (b *fakeBroker) send(r *remoting.Request) *protocol.Command {
	if b.stall != nil {
		<-b.stall
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sends++
	if b.refuse != nil {
		if code := b.refuse(b.sends); code != protocol.Success {
			return protocol.NewResponse(r.Cmd, code, "refused by the test")
		}
	}
	b.headers = append(b.headers, append(protocol.Fields(nil), r.Cmd.Ext...))
	bodies := [][]byte{r.Cmd.Body}
	if r.Cmd.Code == protocol.SendBatchMessage {
		bodies = splitBatch(r.Cmd.Body)
	}
	q := admin.Queue{ID: int32(number(r, "e"))}
	for _, body := range bodies {
		m := message.Message{Topic: get(r, "b"), QueueID: q.ID, Body: body, Properties: []byte(get(r, "i")), BornHost: netip.AddrPort{}}
		stored, err := m.AppendTo(nil)
		if err != nil {
			b.t.Error(err)
		}
		message.View(stored).SetQueueOffset(int64(len(b.queues[q])))
		b.queues[q] = append(b.queues[q], stored)
	}
	close(b.arrived)
	b.arrived = make(chan struct{})
	return ok(r)
}

// splitBatch returns the bodies of a batch body.
func splitBatch(batch []byte) (bodies [][]byte) {
	for len(batch) > 0 {
		size := binary.BigEndian.Uint32(batch)
		n := binary.BigEndian.Uint32(batch[16:])
		bodies = append(bodies, batch[20:20+n])
		batch = batch[size:]
	}
	return bodies
}

func (b *fakeBroker) offset(r *remoting.Request, offset int64) *protocol.Command {
	resp := ok(r)
	resp.Ext.Set("offset", strconv.FormatInt(offset, 10))
	return resp
}

func (b *fakeBroker) maxOffset(r *remoting.Request) *protocol.Command {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.offset(r, int64(len(b.queues[admin.Queue{ID: int32(number(r, "queueId"))}])))
}

func (b *fakeBroker) minOffset(r *remoting.Request) *protocol.Command { return b.offset(r, 0) }

// pull answers with messages, or holds the request until there are some or its suspend time is over.
func (b *fakeBroker) pull(r *remoting.Request) *protocol.Command {
	from, most := number(r, "queueOffset"), number(r, "maxMsgNums")
	timer := time.NewTimer(time.Duration(number(r, "suspendTimeoutMillis")) * time.Millisecond)
	defer timer.Stop()
	for {
		b.mu.Lock()
		all, arrived := b.queues[admin.Queue{ID: int32(number(r, "queueId"))}], b.arrived
		b.mu.Unlock()
		first := 0
		for first < len(all) && message.View(all[first]).QueueOffset() < from {
			first++
		}
		found := all[first:min(first+int(most), len(all))]
		next, code := from, protocol.Success
		if len(found) == 0 {
			select {
			case <-arrived:
				continue
			case <-r.Conn.Done():
				return nil
			case <-timer.C:
				code = protocol.PullNotFound
			}
		} else {
			next = message.View(found[len(found)-1]).QueueOffset() + 1
		}
		resp := protocol.NewResponse(r.Cmd, code, "")
		resp.Ext = (&protocol.PullMessageResponseHeader{NextBeginOffset: next, MaxOffset: int64(len(all))}).AppendFields(resp.Ext)
		for _, m := range found {
			resp.Body = append(resp.Body, m...)
		}
		return resp
	}
}

func (b *fakeBroker) heartbeat(r *remoting.Request) *protocol.Command {
	var beat protocol.HeartbeatData
	if err := fastjson.Unmarshal(r.Cmd.Body, &beat); err != nil {
		b.t.Error(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.members[beat.ClientID] = true
	return ok(r)
}

func (b *fakeBroker) unregister(r *remoting.Request) *protocol.Command {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.members, get(r, "clientID"))
	return ok(r)
}

func (b *fakeBroker) commit(r *remoting.Request) *protocol.Command {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.commits[int32(number(r, "queueId"))] = number(r, "commitOffset")
	return nil
}

// put stores messages that carry no stamp.
func (b *fakeBroker) put(topic string, queues, each int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.topics[topic] = queues
	for id := range queues {
		q := admin.Queue{ID: int32(id)}
		for i := range each {
			m := message.Message{Topic: topic, QueueID: q.ID, Body: []byte(strings.Repeat("x", 100))}
			stored, err := m.AppendTo(nil)
			if err != nil {
				b.t.Fatal(err)
			}
			message.View(stored).SetQueueOffset(int64(i))
			b.queues[q] = append(b.queues[q], stored)
		}
	}
}

// eventually waits until a condition on the broker holds.
func (b *fakeBroker) eventually(what string, holds func() bool) {
	b.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	timeout := time.NewTimer(10 * time.Second)
	defer timeout.Stop()
	for {
		b.mu.Lock()
		held := holds()
		b.mu.Unlock()
		if held {
			return
		}
		select {
		case <-tick.C:
		case <-timeout.C:
			b.t.Errorf("not within 10 s: %s", what)
			return
		}
	}
}

func (b *fakeBroker) stored() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, q := range b.queues {
		n += len(q)
	}
	return n
}
