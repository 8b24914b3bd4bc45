package compat_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"rmq/compat/broker"
	"rmq/remoting"
	"rmq/remoting/protocol"
	"rmq/store/message"
)

func TestSendAndPull(t *testing.T) {
	r := startReplica(t, t.TempDir())
	properties := props("KEYS", "k1 k2", "TAGS", "TagA", "UNIQ_KEY", "0A0B", "mine", "yours")
	for i := range 5 {
		h := r.send("T", 2, properties, fmt.Sprint("body", i))
		if h.QueueID != 2 || h.QueueOffset != int64(i) || h.TransactionID != "0A0B" || h.MsgRegion != "DefaultRegion" || h.TraceOn != "true" {
			t.Errorf("answer %+v", h)
		}
		host, phys, err := message.ParseOffsetID(h.MsgID)
		if err != nil || host.String() != "127.0.0.1:10911" || phys <= 0 {
			t.Errorf("msgId %s: %v %d %v", h.MsgID, host, phys, err)
		}
	}
	p := r.pull(pullHeader("g", "T", 2, 1))
	if p.code != protocol.Success || p.bodies() != "body1,body2,body3,body4" || p.header.NextBeginOffset != 5 || p.header.MaxOffset != 5 || p.header.MinOffset != 0 {
		t.Fatalf("pull: %d %s %s %+v", p.code, p.remark, p.bodies(), p.header)
	}
	m := p.messages[0]
	if m.Topic != "T" || m.QueueID != 2 || m.BornTimestamp != 1234567890123 || m.StoreTimestamp == 0 || m.BornHost.Addr().String() != "127.0.0.1" {
		t.Errorf("stored message %+v", m)
	}
	for name, want := range map[string]string{"KEYS": "k1 k2", "TAGS": "TagA", "UNIQ_KEY": "0A0B", "mine": "yours", "CLUSTER": "DefaultCluster"} {
		if got, _ := message.Properties(m.Properties).Get(name); got != want {
			t.Errorf("property %s is %q, want %q", name, got, want)
		}
	}
	// the other spelling of a send, and a queue that the broker picks
	v1 := protocol.SendMessageRequestHeader(*sendHeader("T", -1, ""))
	resp := r.ask(protocol.SendMessage, &v1, []byte("x"), nil)
	var h protocol.SendMessageResponseHeader
	if err := h.Decode(resp.Ext); err != nil || h.QueueID < 0 || h.QueueID > 3 || len(h.TransactionID) != 32 {
		t.Errorf("answer %+v %v", h, err)
	}
}

func TestBinaryHeadersAreMirrored(t *testing.T) {
	r := startReplica(t, t.TempDir())
	cmd := protocol.NewRequest(protocol.SendMessageV2, sendHeader("T", 0, ""))
	cmd.Codec, cmd.Body = protocol.CodecBinary, []byte("x")
	resp, err := r.client.Call(t.Context(), r.addr, cmd)
	if err != nil || resp.Code != protocol.Success || resp.Codec != protocol.CodecBinary {
		t.Fatalf("%+v %v", resp, err)
	}
}

func TestUnknownCode(t *testing.T) {
	r := startReplica(t, t.TempDir())
	if remark := r.refused(protocol.RequestCodeNotSupported, 9999, nil, nil); !strings.Contains(remark, "9999") {
		t.Errorf("remark %q does not name the code", remark)
	}
}

func batchBody(bodies ...string) []byte {
	var out []byte
	for i, body := range bodies {
		p := props("TAGS", "t"+strconv.Itoa(i))
		out = binary.BigEndian.AppendUint32(out, uint32(22+len(body)+len(p)))
		out = append(out, make([]byte, 8)...)
		out = binary.BigEndian.AppendUint32(out, uint32(i))
		out = binary.BigEndian.AppendUint32(out, uint32(len(body)))
		out = append(out, body...)
		out = binary.BigEndian.AppendUint16(out, uint16(len(p)))
		out = append(out, p...)
	}
	return out
}

func TestBatch(t *testing.T) {
	r := startReplica(t, t.TempDir())
	head := sendHeader("T", 1, "")
	head.Batch = true
	body := batchBody("a", "bb", "ccc")
	resp := r.ask(protocol.SendBatchMessage, head, body, nil)
	var h protocol.SendMessageResponseHeader
	if err := h.Decode(resp.Ext); err != nil || h.QueueOffset != 0 || strings.Count(h.MsgID, ",") != 2 {
		t.Fatalf("answer %+v %v", h, err)
	}
	p := r.pull(pullHeader("g", "T", 1, 0))
	if p.bodies() != "a,bb,ccc" || p.messages[2].Flag != 2 {
		t.Fatalf("pull %s %+v", p.bodies(), p.messages)
	}
	if tag, _ := message.Properties(p.messages[1].Properties).Get("TAGS"); tag != "t1" {
		t.Errorf("tag %q", tag)
	}
	for cut := range len(body) {
		if cut == 0 || cut == len(batchBody("a")) || cut == len(batchBody("a", "bb")) {
			continue // no message, or whole ones
		}
		r.refused(protocol.MessageIllegal, protocol.SendBatchMessage, head, body[:cut])
	}
}

