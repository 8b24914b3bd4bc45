package bench

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rmq/compat/admin"
	"rmq/remoting/protocol"
	"rmq/store/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// runJSON runs a bench command and decodes its result.
func runJSON(t *testing.T, args ...string) *Result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := Command(append(args, "-o", "json"), &stdout, &stderr); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	var r Result
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatalf("%v in %s", err, stdout.String())
	}
	return &r
}

func TestProduceClosedLoop(t *testing.T) {
	b := startFakeBroker(t)
	r := runJSON(t, "produce", "-n", b.address, "-t", "T", "--duration", "200ms", "--warmup", "100ms",
		"--connections", "3", "--concurrency", "4", "--size", "200", "--queues", "5", "--tag", "a")
	if r.Kind != kindProduce || r.Messages == 0 || r.MsgsPerS <= 0 || r.Failed != 0 || r.Bytes != 200*r.Messages {
		t.Errorf("result %+v", r)
	}
	if r.Latency.Count != r.Messages || r.Latency.P50 <= 0 || r.Latency.P9999 > r.Latency.Max*1.001 {
		t.Errorf("latency %+v of %d messages", r.Latency, r.Messages)
	}
	if r.Totals.Messages <= r.Messages || r.Totals.Messages != int64(b.stored()) || r.Totals.Stored != r.Totals.Messages {
		t.Errorf("totals %+v, measured %d, stored %d", r.Totals, r.Messages, b.stored())
	}
	if r.Target.Queues != 5 || r.Target.Brokers[0] != "broker-a="+b.address || r.Target.BrokerVersion != protocol.MQVersion {
		t.Errorf("target %+v", r.Target)
	}
	if len(r.Series) == 0 {
		t.Error("no time series")
	}
	for id := range int32(5) {
		if len(b.queues[admin.Queue{ID: id}]) == 0 {
			t.Errorf("queue %d got nothing", id)
		}
	}
	ext := b.headers[0]
	for key, want := range map[string]string{"a": "rmq-bench-producer", "b": "T", "c": "TBW102", "d": "4", "f": "0", "h": "0", "j": "0", "k": "false", "m": "false", "n": "broker-a"} {
		if got, found := ext.Get(key); !found || got != want {
			t.Errorf("header field %s = %q (%v), want %q", key, got, found, want)
		}
	}
	if p, _ := ext.Get("i"); !strings.HasPrefix(p, "UNIQ_KEY\x01") || !strings.HasSuffix(p, "\x02WAIT\x01true\x02TAGS\x01a") {
		t.Errorf("properties %q", p)
	}
}

func TestProduceBatch(t *testing.T) {
	b := startFakeBroker(t)
	r := runJSON(t, "produce", "-n", b.address, "-t", "T", "--duration", "100ms", "--warmup", "0s",
		"--connections", "1", "--concurrency", "2", "--size", "50", "--mode", "batch", "--batch", "10")
	if r.Messages == 0 || r.Messages != 10*r.Requests || r.Totals.Messages != int64(b.stored()) || r.Latency.Count != r.Requests {
		t.Errorf("result %+v, stored %d", r, b.stored())
	}
	if p, _ := b.headers[0].Get("i"); p != "WAIT\x01true" {
		t.Errorf("batch properties %q", p)
	}
}

func TestProduceOneway(t *testing.T) {
	b := startFakeBroker(t)
	r := runJSON(t, "produce", "-n", b.address, "-t", "T", "--duration", "100ms", "--warmup", "0s",
		"--connections", "2", "--mode", "oneway", "--size", "64")
	if r.Messages == 0 || r.Failed != 0 || r.Latency.Count != 0 {
		t.Errorf("result %+v", r)
	}
	if b.stored() == 0 {
		t.Error("nothing arrived")
	}
}

func TestProduceAtAFixedRate(t *testing.T) {
	b := startFakeBroker(t)
	r := runJSON(t, "produce", "-n", b.address, "-t", "T", "--duration", "500ms", "--warmup", "0s",
		"--connections", "2", "--concurrency", "8", "--rate", "400")
	if r.Messages < 150 || r.Messages > 201 {
		t.Errorf("%d messages in half a second at 400 a second", r.Messages)
	}
}

// A broker that stalls is charged for every message that had to wait, also for those that could not even be sent.
func TestFixedRateCountsFromTheIntendedTime(t *testing.T) {
	b := startFakeBroker(t)
	stall := make(chan struct{})
	b.stall = stall
	timer := time.AfterFunc(300*time.Millisecond, func() { close(stall) })
	defer timer.Stop()
	r := runJSON(t, "produce", "-n", b.address, "-t", "T", "--duration", "400ms", "--warmup", "0s",
		"--connections", "1", "--concurrency", "1", "--rate", "1000")
	if r.Latency.P50 < 50 {
		t.Errorf("p50 %v ms: of 400 messages 300 were due while the broker stalled for 300 ms", r.Latency.P50)
	}
}

