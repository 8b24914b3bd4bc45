package compat_test

import (
	"math"
	"testing"
	"time"

	"rmq/remoting/protocol"
)

// Numbers and bodies that no stock client sends are refused, or mean the nearest sensible thing.
func TestUnusualRequests(t *testing.T) {
	r := startReplica(t, t.TempDir())
	r.send("T", 0, "", "x")
	pull := func(change func(h *protocol.PullMessageRequestHeader)) pulled {
		h := pullHeader("g", "T", 0, 0)
		change(h)
		return r.pull(h)
	}
	for _, n := range []int32{0, -1, math.MinInt32, math.MaxInt32} {
		if p := pull(func(h *protocol.PullMessageRequestHeader) { h.MaxMsgNums = n }); p.bodies() != "x" {
			t.Errorf("maxMsgNums %d: %d %s", n, p.code, p.remark)
		}
		if p := pull(func(h *protocol.PullMessageRequestHeader) { h.MaxMsgBytes, h.HasMaxMsgBytes = n, true }); p.bodies() != "x" {
			t.Errorf("maxMsgBytes %d: %d %s", n, p.code, p.remark)
		}
	}
	for _, id := range []int32{-1, math.MinInt32, math.MaxInt32} {
		if p := pull(func(h *protocol.PullMessageRequestHeader) { h.QueueID = id }); p.code != protocol.InvalidParameter {
			t.Errorf("queue %d: %d %s", id, p.code, p.remark)
		}
		r.refused(protocol.InvalidParameter, protocol.UpdateConsumerOffset, &protocol.UpdateConsumerOffsetRequestHeader{ConsumerGroup: "g", Topic: "T", QueueID: id}, nil)
	}
	for offset, next := range map[int64]int64{-1: 0, math.MinInt64: 0, math.MaxInt64: 1} {
		if p := pull(func(h *protocol.PullMessageRequestHeader) { h.QueueOffset = offset }); p.code != protocol.PullOffsetMoved || p.header.NextBeginOffset != next {
			t.Errorf("offset %d: %d, next %d", offset, p.code, p.header.NextBeginOffset)
		}
	}
	if p := pull(func(h *protocol.PullMessageRequestHeader) {
		h.QueueOffset, h.SysFlag, h.SuspendTimeoutMillis = 1, 2|4, math.MinInt64
	}); p.code != protocol.PullNotFound {
		t.Errorf("negative wait: %d %s", p.code, p.remark)
	}

	h := pullHeader("g", "T", 0, 1)
	h.SysFlag, h.SuspendTimeoutMillis = 2|4, math.MaxInt64 // waits, as long as anybody may
	answered := make(chan int32, 1)
	r.client.CallAsync(r.addr, protocol.NewRequest(protocol.PullMessage, h), time.Now().Add(time.Minute), func(c *protocol.Command, err error) {
		if err != nil {
			t.Error(err)
		}
		answered <- c.Code
	})
	eventually(t, "the pull is parked", func() bool { return r.broker.Parked() == 1 })
	r.ask(protocol.DeleteTopicInBroker, &protocol.DeleteTopicRequestHeader{Topic: "T"}, nil, nil)
	if code := <-answered; code != protocol.TopicNotExist {
		t.Errorf("a pull of a topic that was deleted: %d", code)
	}

	r.ask(protocol.CheckClientConfig, nil, []byte("{}"), nil)
	r.refused(protocol.InvalidParameter, protocol.LockBatchMq, nil, []byte("{}"))
	r.refused(protocol.InvalidParameter, protocol.LockBatchMq, nil, []byte(`{"consumerGroup":"g"}`))
	r.refused(protocol.InvalidParameter, protocol.HeartBeat, nil, []byte("{}"))
	for _, code := range []int32{protocol.LockBatchMq, protocol.HeartBeat, protocol.UpdateAndCreateSubscriptiongroup, protocol.CheckClientConfig} {
		r.refused(protocol.SystemError, code, nil, []byte(`{"a":`))
	}
	r.refused(protocol.InvalidParameter, protocol.UpdateAndCreateSubscriptiongroup, nil, []byte(`{"groupName":"h","retryQueueNums":2147483647}`))
	r.refused(protocol.InvalidParameter, protocol.UpdateAndCreateTopic, &protocol.CreateTopicRequestHeader{Topic: "U", ReadQueueNums: math.MaxInt32, WriteQueueNums: 1, Perm: 6, TopicFilterType: "SINGLE_TAG"}, nil)
	var group protocol.SubscriptionGroupConfig
	r.ask(protocol.UpdateAndCreateSubscriptiongroup, nil, []byte(`{"groupName":"h"}`), nil)
	r.ask(protocol.GetSubscriptiongroupConfig, &protocol.GetSubscriptionGroupConfigRequestHeader{Group: "h"}, nil, &group)
	if !group.ConsumeEnable || group.RetryQueueNums != 1 || group.RetryMaxTimes != 16 {
		t.Errorf("a group without settings: %+v", group)
	}
}