func TestSendRefusals(t *testing.T) {
	r := startReplica(t, t.TempDir(), func(o *broker.Options) { o.MessageBytesMax = 1000 })
	r.send("T", 0, "", "x")
	r.ask(protocol.UpdateAndCreateTopic, &protocol.CreateTopicRequestHeader{Topic: "ReadOnly", ReadQueueNums: 4, WriteQueueNums: 4, Perm: 4, TopicFilterType: "SINGLE_TAG"}, nil, nil)
	big := bytes.Repeat([]byte("x"), 1001)
	for _, c := range []struct {
		name  string
		want  int32
		topic string
		queue int32
		props string
		body  []byte
	}{
		{"body over the limit", protocol.MessageIllegal, "T", 0, "", big},
		{"empty body", protocol.MessageIllegal, "T", 0, "", nil},
		{"properties over the limit", protocol.MessageIllegal, "T", 0, props("p", strings.Repeat("v", 32768)), []byte("x")},
		{"a path as topic", protocol.InvalidParameter, "../../etc/passwd", 0, "", []byte("x")},
		{"a topic too long", protocol.InvalidParameter, strings.Repeat("t", 128), 0, "", []byte("x")},
		{"no topic", protocol.InvalidParameter, "", 0, "", []byte("x")},
		{"a queue that is not there", protocol.InvalidParameter, "T", 4, "", []byte("x")},
		{"the schedule topic", protocol.NoPermission, "SCHEDULE_TOPIC_XXXX", 0, "", []byte("x")},
		{"a topic without write permission", protocol.NoPermission, "ReadOnly", 0, "", []byte("x")},
		{"a half message", protocol.NoPermission, "T", 0, props("TRAN_MSG", "true", "PGROUP", "pg"), []byte("x")},
		{"a timer message", protocol.SystemError, "T", 0, props("TIMER_DELAY_SEC", "3"), []byte("x")},
		{"a delay that is no number", protocol.MessageIllegal, "T", 0, props("DELAY", "soon"), []byte("x")},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := *r
			r.t = t
			r.refused(c.want, protocol.SendMessageV2, sendHeader(c.topic, c.queue, c.props), c.body)
		})
	}
	r.send("T", 0, "", string(big[:1000]))
	r.send(strings.Repeat("t", 127), 0, "", "x")
	r.send("T", 0, props("p", strings.Repeat("v", 32600)), "x")
}

func TestMissingHeaderFieldIsNamed(t *testing.T) {
	r := startReplica(t, t.TempDir())
	cmd := protocol.NewRequest(protocol.SendMessageV2, sendHeader("T", 0, ""))
	for i, f := range cmd.Ext {
		if f.Key == "e" {
			cmd.Ext[i].Value = "four"
		}
	}
	cmd.Body = []byte("x")
	resp, err := r.client.Call(t.Context(), r.addr, cmd)
	if err != nil || resp.Code != protocol.SystemError || !strings.Contains(resp.Remark, "four") {
		t.Fatalf("%+v %v", resp, err)
	}
}

func TestTopicIsNotCreatedWithoutPermission(t *testing.T) {
	r := startReplica(t, t.TempDir(), func(o *broker.Options) { o.AutoCreateTopic = false })
	r.refused(protocol.TopicNotExist, protocol.SendMessageV2, sendHeader("T", 0, ""), []byte("x"))
}

