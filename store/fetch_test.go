package store

import (
	"fmt"
	"reflect"
	"testing"
)

func TestFetchStatuses(t *testing.T) {
	r := newRig(t)
	q := QueueID{"T", 3}
	if res, err := r.Fetch(FetchRequest{Queue: q, Offset: 7}, nil); err != nil || res.Status != NoQueue || res.NextOffset != 0 {
		t.Fatalf("unknown queue: %+v, %v", res, err)
	}
	for i := range 200 {
		r.put(msg{topic: "T", queue: 3, body: fmt.Sprint(i), time: int64(i)}.encode())
	}
	res, err := r.Fetch(FetchRequest{Queue: q, Offset: 60, MaxMessages: 5}, []byte(nil))
	if err != nil || res.Status != Found || res.Count != 5 || res.NextOffset != 65 || res.MaxOffset != 200 {
		t.Fatalf("%+v, %v", res, err)
	}
	if got, want := bodies(t, res.Messages), []string{"60", "61", "62", "63", "64"}; !reflect.DeepEqual(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	if res.LastStoreTime != 64 {
		t.Fatalf("last store time %d", res.LastStoreTime)
	}
	for _, c := range []struct {
		offset int64
		status FetchStatus
		next   int64
	}{{-1, OffsetTooSmall, 0}, {200, NoNewMessage, 200}, {201, OffsetOverflow, 200}} {
		res, err := r.Fetch(FetchRequest{Queue: q, Offset: c.offset}, nil)
		if err != nil || res.Status != c.status || res.NextOffset != c.next {
			t.Fatalf("offset %d: %+v, %v", c.offset, res, err)
		}
	}
}

func TestReopenReplays(t *testing.T) {
	r := newRig(t)
	for i := range 300 {
		r.put(msg{topic: "T", queue: int32(i % 3), body: fmt.Sprint(i), uniq: fmt.Sprint("u", i), time: int64(i)}.encode())
		if i == 100 || i == 200 {
			r.checkpoint()
		}
	}
	want := r.Digest()
	r.reopen()
	if got := r.Digest(); got != want {
		t.Fatal("digest changed")
	}
	res, err := r.Fetch(FetchRequest{Queue: QueueID{"T", 1}, MaxMessages: 1000}, nil)
	if err != nil || res.Count != 100 {
		t.Fatalf("%+v %v", res.Count, err)
	}
	k, err := r.QueryByKey("T", "u7", true, 0, 1000, 10)
	if err != nil || len(k.Messages) != 1 {
		t.Fatalf("%d %v", len(k.Messages), err)
	}
}