func TestProduceCountsErrorsByCode(t *testing.T) {
	b := startFakeBroker(t)
	b.refuse = func(send int) int32 {
		if send%2 == 0 {
			return protocol.SystemBusy
		}
		return protocol.Success
	}
	r := runJSON(t, "produce", "-n", b.address, "-t", "T", "--duration", "200ms", "--warmup", "0s", "--connections", "1", "--concurrency", "4")
	n := r.Errors["code 2 SYSTEM_BUSY"]
	if n == 0 || n != r.Failed || r.Messages == 0 {
		t.Errorf("messages %d, failed %d, errors %v", r.Messages, r.Failed, r.Errors)
	}
	// 4 slots that rest errorPause after each refusal cannot be refused more often than this.
	if most := int64(4 * (400*time.Millisecond/errorPause + 1)); n > most {
		t.Errorf("refused %d times, want at most %d: a refused slot rests", n, most)
	}
}

func TestProduceFailsWhenNothingSucceeds(t *testing.T) {
	b := startFakeBroker(t)
	b.refuse = func(int) int32 { return protocol.NoPermission }
	var stdout, stderr bytes.Buffer
	code := Command([]string{"produce", "-n", b.address, "-t", "T", "--duration", "50ms", "--warmup", "0s", "--connections", "1", "--concurrency", "1"}, &stdout, &stderr)
	if code != exitFailure || !strings.Contains(stderr.String(), "NO_PERMISSION") {
		t.Errorf("exit code %d, stderr %q", code, stderr.String())
	}
	stderr.Reset()
	if code := Command([]string{"produce", "-n", "127.0.0.1:1", "-t", "T"}, &stdout, &stderr); code != exitFailure || stderr.Len() == 0 {
		t.Errorf("no name server: exit code %d, stderr %q", code, stderr.String())
	}
}

func TestConsumeBacklog(t *testing.T) {
	b := startFakeBroker(t)
	b.put("T", 4, 250)
	r := runJSON(t, "consume", "-n", b.address, "-t", "T", "--duration", "30s", "--connections", "2", "--count", "1000")
	if r.Totals.Messages != 1000 || r.Bytes != 100*1000 || r.Totals.Gaps != 0 || r.Totals.Repeats != 0 {
		t.Errorf("result %+v", r)
	}
	if r.Seconds > 10 {
		t.Errorf("took %v s: --count did not end the run", r.Seconds)
	}
	if r.Latency.Count != 0 {
		t.Errorf("%d latencies of messages that were there before", r.Latency.Count)
	}
	b.eventually("no member is left behind", func() bool { return len(b.members) == 0 })
	for id := range int32(4) {
		b.eventually("every queue is committed to its end", func() bool { return b.commits[id] == 250 })
	}
}

// The run ends, and commits, as soon as the count is complete, which another goroutine may see before this one goes on.
func TestTakeMovesOnBeforeItCounts(t *testing.T) {
	m := message.Message{Topic: "T", Body: []byte("x")}
	stored, err := m.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	o := consumeOptions{common: common{connections: 1}, tag: "*"}
	o.count = 1
	c := newConsumer(o, []admin.Queue{{}}, newRecorder(1), time.Now())
	defer c.conns[0].client.Close()
	p := c.conns[0].pulls[0]
	if !p.take(stored, 1) {
		t.Fatal("take refused a message")
	}
	select {
	case <-c.enough:
	default:
		t.Error("one message of one: not enough")
	}
	if got := p.next.Load(); got != 1 {
		t.Errorf("next offset %d when the count is complete, want 1", got)
	}
}

func TestConsumeWithFewerPullsThanQueues(t *testing.T) {
	b := startFakeBroker(t)
	b.put("T", 5, 100)
	r := runJSON(t, "consume", "-n", b.address, "-t", "T", "--duration", "30s", "--concurrency", "2", "--count", "500")
	if r.Totals.Messages != 500 {
		t.Errorf("%d messages of 5 queues x 100", r.Totals.Messages)
	}
}

func TestConsumeSeesWhatIsMissing(t *testing.T) {
	b := startFakeBroker(t)
	b.put("T", 1, 100)
	q := admin.Queue{}
	b.queues[q] = append(b.queues[q][:40:40], b.queues[q][50:]...)
	r := runJSON(t, "consume", "-n", b.address, "-t", "T", "--duration", "30s", "--count", "90")
	if r.Totals.Gaps != 10 {
		t.Errorf("%d offsets missed, want 10", r.Totals.Gaps)
	}
}