func TestPullOutcomes(t *testing.T) {
	r := startReplica(t, t.TempDir())
	for i := range 3 {
		r.send("T", 0, props("TAGS", "A"), fmt.Sprint(i))
	}
	for _, c := range []struct {
		name   string
		change func(h *protocol.PullMessageRequestHeader)
		code   int32
		next   int64
	}{
		{"at the end", func(h *protocol.PullMessageRequestHeader) { h.QueueOffset = 3 }, protocol.PullNotFound, 3},
		{"beyond the end", func(h *protocol.PullMessageRequestHeader) { h.QueueOffset = 9 }, protocol.PullOffsetMoved, 3},
		{"an empty queue", func(h *protocol.PullMessageRequestHeader) { h.QueueID = 1 }, protocol.PullNotFound, 0},
		{"an empty queue, not at 0", func(h *protocol.PullMessageRequestHeader) { h.QueueID, h.QueueOffset = 1, 7 }, protocol.PullOffsetMoved, 0},
		{"nothing for the filter", func(h *protocol.PullMessageRequestHeader) { h.Subscription = "B" }, protocol.PullRetryImmediately, 3},
		{"no such topic", func(h *protocol.PullMessageRequestHeader) { h.Topic = "U" }, protocol.TopicNotExist, 0},
		{"no such queue", func(h *protocol.PullMessageRequestHeader) { h.QueueID = 4 }, protocol.InvalidParameter, 0},
		{"no expression and no heartbeat", func(h *protocol.PullMessageRequestHeader) { h.SysFlag = 0 }, protocol.SubscriptionNotExist, 0},
		{"an expression without a tag", func(h *protocol.PullMessageRequestHeader) { h.Subscription = " || " }, protocol.SubscriptionParseFailed, 0},
		{"SQL92", func(h *protocol.PullMessageRequestHeader) { h.ExpressionType, h.Subscription = "SQL92", "a > 1" }, protocol.SystemError, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := pullHeader("g", "T", 0, 0)
			c.change(h)
			p := r.pull(h)
			if p.code != c.code || p.header.NextBeginOffset != c.next || p.remark == "" {
				t.Errorf("code %d next %d remark %q, want %d %d", p.code, p.header.NextBeginOffset, p.remark, c.code, c.next)
			}
		})
	}
}

func TestTagsAreFiltered(t *testing.T) {
	r := startReplica(t, t.TempDir())
	for i, tag := range []string{"TagA", "TagB", "TagC", "TagA", "Aa", "BB"} {
		r.send("T", 0, props("TAGS", tag), strconv.Itoa(i))
	}
	h := pullHeader("g", "T", 0, 0)
	h.Subscription = "TagA || TagC"
	if p := r.pull(h); p.bodies() != "0,2,3" || p.header.NextBeginOffset != 6 {
		t.Errorf("%s, next %d", p.bodies(), p.header.NextBeginOffset)
	}
	h.Subscription = "Aa" // hashes as BB does: the client sorts that out
	if p := r.pull(h); p.bodies() != "4,5" {
		t.Errorf("%s", p.bodies())
	}
}

