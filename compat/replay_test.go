package compat_test

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"rmq/remoting/protocol"
)

// recorded is one exchange between Apache's client or mqadmin 4.9.8 (or client-go) and Apache's broker 4.9.8.
type recorded struct {
	Code    int32
	Side    string
	Request recordedFrame
	// Response is nil for oneway requests.
	Response *recordedFrame
}

type recordedFrame struct {
	Frame []byte
}

func (f *recordedFrame) command(t *testing.T) *protocol.Command {
	t.Helper()
	var c protocol.Command
	if err := protocol.DecodeFrame(f.Frame[4:], &c); err != nil {
		t.Fatal(err)
	}
	return &c
}

// replayed lists the requests whose answers do not depend on what else had been sent when they were recorded, once their
// topic and group exist: their answers must have the recorded code and header fields.
var replayed = []int32{
	protocol.SendMessage, protocol.SendMessageV2, protocol.SendBatchMessage, protocol.UpdateConsumerOffset, protocol.GetMaxOffset,
	protocol.GetMinOffset, protocol.HeartBeat, protocol.UnregisterClient, protocol.LockBatchMq, protocol.UnlockBatchMq,
	protocol.UpdateAndCreateTopic, protocol.DeleteTopicInBroker, protocol.UpdateAndCreateSubscriptiongroup, protocol.DeleteSubscriptiongroup,
	protocol.GetTopicStatsInfo, protocol.GetConsumeStats, protocol.GetBrokerRuntimeInfo, protocol.GetBrokerConfig, protocol.GetAllTopicConfig,
	protocol.GetAllSubscriptiongroupConfig, protocol.GetSystemTopicListFromBroker, protocol.QueryTopicConsumeByWho,
}

// optionalFields may be missing: they are new in later versions, or say nothing.
var optionalFields = []string{"transactionId", "IS_SUPPORT_HEART_BEAT_V2", "IS_SUB_CHANGE"}

func TestRecordedRequestsGetTheRecordedAnswers(t *testing.T) {
	r := startReplica(t, t.TempDir())
	count := 0
	for _, rec := range readRecorded(t) {
		if rec.Side != "client->broker" || !slices.Contains(replayed, rec.Code) || rec.Response == nil {
			continue
		}
		request, want := rec.Request.command(t), rec.Response.command(t)
		if want.Code != protocol.Success || isHalfMessage(request) {
			continue
		}
		r.prepareFor(request)
		got, err := r.client.Call(t.Context(), r.addr, request)
		if err != nil {
			t.Errorf("request %d: %v", rec.Code, err)
			continue
		}
		count++
		if got.Code != want.Code {
			t.Errorf("request %d %v: code %d (%s), Apache answered %d", rec.Code, request.Ext, got.Code, got.Remark, want.Code)
		}
		if a, b := fieldNames(got.Ext), fieldNames(want.Ext); !slices.Equal(a, b) {
			t.Errorf("request %d: answer has the fields %v, Apache's has %v", rec.Code, a, b)
		}
		if (len(got.Body) == 0) != (len(want.Body) == 0) {
			t.Errorf("request %d: body of %d bytes, Apache's has %d", rec.Code, len(got.Body), len(want.Body))
		}
	}
	if count < 25 {
		t.Errorf("only %d requests were replayed", count)
	}
}

// isHalfMessage reports a transactional send, which is refused: TestSendRefusals has it.
func isHalfMessage(request *protocol.Command) bool {
	properties, _ := request.Ext.Get("i")
	return strings.Contains(properties, "TRAN_MSG\x01true")
}

// prepareFor creates what a recorded request takes for granted.
func (r *replica) prepareFor(request *protocol.Command) {
	r.t.Helper()
	for _, name := range []string{"topic", "b"} {
		topic, ok := request.Ext.Get(name)
		if !ok || request.Code == protocol.UpdateAndCreateTopic {
			continue
		}
		if _, exists := r.store.Topic(topic); !exists {
			r.ask(protocol.UpdateAndCreateTopic, &protocol.CreateTopicRequestHeader{
				Topic: topic, ReadQueueNums: 8, WriteQueueNums: 8, Perm: 6, TopicFilterType: "SINGLE_TAG",
			}, nil, nil)
		}
	}
}

func fieldNames(f protocol.Fields) []string {
	var names []string
	for _, field := range f {
		if !slices.Contains(optionalFields, field.Key) {
			names = append(names, field.Key)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func readRecorded(t *testing.T) []recorded {
	t.Helper()
	f, err := os.Open("../remoting/protocol/testdata/remoting-4.9.8.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var all []recorded
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var rec recorded
		if err := json.Unmarshal(lines.Bytes(), &rec); err != nil {
			t.Fatal(err)
		}
		all = append(all, rec)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}