func TestEndToEndLatency(t *testing.T) {
	b := startFakeBroker(t)
	b.put("T", 2, 10)
	done := make(chan *Result)
	go func() {
		done <- runJSON(t, "consume", "-n", b.address, "-t", "T", "--duration", "600ms", "--from", "last")
	}()
	runJSON(t, "produce", "-n", b.address, "-t", "T", "--duration", "300ms", "--warmup", "0s", "--connections", "1", "--concurrency", "1", "--rate", "200")
	r := <-done
	if r.Totals.Messages == 0 || r.Latency.Count != r.Totals.Messages {
		t.Errorf("%d messages, %d latencies; want one for each", r.Totals.Messages, r.Latency.Count)
	}
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{nil, exitUsage, "Commands:"},
		{[]string{"nope"}, exitUsage, `unknown command "nope"`},
		{[]string{"help"}, exitOK, "Commands:"},
		{[]string{"produce", "--help"}, exitOK, "--concurrency"},
		{[]string{"consume", "--help"}, exitOK, "--from"},
		{[]string{"compare", "--help"}, exitOK, "--rounds"},
		{[]string{"produce"}, exitUsage, "--topic is required"},
		{[]string{"produce", "-t", "T", "surplus"}, exitUsage, "surplus"},
		{[]string{"produce", "-t", "T", "--nope"}, exitUsage, "nope"},
		{[]string{"produce", "-t", "T", "--duration", "0s"}, exitUsage, "--duration"},
		{[]string{"produce", "-t", "T", "--size", "0"}, exitUsage, "--size"},
		{[]string{"produce", "-t", "T", "--size", "5000000"}, exitUsage, "--size"},
		{[]string{"produce", "-t", "T", "--mode", "nope"}, exitUsage, "--mode"},
		{[]string{"produce", "-t", "T", "--mode", "batch", "--batch", "5000"}, exitUsage, "--batch"},
		{[]string{"produce", "-t", "T", "--rate", "-1"}, exitUsage, "--rate"},
		{[]string{"produce", "-t", "T", "-o", "xml"}, exitUsage, "--output"},
		{[]string{"produce", "-t", "T", "-n", ";"}, exitUsage, "--namesrv"},
		{[]string{"consume", "-t", "T", "--from", "middle"}, exitUsage, "--from"},
		{[]string{"consume", "-t", "T", "--connections", "0"}, exitUsage, "--connections"},
		{[]string{"compare", "--contenders", "nope"}, exitUsage, "nope"},
		{[]string{"compare", "--scenarios", "nope"}, exitUsage, "nope"},
		{[]string{"compare", "--rounds", "0"}, exitUsage, "--rounds"},
	} {
		var stdout, stderr bytes.Buffer
		if code := Command(c.args, &stdout, &stderr); code != c.code {
			t.Errorf("%q: exit code %d, want %d", c.args, code, c.code)
		}
		out := &stderr
		if c.code == exitOK {
			out = &stdout
		}
		if !strings.Contains(out.String(), c.says) {
			t.Errorf("%q: says %q, want something with %q", c.args, out.String(), c.says)
		}
	}
}

func TestTextResult(t *testing.T) {
	r := &Result{
		Kind: kindProduce, Target: Target{Topic: "T", Queues: 8, Brokers: []string{"broker-a=127.0.0.1:10911"}},
		Workload: Workload{Mode: modeSync, Connections: 16, Concurrency: 64, Size: 1024, WarmupS: 10}, Seconds: 30,
		Messages: 3_000_000, MsgsPerS: 100_000, MBPerS: 102.4, Failed: 2, Errors: map[string]int64{"timeout": 2},
		Latency: Latency{Count: 3_000_000, P50: 1, P99: 9.5}, Totals: Totals{Messages: 4_000_000, Stored: 4_000_000},
	}
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"produce T: sync, 16 connections x 64 in flight, 1024 B", "100000 msgs/s, 102.4 MB/s", "timeout", "p99 9.500", "queues grew by 4000000"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("lacks %q:\n%s", want, b.String())
		}
	}
	r = &Result{Kind: kindConsume, Target: r.Target, Workload: Workload{Mode: modePull, Connections: 2, Batch: 32}, Totals: Totals{Messages: 5, Gaps: 3}}
	b.Reset()
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"consume T: pull, 2 connections, ", "3 offsets missed"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("lacks %q:\n%s", want, b.String())
		}
	}
}