func TestLongPoll(t *testing.T) {
	r := startReplica(t, t.TempDir())
	r.send("T", 0, "", "first")
	h := pullHeader("g", "T", 0, 1)
	h.SysFlag |= 2
	h.SuspendTimeoutMillis = 60_000
	h.Subscription = "Wanted"
	answers := make(chan *protocol.Command, 1)
	r.client.CallAsync(r.addr, protocol.NewRequest(protocol.PullMessage, h), time.Now().Add(30*time.Second), func(c *protocol.Command, err error) {
		if err != nil {
			t.Error(err)
		}
		answers <- &protocol.Command{Code: c.Code, Remark: c.Remark, Ext: append(protocol.Fields(nil), c.Ext...), Body: bytes.Clone(c.Body)}
	})
	eventually(t, "the pull is parked", func() bool { return r.broker.Parked() == 1 })
	r.send("T", 0, props("TAGS", "Other"), "second")
	r.send("T", 0, props("TAGS", "Wanted"), "third")
	select {
	case resp := <-answers:
		if p := decodePull(t, resp); p.bodies() != "third" || p.header.NextBeginOffset != 3 {
			t.Errorf("%d %s next %d", p.code, p.bodies(), p.header.NextBeginOffset)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the parked pull was not woken")
	}
	h.QueueOffset, h.SuspendTimeoutMillis = 3, 30
	if p := r.pull(h); p.code != protocol.PullNotFound || p.header.NextBeginOffset != 3 {
		t.Errorf("after the time-out: %d next %d", p.code, p.header.NextBeginOffset)
	}
	if n := r.broker.Parked(); n != 0 {
		t.Errorf("%d pulls still parked", n)
	}
}

func TestParkedPullEndsWithTheBroker(t *testing.T) {
	r := startReplica(t, t.TempDir())
	r.send("T", 0, "", "first")
	h := pullHeader("g", "T", 0, 1)
	h.SysFlag |= 2
	h.SuspendTimeoutMillis = 60_000
	done := make(chan struct{})
	r.client.CallAsync(r.addr, protocol.NewRequest(protocol.PullMessage, h), time.Now().Add(time.Minute), func(*protocol.Command, error) { close(done) })
	eventually(t, "the pull is parked", func() bool { return r.broker.Parked() == 1 })
	r.stop()
	<-done
}

func TestDelayLevels(t *testing.T) {
	r := startReplica(t, t.TempDir())
	began := time.Now()
	h := r.send("T", 3, props("DELAY", "2", "UNIQ_KEY", "U1"), "late")
	if h.QueueID != 1 && h.QueueID != 3 {
		t.Errorf("queue %d", h.QueueID)
	}
	r.send("T", 3, props("DELAY", "99"), "clamped")
	if p := r.pull(pullHeader("g", "T", 3, 0)); p.code == protocol.Success {
		t.Fatalf("delivered at once: %s", p.bodies())
	}
	eventually(t, "both messages are delivered", func() bool { return r.broker.Store().MaxOffset(queue("T", 3)) == 2 })
	if waited := time.Since(began); waited < testLevels[1] {
		t.Errorf("delivered after %v", waited)
	}
	p := r.pull(pullHeader("g", "T", 3, 0))
	if p.bodies() != "late,clamped" {
		t.Fatalf("delivered %s", p.bodies())
	}
	stored := message.Properties(p.messages[0].Properties).Map()
	for _, name := range []string{"DELAY", "REAL_TOPIC", "REAL_QID", "TIMER_OUT_MS"} {
		if v, ok := stored[name]; ok {
			t.Errorf("property %s=%s is left", name, v)
		}
	}
	if stored["UNIQ_KEY"] != "U1" {
		t.Errorf("UNIQ_KEY is %q", stored["UNIQ_KEY"])
	}
}

func TestSendBackRetriesThenDeadLetter(t *testing.T) {
	r := startReplica(t, t.TempDir())
	r.subscribe("g", "client-1", "T")
	sent := r.send("T", 0, props("UNIQ_KEY", "U1", "TAGS", "A"), "poison")
	_, offset, err := message.ParseOffsetID(sent.MsgID)
	if err != nil {
		t.Fatal(err)
	}
	for times := int64(0); times < 2; times++ {
		r.ask(protocol.ConsumerSendMsgBack, &protocol.ConsumerSendMsgBackRequestHeader{
			Offset: offset, Group: "g", DelayLevel: 1, MaxReconsumeTimes: 2, HasMaxReconsumeTimes: true,
		}, nil, nil)
		eventually(t, "the retry is delivered", func() bool { return r.broker.Store().MaxOffset(queue("%RETRY%g", 0)) == times+1 })
		p := r.pull(pullHeader("g", "%RETRY%g", 0, times))
		if len(p.messages) != 1 || p.messages[0].ReconsumeTimes != int32(times+1) || p.bodies() != "poison" {
			t.Fatalf("retry %d: %+v", times, p)
		}
		stored := message.Properties(p.messages[0].Properties).Map()
		if stored["RETRY_TOPIC"] != "T" || stored["ORIGIN_MESSAGE_ID"] != sent.MsgID || stored["UNIQ_KEY"] != "U1" || stored["TAGS"] != "A" {
			t.Errorf("retry properties %v", stored)
		}
		offset = r.physical("%RETRY%g", 0, times)
	}
	r.ask(protocol.ConsumerSendMsgBack, &protocol.ConsumerSendMsgBackRequestHeader{
		Offset: offset, Group: "g", DelayLevel: 1, MaxReconsumeTimes: 2, HasMaxReconsumeTimes: true,
	}, nil, nil)
	p := r.pull(pullHeader("g", "%DLQ%g", 0, 0))
	if p.bodies() != "poison" || p.messages[0].ReconsumeTimes != 3 {
		t.Fatalf("dead letter: %d %s %+v", p.code, p.remark, p.messages)
	}
	r.refused(protocol.SystemError, protocol.ConsumerSendMsgBack, &protocol.ConsumerSendMsgBackRequestHeader{Offset: 1, Group: "g"}, nil)
}

// A consumer that did not hear the answer to its send-back publishes the retry itself: there must be one retry, not two.
func TestLostSendBackAnswerGivesOneRetry(t *testing.T) {
	r := startReplica(t, t.TempDir())
	r.subscribe("g", "client-1", "T")
	sent := r.send("T", 0, props("UNIQ_KEY", "U1"), "poison")
	_, offset, _ := message.ParseOffsetID(sent.MsgID)
	r.ask(protocol.ConsumerSendMsgBack, &protocol.ConsumerSendMsgBackRequestHeader{Offset: offset, Group: "g", DelayLevel: 1}, nil, nil)
	h := sendHeader("%RETRY%g", 0, props("UNIQ_KEY", "U1", "DELAY", "1", "ORIGIN_MESSAGE_ID", "U1", "RETRY_TOPIC", "T"))
	h.ReconsumeTimes = 1
	r.ask(protocol.SendMessageV2, h, []byte("poison"), nil)
	r.send("%RETRY%g", 0, props("DELAY", "2"), "marker")
	eventually(t, "the marker is delivered", func() bool {
		return strings.HasSuffix(r.pull(pullHeader("g", "%RETRY%g", 0, 0)).bodies(), "marker")
	})
	if p := r.pull(pullHeader("g", "%RETRY%g", 0, 0)); p.bodies() != "poison,marker" {
		t.Errorf("delivered %s", p.bodies())
	}
}

func TestPublishedRetryBeyondTheLimitIsADeadLetter(t *testing.T) {
	r := startReplica(t, t.TempDir())
	r.subscribe("g", "client-1", "T")
	h := sendHeader("%RETRY%g", 0, props("DELAY", "3"))
	h.ReconsumeTimes, h.MaxReconsumeTimes, h.HasMaxReconsumeTimes = 3, 2, true
	r.ask(protocol.SendMessageV2, h, []byte("dead"), nil)
	if p := r.pull(pullHeader("g", "%DLQ%g", 0, 0)); p.bodies() != "dead" {
		t.Errorf("dead letters: %d %s", p.code, p.bodies())
	}
}

func TestOffsets(t *testing.T) {
	r := startReplica(t, t.TempDir())
	for i := range 5 {
		r.send("T", 0, "", strconv.Itoa(i))
	}
	query := func(zero bool) *protocol.QueryConsumerOffsetRequestHeader {
		return &protocol.QueryConsumerOffsetRequestHeader{ConsumerGroup: "g", Topic: "T", QueueID: 0, SetZeroIfNotFound: zero}
	}
	r.refused(protocol.QueryNotFound, protocol.QueryConsumerOffset, query(false), nil)
	read := func(zero bool) int64 {
		var h protocol.QueryConsumerOffsetResponseHeader
		if err := h.Decode(r.ask(protocol.QueryConsumerOffset, query(zero), nil, nil).Ext); err != nil {
			t.Fatal(err)
		}
		return h.Offset
	}
	if o := read(true); o != 0 {
		t.Errorf("a young queue starts at %d", o)
	}
	update := &protocol.UpdateConsumerOffsetRequestHeader{ConsumerGroup: "g", Topic: "T", QueueID: 0, CommitOffset: 3}
	r.ask(protocol.UpdateConsumerOffset, update, nil, nil)
	if o := read(false); o != 3 {
		t.Errorf("offset %d, want 3", o)
	}
	update.CommitOffset = 2 // going back is allowed
	r.ask(protocol.UpdateConsumerOffset, update, nil, nil)
	if o := read(false); o != 2 {
		t.Errorf("offset %d, want 2", o)
	}
	update.QueueID = 77
	r.refused(protocol.InvalidParameter, protocol.UpdateConsumerOffset, update, nil)
	update.Topic = "U"
	r.refused(protocol.TopicNotExist, protocol.UpdateConsumerOffset, update, nil)

	pull := pullHeader("g", "T", 0, 4)
	pull.SysFlag |= 1
	pull.CommitOffset = 4
	r.pull(pull)
	if o := read(false); o != 4 {
		t.Errorf("offset %d after a pull that carried 4", o)
	}
}

func TestResetOffsetTurnsConsumersBack(t *testing.T) {
	r := startReplica(t, t.TempDir())
	r.subscribe("g", "client-1", "T")
	for i := range 5 {
		r.send("T", 0, "", strconv.Itoa(i))
	}
	r.ask(protocol.UpdateConsumerOffset, &protocol.UpdateConsumerOffsetRequestHeader{ConsumerGroup: "g", Topic: "T", CommitOffset: 5}, nil, nil)
	var body protocol.ResetOffsetBody
	r.ask(protocol.InvokeBrokerToResetOffset, &protocol.ResetOffsetRequestHeader{Topic: "T", Group: "g", QueueID: -1, Timestamp: 0, Force: true}, nil, &body)
	if len(body.OffsetTable) != 4 {
		t.Errorf("reset %v", body.OffsetTable)
	}
	// progress made from the old position is ignored, the next pull is told the new one, the one after it reads there
	r.ask(protocol.UpdateConsumerOffset, &protocol.UpdateConsumerOffsetRequestHeader{ConsumerGroup: "g", Topic: "T", CommitOffset: 5}, nil, nil)
	if p := r.pull(pullHeader("g", "T", 0, 5)); p.code != protocol.PullOffsetMoved || p.header.NextBeginOffset != 0 {
		t.Fatalf("pull after the reset: %d next %d", p.code, p.header.NextBeginOffset)
	}
	eventually(t, "the mark is gone", func() bool { return r.pull(pullHeader("g", "T", 0, 0)).bodies() == "0,1,2,3,4" })
}

// subscribe registers a push consumer on the client's connection.
func (r *replica) subscribe(group, clientID, topic string) {
	r.t.Helper()
	r.ask(protocol.HeartBeat, nil, heartbeatBody(r.t, group, clientID, topic), nil)
}

func heartbeatBody(t *testing.T, group, clientID, topic string) []byte {
	return marshal(t, protocol.HeartbeatData{
		ClientID: clientID,
		ConsumerDataSet: []protocol.ConsumerData{{
			GroupName: group, ConsumeType: "CONSUME_PASSIVELY", MessageModel: "CLUSTERING", ConsumeFromWhere: "CONSUME_FROM_LAST_OFFSET",
			SubscriptionDataSet: []protocol.SubscriptionData{{Topic: topic, SubString: "*", ExpressionType: "TAG", SubVersion: 1}},
		}},
		ProducerDataSet: []protocol.ProducerData{{GroupName: "pg"}},
	})
}

func TestMembershipAndLocks(t *testing.T) {
	r := startReplica(t, t.TempDir())
	notified := make(chan string, 16)
	mux := remoting.NewMux()
	mux.Handle(protocol.NotifyConsumerIdsChanged, &remoting.Class{Name: "push", Limit: 16, Mode: remoting.Inline}, func(q *remoting.Request) {
		group, _ := q.Cmd.Ext.Get("consumerGroup")
		notified <- group
		q.Done()
	})
	first := remoting.NewClient(remoting.ClientOptions{Mux: mux})
	defer first.Close()
	beat := func(c *remoting.Client, id string) {
		t.Helper()
		cmd := protocol.NewRequest(protocol.HeartBeat, nil)
		cmd.Body = heartbeatBody(t, "g", id, "T")
		if resp, err := c.Call(t.Context(), r.addr, cmd); err != nil || resp.Code != protocol.Success {
			t.Fatalf("heartbeat: %+v %v", resp, err)
		}
	}
	r.send("T", 0, "", "x")
	beat(first, "client-1")
	second := remoting.NewClient(remoting.ClientOptions{})
	beat(second, "client-2")
	for range 2 { // for its own coming, and for the other's
		select {
		case g := <-notified:
			if g != "g" {
				t.Errorf("notified of %q", g)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("no notification")
		}
	}
	ids := func() string {
		var list protocol.GetConsumerListByGroupResponseBody
		r.ask(protocol.GetConsumerListByGroup, &protocol.GetConsumerListByGroupRequestHeader{ConsumerGroup: "g"}, nil, &list)
		return strings.Join(list.ConsumerIDList, ",")
	}
	if got := ids(); got != "client-1,client-2" {
		t.Errorf("members %s", got)
	}

	lock := func(id string, code int32) int {
		var got protocol.LockBatchResponseBody
		body := marshal(t, protocol.LockBatchRequestBody{ClientID: id, ConsumerGroup: "g", MQSet: []protocol.MessageQueue{
			{BrokerName: "broker-a", QueueID: 0, Topic: "T"}, {BrokerName: "broker-a", QueueID: 1, Topic: "T"}, {BrokerName: "broker-a", QueueID: 1, Topic: "Unknown"},
		}})
		if code == protocol.UnlockBatchMq {
			r.ask(code, nil, body, nil)
			return 0
		}
		r.ask(code, nil, body, &got)
		return len(got.LockOKMQSet)
	}
	if n := lock("client-1", protocol.LockBatchMq); n != 2 {
		t.Errorf("client-1 got %d queues", n)
	}
	if n := lock("client-2", protocol.LockBatchMq); n != 0 {
		t.Errorf("client-2 got %d queues that client-1 holds", n)
	}
	lock("client-1", protocol.UnlockBatchMq)
	if n := lock("client-2", protocol.LockBatchMq); n != 2 {
		t.Errorf("client-2 got %d queues", n)
	}
	second.Close()
	eventually(t, "the second member is gone", func() bool { return ids() == "client-1" })
	if g := <-notified; g != "g" {
		t.Errorf("notified of %q", g)
	}
}

func TestQueries(t *testing.T) {
	r := startReplica(t, t.TempDir())
	var sent []protocol.SendMessageResponseHeader
	for i := range 3 {
		sent = append(sent, r.send("T", 0, props("KEYS", "order-1 order-x", "UNIQ_KEY", "U"+strconv.Itoa(i)), strconv.Itoa(i)))
	}
	find := func(key string, unique bool) string {
		resp := r.call(protocol.QueryMessage, &protocol.QueryMessageRequestHeader{
			Topic: "T", Key: key, MaxNum: 64, BeginTimestamp: 0, EndTimestamp: time.Now().Add(time.Hour).UnixMilli(), UniqueKeyQuery: unique,
		}, nil)
		if resp.Code == protocol.QueryNotFound {
			return "none"
		}
		var out []string
		for rest := resp.Body; len(rest) > 0; {
			v, err := message.ParseView(rest)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, string(v.Body()))
			rest = rest[v.Size():]
		}
		return strings.Join(out, ",")
	}
	if got := find("order-1", false); len(got) != 5 {
		t.Errorf("order-1 finds %s", got)
	}
	if got := find("U2", true); got != "2" {
		t.Errorf("U2 finds %s", got)
	}
	if got := find("nothing", false); got != "none" {
		t.Errorf("nothing finds %s", got)
	}
	_, offset, _ := message.ParseOffsetID(sent[1].MsgID)
	v, err := message.ParseView(r.ask(protocol.ViewMessageById, &protocol.ViewMessageRequestHeader{Offset: offset}, nil, nil).Body)
	if err != nil || string(v.Body()) != "1" {
		t.Errorf("view: %v %v", v, err)
	}
	r.refused(protocol.SystemError, protocol.ViewMessageById, &protocol.ViewMessageRequestHeader{Offset: offset + 1}, nil)

	var h protocol.GetMaxOffsetResponseHeader
	if err := h.Decode(r.ask(protocol.GetMaxOffset, &protocol.GetMaxOffsetRequestHeader{Topic: "T"}, nil, nil).Ext); err != nil || h.Offset != 3 {
		t.Errorf("max offset %d %v", h.Offset, err)
	}
	var found protocol.SearchOffsetResponseHeader
	if err := found.Decode(r.ask(protocol.SearchOffsetByTimestamp, &protocol.SearchOffsetRequestHeader{Topic: "T", Timestamp: time.Now().Add(time.Hour).UnixMilli()}, nil, nil).Ext); err != nil || found.Offset != 3 {
		t.Errorf("offset by a time to come: %d %v", found.Offset, err)
	}
}

func TestAdminBasics(t *testing.T) {
	r := startReplica(t, t.TempDir())
	r.subscribe("g", "client-1", "T")
	create := &protocol.CreateTopicRequestHeader{Topic: "T", ReadQueueNums: 3, WriteQueueNums: 2, Perm: 6, TopicFilterType: "SINGLE_TAG", Attributes: "+message.type=NORMAL"}
	r.ask(protocol.UpdateAndCreateTopic, create, nil, nil)
	var topic protocol.TopicConfig
	r.ask(protocol.GetTopicConfig, &protocol.GetTopicConfigRequestHeader{Topic: "T"}, nil, &topic)
	if topic.ReadQueueNums != 3 || topic.WriteQueueNums != 2 || topic.Attributes["message.type"] != "NORMAL" {
		t.Errorf("topic %+v", topic)
	}
	create.Attributes = "+message.type=NONSENSE"
	r.refused(protocol.InvalidParameter, protocol.UpdateAndCreateTopic, create, nil)
	create.Topic = "TBW102"
	r.refused(protocol.InvalidParameter, protocol.UpdateAndCreateTopic, create, nil)

	r.send("T", 1, "", "x")
	var stats protocol.TopicStatsTable
	r.ask(protocol.GetTopicStatsInfo, &protocol.GetTopicStatsInfoRequestHeader{Topic: "T"}, nil, &stats)
	if o := stats.OffsetTable[protocol.MessageQueue{BrokerName: "broker-a", QueueID: 1, Topic: "T"}]; o.MaxOffset != 1 || o.LastUpdateTimestamp == 0 {
		t.Errorf("topic stats %+v", stats)
	}
	r.ask(protocol.UpdateConsumerOffset, &protocol.UpdateConsumerOffsetRequestHeader{ConsumerGroup: "g", Topic: "T", QueueID: 1, CommitOffset: 1}, nil, nil)
	var progress protocol.ConsumeStats
	r.ask(protocol.GetConsumeStats, &protocol.GetConsumeStatsRequestHeader{ConsumerGroup: "g"}, nil, &progress)
	if w := progress.OffsetTable[protocol.MessageQueue{BrokerName: "broker-a", QueueID: 1, Topic: "T"}]; w.BrokerOffset != 1 || w.ConsumerOffset != 1 {
		t.Errorf("consume stats %+v", progress)
	}
	var runtime protocol.KVTable
	r.ask(protocol.GetBrokerRuntimeInfo, nil, nil, &runtime)
	for _, key := range []string{"putTps", "brokerVersionDesc", "brokerVersion", "msgPutTotalTodayNow", "putMessageDistributeTime", "earliestMessageTimeStamp", "bootTimestamp"} {
		if runtime.Table[key] == "" {
			t.Errorf("runtime information lacks %s", key)
		}
	}
	var who protocol.GroupList
	r.ask(protocol.QueryTopicConsumeByWho, &protocol.QueryTopicConsumeByWhoRequestHeader{Topic: "T"}, nil, &who)
	if len(who.GroupList) != 1 || who.GroupList[0] != "g" {
		t.Errorf("consumed by %v", who.GroupList)
	}
	r.ask(protocol.DeleteTopicInBroker, &protocol.DeleteTopicRequestHeader{Topic: "T"}, nil, nil)
	r.refused(protocol.TopicNotExist, protocol.GetTopicConfig, &protocol.GetTopicConfigRequestHeader{Topic: "T"}, nil)
	if h := r.send("T", 1, "", "again"); h.QueueOffset != 0 {
		t.Errorf("a topic made anew starts at %d", h.QueueOffset)
	}
}

func TestRestartKeepsEverything(t *testing.T) {
	dir := t.TempDir()
	r := startReplica(t, dir)
	r.subscribe("g", "client-1", "T")
	for i := range 100 {
		r.send("T", int32(i%4), props("KEYS", "key"+strconv.Itoa(i)), strconv.Itoa(i))
	}
	r.ask(protocol.UpdateConsumerOffset, &protocol.UpdateConsumerOffsetRequestHeader{ConsumerGroup: "g", Topic: "T", QueueID: 1, CommitOffset: 7}, nil, nil)
	r.send("T", 0, props("DELAY", "5"), "parked")
	digest := r.store.Digest()
	r.stop()

	r = startReplica(t, dir)
	if p := r.pull(pullHeader("g", "T", 3, 20)); p.bodies() != "83,87,91,95,99" {
		t.Errorf("after the restart: %d %s", p.code, p.bodies())
	}
	if o, ok := r.broker.Offset("g", queue("T", 1)); !ok || o != 7 {
		t.Errorf("progress %d %v", o, ok)
	}
	eventually(t, "the parked message is delivered", func() bool { return r.broker.Store().MaxOffset(queue("T", 0)) == 26 })
	if digest == "" {
		t.Error("no digest")
	}
}

func TestRetentionKeepsParkedMessages(t *testing.T) {
	clock := &shiftedClock{}
	levels := []time.Duration{20 * time.Millisecond, 100 * time.Hour}
	r := startReplica(t, t.TempDir(), func(o *broker.Options) {
		o.Clock, o.DelayLevels = clock, levels
		o.RetentionAge, o.RetentionCheckEvery = time.Hour, 10*time.Millisecond
		o.RetentionHours = []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23}
	})
	r.send("T", 0, props("DELAY", "2"), "much later")
	filler := strings.Repeat("x", 64<<10)
	for range 40 { // more than two segments
		r.send("T", 1, "", filler)
	}
	clock.shift.Store(int64(2 * time.Hour))
	eventually(t, "the log is trimmed", func() bool { return r.broker.Store().MinOffset(queue("T", 1)) > 0 })
	if p := r.pull(pullHeader("g", "T", 1, 0)); p.code != protocol.PullOffsetMoved || p.header.NextBeginOffset == 0 {
		t.Errorf("pull below the cut: %d next %d", p.code, p.header.NextBeginOffset)
	}
	clock.shift.Store(int64(101 * time.Hour))
	eventually(t, "the parked message is delivered", func() bool { return r.broker.Store().MaxOffset(queue("T", 0)) == 1 })
	if p := r.pull(pullHeader("g", "T", 0, 0)); p.bodies() != "much later" {
		t.Errorf("delivered %d %s", p.code, p.bodies())
	}
}

