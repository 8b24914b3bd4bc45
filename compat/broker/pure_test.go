package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"rmq/raftlog"
	"rmq/store/message"
)

func TestNames(t *testing.T) {
	long := strings.Repeat("n", 128)
	for _, c := range []struct {
		name         string
		topic, group bool
	}{
		{"a", true, true}, {"A-z_0%|9", true, true}, {"", false, false}, {" ", false, false}, {"a b", false, false}, {"a/b", false, false}, {"..", false, false},
		{"a\x01b", false, false}, {"größe", false, false}, {long[:127], true, true}, {long, false, true}, {long + long, false, false}, {long + long[:127], false, true},
		{RetryTopic(long), true, true}, {DLQTopic(long + long[:122]), true, true}, {DLQTopic(long + long[:123]), false, false}, {RetryPrefix + "a.b", false, false},
	} {
		if err := CheckTopicName(c.name); (err == nil) != c.topic {
			t.Errorf("topic %q: %v", c.name, err)
		}
		if err := CheckGroupName(c.name); (err == nil) != c.group {
			t.Errorf("group %q: %v", c.name, err)
		}
	}
	if err := CheckTopicName(strings.Repeat("/", 1<<20)); len(err.Error()) > 1000 {
		t.Errorf("a refusal of %d bytes", len(err.Error()))
	}
	b := newBench(t, func(o *Options) { o.TraceTopic = "Traces" })
	for name, want := range map[string]bool{"C": true, "b": true, "C_REPLY_TOPIC": true, "Traces": true, "rmq_sys_x": true, ScheduleTopic: true, AutoCreateTopic: true, "T": false, "": false} {
		if b.IsSystemTopic(name) != want {
			t.Errorf("%q is a system topic: %v", name, !want)
		}
	}
}

