package broker

import (
	"testing"

	"rmq/store"
)

// Two producers may be the first ones of a topic at the same moment, and want different numbers of queues.
func TestMessagesInFlightAgreeOnTheNewTopic(t *testing.T) {
	b := newBench(t)
	first, create, err := b.topicForSend("T", AutoCreateTopic, 8)
	if err != nil || !create || first.WriteQueues != 8 {
		t.Fatalf("%+v %v %v", first, create, err)
	}
	b.send(t, &SendRequest{Topic: "T", DefaultTopic: AutoCreateTopic, DefaultTopicQueues: 2, QueueID: 7, MaxReconsumeTimes: -1, Body: []byte("x")})
	if got, _ := b.Store().Topic("T"); got.ReadQueues != 8 || b.Store().MaxOffset(store.QueueID{Topic: "T", ID: 7}) != 1 {
		t.Errorf("topic %+v", got)
	}
	for _, bad := range []SendRequest{{QueueID: 99, Body: []byte("x")}, {}, {Batch: true, Body: []byte("x")}} {
		bad.Topic, bad.DefaultTopic, bad.DefaultTopicQueues = "U", AutoCreateTopic, 2
		if err := b.Send(&bad, nil); err == nil {
			t.Errorf("sent %+v", bad)
		}
	}
	if n := len(b.creating.byName); n != 0 {
		t.Errorf("%d topics count as being created", n)
	}
}