func TestDiskFullRefusesWrites(t *testing.T) {
	used := make(chan float64, 1)
	level := 0.5
	r := startReplica(t, t.TempDir(), func(o *broker.Options) {
		o.RetentionCheckEvery = 5 * time.Millisecond
		o.DiskUsage = func() (float64, error) {
			select {
			case level = <-used:
			default:
			}
			return level, nil
		}
	})
	r.send("T", 0, "", "x")
	used <- 0.95
	eventually(t, "writes are refused", func() bool {
		resp := r.call(protocol.SendMessageV2, sendHeader("T", 0, ""), []byte("x"))
		return resp.Code == protocol.ServiceNotAvailable && strings.Contains(resp.Remark, "disk full")
	})
	if p := r.pull(pullHeader("g", "T", 0, 0)); p.code != protocol.Success {
		t.Errorf("reading while the disk is full: %d", p.code)
	}
	used <- 0.5
	eventually(t, "writes are taken again", func() bool {
		return r.call(protocol.SendMessageV2, sendHeader("T", 0, ""), []byte("x")).Code == protocol.Success
	})
}

func TestOnewaySend(t *testing.T) {
	r := startReplica(t, t.TempDir())
	cmd := protocol.NewRequest(protocol.SendMessageV2, sendHeader("T", 0, ""))
	cmd.Body = []byte("x")
	cmd.MarkOneway()
	if err := r.client.Oneway(context.Background(), r.addr, cmd); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is stored", func() bool { return r.broker.Store().MaxOffset(queue("T", 0)) == 1 })
}
