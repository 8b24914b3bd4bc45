package bench

import (
	"bytes"
	"encoding/binary"
	"regexp"
	"testing"
	"time"

	"rmq/store/message"
)

func TestBodyStamp(t *testing.T) {
	at := time.Unix(1795350449, 123456789)
	body := fillBody(1024, 7)
	if len(body) != 1024 {
		t.Fatalf("%d bytes", len(body))
	}
	stampBody(body, at)
	if got, ok := bodyStamp(body); !ok || got != at.UnixNano() {
		t.Errorf("stamp %d %v, want %d", got, ok, at.UnixNano())
	}
	small := fillBody(bodyStampSize-1, 7)
	stampBody(small, at)
	if _, ok := bodyStamp(small); ok {
		t.Error("a body too small for a stamp has one")
	}
	if _, ok := bodyStamp(bytes.Repeat([]byte("x"), 100)); ok {
		t.Error("a foreign body has a stamp")
	}
	if bytes.Equal(fillBody(64, 1)[bodyStampSize:], fillBody(64, 2)[bodyStampSize:]) {
		t.Error("bodies with different seeds are equal")
	}
}

func TestPropertiesAreThoseOfAJavaClient(t *testing.T) {
	keys := newUniqueKeys(time.Unix(1795350449, 0))
	p := message.Properties(appendProperties(nil, keys, "a"))
	for name, want := range map[string]string{"WAIT": "true", "TAGS": "a"} {
		if got, _ := p.Get(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	key, _ := p.Get("UNIQ_KEY")
	if !regexp.MustCompile(`^[0-9A-F]{32}$`).MatchString(key) {
		t.Errorf("UNIQ_KEY %q", key)
	}
	seen := map[string]bool{}
	for range 100_000 {
		k := string(keys.appendKey(nil))
		if seen[k] {
			t.Fatalf("key %s handed out twice", k)
		}
		seen[k] = true
	}
}

func TestBatchItemLayout(t *testing.T) {
	item := appendBatchItem([]byte("before"), []byte("x"), []byte("WAIT\x01true"))[len("before"):]
	if got := int(binary.BigEndian.Uint32(item)); got != len(item) {
		t.Errorf("total size %d, want %d", got, len(item))
	}
	want := "\x00\x00\x00\x20" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x01x" + "\x00\x09WAIT\x01true"
	if string(item) != want {
		t.Errorf("item %q, want %q", item, want)
	}
}

func TestScheduleSpreadsARateOverConnections(t *testing.T) {
	const rate, connections = 1000.0, 4
	start := time.Unix(100, 0)
	now := start.Add(time.Second - time.Nanosecond)
	sent := 0
	last := map[int]time.Time{}
	for i := range connections {
		s := newSchedule(start, rate, i, connections)
		for {
			at, ok := s.take(now)
			if !ok {
				if !at.After(now) {
					t.Fatalf("not due, but meant for %v at %v", at, now)
				}
				break
			}
			if at.Before(start) || at.After(now) || at.Before(last[i]) {
				t.Fatalf("connection %d: intended %v after %v", i, at, last[i])
			}
			last[i] = at
			sent++
		}
	}
	if sent != rate {
		t.Errorf("%d messages within a second, want %v", sent, rate)
	}
	if last[0].Equal(last[1]) {
		t.Error("connections send in step")
	}
}

func TestScheduleChargesAStallToEveryMessage(t *testing.T) {
	start := time.Unix(100, 0)
	s := newSchedule(start, 100, 0, 1)
	if at, ok := s.take(start); !ok || !at.Equal(start) {
		t.Fatalf("first message: %v %v", at, ok)
	}
	stalled := start.Add(time.Second)
	for i := 1; i <= 100; i++ {
		at, ok := s.take(stalled)
		if want := start.Add(time.Duration(i) * 10 * time.Millisecond); !ok || !at.Equal(want) {
			t.Fatalf("message %d is meant for %v (due %v), want %v", i, at, ok, want)
		}
	}
	if _, ok := s.take(stalled); ok {
		t.Error("more messages than the rate gives")
	}
}