func TestParseTags(t *testing.T) {
	hash := func(tags ...string) (f tagFilter) {
		for _, tag := range tags {
			f = append(f, message.TagsCode([]byte(tag)))
		}
		return f
	}
	for expression, want := range map[string]tagFilter{
		"": nil, "*": nil, "A": hash("A"), " A || B ": hash("A", "B"), "A||*": nil, "A||||B": hash("A", "B"), "A|B": hash("A|B"),
	} {
		if f, err := parseTags(expression); err != nil || !slices.Equal(f, want) || (f == nil) != (want == nil) {
			t.Errorf("%q: %v %v, want %v", expression, f, err, want)
		}
	}
	for _, bad := range []string{" ", "||", " || ", strings.Repeat("x", subscriptionLengthMax+1)} {
		if _, err := parseTags(bad); reason(err) != fmt.Sprint(SubscriptionInvalid) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
	if err := CheckExpression("SQL92", "a > 1"); reason(err) != fmt.Sprint(Unsupported) {
		t.Errorf("SQL92: %v", err)
	}
	if err := CheckExpression("", "A"); err != nil {
		t.Error(err)
	}
}

func TestClientProperties(t *testing.T) {
	join := func(pairs ...string) string {
		return strings.NewReplacer("=", "\x01").Replace(strings.Join(pairs, "\x02"))
	}
	for _, c := range []struct {
		name, raw, stored string
		dropDelay         bool
		want              clientProperties
	}{
		{"none", "", "", false, clientProperties{}},
		{"plain, without a last separator", join("a=1", "UNIQ_KEY=U", "DELAY=3"), join("a=1", "UNIQ_KEY=U", "DELAY=3", ""), false, clientProperties{uniqueKey: "U", delayLevel: 3}},
		{"the broker's marks", join("REAL_TOPIC=X", "a=1", "TIMER_OUT_MS=1", "REAL_QID=1", "POP_CK=x", ""), join("a=1", ""), false, clientProperties{rewrite: true}},
		{"a delay that goes", join("a=1", "DELAY=3", "b=2", ""), join("a=1", "b=2", ""), true, clientProperties{delayLevel: 3}},
		{"a negative delay", join("DELAY=-3", ""), join("DELAY=-3", ""), false, clientProperties{}},
		{"pieces", "a\x02\x01\x02=b", "a\x02\x01\x02\x01b\x02", false, clientProperties{}},
		{"what the broker would add", join("MSG_REGION=r", "TRACE_ON=true", "CLUSTER=c", "TRAN_MSG=True", "TIMER_DELAY_MS=5", ""), join("MSG_REGION=r", "TRACE_ON=true", "CLUSTER=c", "TRAN_MSG=True", "TIMER_DELAY_MS=5", ""), false,
			clientProperties{region: true, traceOn: true, cluster: true, transaction: true, timer: true}},
	} {
		raw := strings.ReplaceAll(c.raw, "=", "\x01")
		got, err := readClientProperties(raw)
		if err != nil || got != c.want {
			t.Errorf("%s: %+v %v, want %+v", c.name, got, err, c.want)
		}
		if stored := string(got.appendTo(nil, raw, c.dropDelay)); stored != c.stored {
			t.Errorf("%s: stored %q, want %q", c.name, stored, c.stored)
		}
	}
	for _, bad := range []string{"soon", "99999999999", "1.5"} {
		if _, err := readClientProperties(join("DELAY=" + bad)); reason(err) != fmt.Sprint(MessageIllegal) {
			t.Errorf("DELAY=%s: %v", bad, err)
		}
	}
}

func TestParseDelayLevels(t *testing.T) {
	levels, err := ParseDelayLevels(DefaultDelayLevels)
	if err != nil || len(levels) != 18 || levels[0] != time.Second || levels[17] != 2*time.Hour {
		t.Errorf("%v %v", levels, err)
	}
	if levels, err = ParseDelayLevels("  0s\t3d "); err != nil || !slices.Equal(levels, []time.Duration{0, 72 * time.Hour}) {
		t.Errorf("%v %v", levels, err)
	}
	for _, bad := range []string{"", " ", "s", "1", "1x", "-1s", "1.5s", "1 s", "2147483647d", "99999999999s", "1ß"} {
		if levels, err := ParseDelayLevels(bad); err == nil {
			t.Errorf("%q: %v", bad, levels)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]Options{
		"no group":   {Cluster: "C"},
		"no address": {Cluster: "C", Group: "b"},
	} {
		if _, err := New(nil, nil, o); err == nil {
			t.Error(name)
		}
	}
}

func TestStatsWindows(t *testing.T) {
	clock := newFakeClock()
	s := newStats(clock)
	for range 7 { // a minute: the last 7 samples
		s.counter(TopicPutNums, "T", "").add(100, 10)
		s.sampleCounters(clock.Now(), true, true)
		clock.advance(10 * time.Second)
	}
	minute, hour, day, ok := s.Traffic(TopicPutNums, "T", "")
	want := Window{Sum: 600, PerSec: 10, PerTime: 10}
	if !ok || minute != want || hour != want || day != want {
		t.Errorf("%+v %+v %+v %v, want %+v", minute, hour, day, ok, want)
	}
	for range 7 {
		clock.advance(10 * time.Second)
		s.sampleCounters(clock.Now(), false, false)
	}
	if minute, hour, _, _ = s.Traffic(TopicPutNums, "T", ""); minute != (Window{}) || hour != want {
		t.Errorf("after a quiet minute: %+v %+v", minute, hour)
	}
	if _, _, _, ok = s.Traffic(TopicPutNums, "U", ""); ok {
		t.Error("a topic without traffic has some")
	}
}

func TestStatsRatesAndDays(t *testing.T) {
	clock := newFakeClock()
	s := newStats(clock)
	for range 700 {
		s.sent("T", 3, 300, 20*time.Millisecond)
		s.pulled("T", "g", 2, 200)
		s.missed()
		s.sampleTotals(clock.Now())
		clock.advance(time.Second)
	}
	sum := s.Summary()
	for i := range 3 {
		if sum.PutTPS[i] != 3 || sum.FoundTPS[i] != 1 || sum.MissTPS[i] != 1 || sum.TotalTPS[i] != 2 || sum.TransferredTPS[i] != 2 {
			t.Errorf("rates %+v", sum)
		}
	}
	if len(s.seconds) != 601 || sum.PutMessages != 2100 || sum.PutMax != 20*time.Millisecond || sum.Put99 != 20*time.Millisecond || sum.Buckets[2] != 700 || sum.PutToday != 0 {
		t.Errorf("%d samples, %+v", len(s.seconds), sum)
	}
	clock.advance(24 * time.Hour)
	s.sampleTotals(clock.Now())
	s.sent("T", 1, 1, 0)
	clock.advance(24 * time.Hour)
	s.sampleTotals(clock.Now())
	if sum = s.Summary(); sum.PutYesterday != 2100 || sum.PutToday != 2101 || sum.GetYesterday != 1400 || sum.GetToday != 1400 {
		t.Errorf("mornings %+v", sum)
	}
	for d, want := range map[time.Duration]int{0: 0, 999 * time.Microsecond: 0, time.Millisecond: 1, 10 * time.Millisecond: 2, 9999 * time.Millisecond: 11, 10 * time.Second: 12, time.Hour: 12} {
		if got := latencyBucket(d); got != want {
			t.Errorf("%v lies in class %d, want %d", d, got, want)
		}
	}
}

func TestBatchBody(t *testing.T) {
	for _, bad := range [][]byte{{}, make([]byte, 21), append([]byte{0xFF, 0xFF, 0xFF, 0xFF}, make([]byte, 30)...), append([]byte{0, 0, 0, 22}, make([]byte, 18)...)} {
		if _, _, err := nextBatched(bad); reason(err) != fmt.Sprint(MessageIllegal) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	huge := append([]byte{0, 0, 0, 30}, make([]byte, 26)...)
	copy(huge[16:], []byte{0xFF, 0xFF, 0xFF, 0xFF}) // a body of 4 GiB
	if _, _, err := nextBatched(huge); reason(err) != fmt.Sprint(MessageIllegal) {
		t.Errorf("%v", err)
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Reason
	}{
		{raftlog.ErrBusy, Busy}, {raftlog.ErrNotLeader, NotLeader}, {raftlog.ErrUncertain, NotAvailable}, {raftlog.ErrClosed, NotAvailable},
		{raftlog.ErrTooLarge, MessageIllegal}, {errors.New("x"), Internal}, {fmt.Errorf("wrapped: %w", refuse(TopicNotExist, "x")), TopicNotExist},
	} {
		if got := AsRefusal(c.err); got.Reason != c.want || got.Text == "" {
			t.Errorf("%v: %+v", c.err, got)
		}
	}
}

// A disk whose usage cannot be read for once is as full as it was.
func TestDiskThatCannotBeRead(t *testing.T) {
	used, failure := 0.95, error(nil)
	b := newBench(t, func(o *Options) { o.DiskUsage = func() (float64, error) { return used, failure } })
	refused := func() bool {
		return b.Send(&SendRequest{Topic: "T", DefaultTopic: AutoCreateTopic, Body: []byte("x")}, func(SendResult) {}) != nil
	}
	b.retain(context.Background())
	if !refused() {
		t.Error("a full disk takes messages")
	}
	used, failure = 0, errors.New("no")
	b.retain(context.Background())
	if !refused() {
		t.Error("a disk that cannot be read is taken for an empty one")
	}
	failure = nil
	b.retain(context.Background())
	if refused() {
		t.Error("an empty disk takes no messages")
	}
}

func TestUniqueIDs(t *testing.T) {
	b := newBench(t)
	seen := map[string]bool{}
	for range 1000 {
		id := b.unique.next(b.clock.Now())
		if len(id) != 32 || seen[id] || strings.ToUpper(id) != id {
			t.Fatalf("id %s", id)
		}
		seen[id] = true
	}
}
