package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// recorded makes a record from the lines of an agent.
func recorded(lines ...string) *record {
	r := new(record)
	for _, l := range lines {
		r.add(strings.Split(l, " "))
	}
	return r
}

// numbers are receipts of key 0 with these numbers, in this order, each at the next place.
func numbers(list ...int) (receipts []receipt) {
	for i, n := range list {
		receipts = append(receipts, receipt{n: n, place: place{"b", 0, int64(i)}})
	}
	return receipts
}

func TestInOrder(t *testing.T) {
	for _, c := range []struct {
		list []int
		ok   bool
	}{
		{[]int{0, 1, 2, 3}, true},
		{[]int{0, 1, 2, 1, 2, 3}, true},
		{[]int{0, 1, 1, 1, 2}, true},
		{[]int{0, 1, 2, 0, 1, 0, 1, 2, 3}, true},
		{[]int{0, 2}, false},
		{[]int{1}, false},
		{[]int{0, 1, 2, 1, 3}, false},
		{[]int{0, 1, 0, 3}, false},
	} {
		if err := inOrder(numbers(c.list...)); (err == nil) != c.ok {
			t.Errorf("%v: %v", c.list, err)
		}
	}
}

func TestJudge(t *testing.T) {
	const sent0, sent1 = "sent p 0 0 1000 2000 SEND_OK b 0 0", "sent p 0 1 3000 4000 SEND_OK b 0 1"
	const got0, got1 = "got c b 0 0 0 false 5000 5100 0:0", "got c b 0 1 0 false 6000 6100 0:1"
	orderly := workload{orderly: true}
	retried := workload{refuse: true, maxReconsume: 1}
	for _, c := range []struct {
		name  string
		w     workload
		x     expectation
		lines []string
		want  string // the beginning of the first problem; "" if there is none
	}{
		{"all is well", orderly, expectation{}, []string{sent0, sent1, got0, got1}, ""},
		{"a loss", workload{}, expectation{}, []string{sent0, sent1, got0}, "LOST: 0:1"},
		{"an allowed loss", workload{}, expectation{async: true}, []string{sent0, sent1, got0}, ""},
		{"a place acknowledged twice", workload{}, expectation{}, []string{sent0, "sent p 0 1 3000 4000 SEND_OK b 0 0", got0, got1}, "two messages acknowledged"},
		{"a message elsewhere", workload{}, expectation{}, []string{sent0, "got c b 0 7 0 false 5000 5100 0:0"}, "0:0 was acknowledged at"},
		{"a place that changes", workload{}, expectation{async: true}, []string{got0, "got c b 0 0 0 false 6000 6100 0:1"}, "at {b 0 0} lay"},
		{"two in a queue", orderly, expectation{}, []string{sent0, sent1, "got c b 0 0 0 false 5000 6500 0:0", "got d b 0 1 0 false 6000 6100 0:1"}, "d entered queue b/0"},
		{"the other order", orderly, expectation{}, []string{sent0, sent1, "got c b 0 0 0 false 7000 7100 0:0", got1}, "order of receipt: key 0: 1 came"},
		{"dead once", retried, expectation{}, []string{sent0, got0, "got c b 0 0 1 true 9000 9100 0:0", "got g-dead b 0 0 0 true 9500 9600 0:0"}, ""},
		{"dead twice", retried, expectation{}, []string{sent0, got0, "got c b 0 0 1 true 9000 9100 0:0", "got g-dead b 0 0 0 true 9500 9600 0:0",
			"got g-dead b 0 1 0 true 9700 9800 0:0"}, "0:0 lies 2 times"},
		{"received twice from the dead-letter queue", retried, expectation{}, []string{sent0, got0, "got c b 0 0 1 true 9000 9100 0:0",
			"got g-dead b 0 0 0 true 9500 9600 0:0", "got g-dead b 0 0 0 true 9700 9800 0:0"}, ""},
		{"sent back twice for one failure", retried, expectation{}, []string{sent0, got0, "got c b 0 0 1 true 9000 9100 0:0", "got c b 0 1 1 true 9200 9300 0:0",
			"got g-dead b 0 0 0 true 9500 9600 0:0"}, "0:0 came back with the numbers [1 1]"},
		{"counted by the client itself", retried, expectation{}, []string{sent0, got0, "got c b 0 0 1 false 8000 8100 0:0", "got c b 0 0 1 true 9000 9100 0:0",
			"got c b 0 0 2 true 9200 9300 0:0", "got g-dead b 0 0 0 true 9500 9600 0:0"}, ""},
		{"not tried again", retried, expectation{}, []string{sent0, got0, "got g-dead b 0 0 0 true 9500 9600 0:0"}, "0:0 came back with the numbers [], not [1]"},
		{"nonsense", workload{}, expectation{}, []string{"sent p 0 x"}, "strconv.ParseInt"},
	} {
		_, errs := recorded(c.lines...).judge(c.w, c.x)
		ok := len(errs) == 0
		if c.want != "" {
			ok = len(errs) > 0 && strings.HasPrefix(errs[0].Error(), c.want)
		}
		if !ok {
			t.Errorf("%s: want %q, got %v", c.name, c.want, errs)
		}
	}
}

func TestFigures(t *testing.T) {
	f, errs := recorded(
		"sent p 0 0 1000 2000 SEND_OK b 0 0",
		"failed p 0 1 3000 3003000 connect to <127.0.0.1:1> failed",
		"failed p 0 2 3000 4000 connect to <127.0.0.1:23> failed",
		"sent p 0 3 4000000 4002000 FLUSH_SLAVE_TIMEOUT b 0 2",
		"got c b 0 0 0 false 5000 5100 0:0",
		"got c b 0 0 0 false 5000 5100 0:0",
		"got c b 0 1 0 false 6000 6100 0:1",
		"got c b 0 2 0 false 6000 6100 0:3",
		"got c b 0 3 0 false 6000 6100 0:3",
	).judge(workload{}, expectation{})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	got := fmt.Sprint(f)
	f.Reasons, f.Statuses = nil, nil
	want := figures{Acked: 2, Failed: 2, UnderWay: 1, GapMs: 4000, SlowestMs: 3000, ReceiveGapMs: 1, StoredTwice: 1, ReceivedTwice: 1}
	if fmt.Sprint(f) != fmt.Sprint(want) || !strings.Contains(got, "map[FLUSH_SLAVE_TIMEOUT:1]") || !strings.Contains(got, "map[connect to <#.#.#.#:#> failed:2]") {
		t.Errorf("got %s", got)
	}
}

func TestProgress(t *testing.T) {
	var h history
	at := time.Now()
	after := func(ms int, leader string, n int64) error {
		return h.add(at.Add(time.Duration(ms)*time.Millisecond), leader, n)
	}
	for ms := range 20 {
		if err := after(ms*100, "a", int64(ms)); err != nil {
			t.Fatal(err)
		}
	}
	if err := after(5_000, "b", 10); err != nil {
		t.Errorf("progress of the last moments of a leader may be lost: %v", err)
	}
	if err := after(5_100, "b", 7); err == nil {
		t.Error("progress that was old went back")
	}
}
