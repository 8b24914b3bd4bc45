package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"rmq/compat/admin"
	"rmq/remoting/fastjson"
	"rmq/remoting/protocol"
	"rmq/store/message"
)

// requestTimeout bounds one request, as in stock clients.
const requestTimeout = 3 * time.Second

// Client asks a cluster as a client does, and a single server what it knows of itself. Safe for concurrent use.
type Client struct {
	*admin.Cluster
	group string // brokerName
	// fixed is where the group is taken to be whatever the name servers say; "" = they say it.
	fixed string
}

// NewClient returns a client of one group; the caller closes it.
func NewClient(nameServers []string, group string) *Client {
	return &Client{Cluster: admin.NewCluster(nameServers, requestTimeout), group: group}
}

// NewClientAt returns a client that asks one server only.
func NewClientAt(address, group string) *Client {
	return &Client{Cluster: admin.NewCluster(nil, requestTimeout), group: group, fixed: address}
}

// Leader is the address of the group's broker 0.
func (c *Client) Leader(ctx context.Context) (string, error) {
	if c.fixed != "" {
		return c.fixed, nil
	}
	masters, err := c.Masters(ctx)
	if err != nil {
		return "", err
	}
	if masters[c.group] == "" {
		return "", fmt.Errorf("the name server knows no master of %s, only %v", c.group, slices.Sorted(maps.Keys(masters)))
	}
	return masters[c.group], nil
}

// Runtime is what a server says of itself.
func (c *Client) Runtime(ctx context.Context, address string) (map[string]string, error) {
	resp, err := c.Call(ctx, address, protocol.GetBrokerRuntimeInfo, nil)
	if err != nil {
		return nil, err
	}
	var kv protocol.KVTable
	err = fastjson.Unmarshal(resp.Body, &kv)
	return kv.Table, err
}

// Servers are the members of a group's Raft configuration as a replica knows it: "voter" or "learner", by ServerID.
func (c *Client) Servers(ctx context.Context, address string) (map[string]string, error) {
	info, err := c.Runtime(ctx, address)
	if err != nil {
		return nil, err
	}
	servers := map[string]string{}
	for entry := range strings.FieldsSeq(info["raftServers"]) {
		id, role, _ := strings.Cut(entry, "=")
		servers[id] = role
	}
	return servers, nil
}

// Progress is a replica's position in the group's log.
type Progress struct {
	Leads           bool
	Term            uint64
	Commit, Applied uint64
}

// Progress asks a replica for its position.
func (c *Client) Progress(ctx context.Context, address string) (p Progress, err error) {
	info, err := c.Runtime(ctx, address)
	if err != nil {
		return p, err
	}
	p.Leads = info["raftRole"] == "Leader"
	for key, v := range map[string]*uint64{"raftTerm": &p.Term, "raftCommitIndex": &p.Commit, "raftAppliedIndex": &p.Applied} {
		if *v, err = strconv.ParseUint(info[key], 10, 64); err != nil {
			return p, fmt.Errorf("%s: %s: %w", address, key, err)
		}
	}
	return p, nil
}

// ConsumerOffset asks where a group's progress in a queue stands; found is false if there is none.
func (c *Client) ConsumerOffset(ctx context.Context, consumers, topic string, queue int32) (offset int64, found bool, err error) {
	leader, err := c.Leader(ctx)
	if err != nil {
		return 0, false, err
	}
	resp, err := c.Call(ctx, leader, protocol.QueryConsumerOffset, &protocol.QueryConsumerOffsetRequestHeader{ConsumerGroup: consumers, Topic: topic, QueueID: queue})
	if reply := (*admin.ReplyError)(nil); errors.As(err, &reply) && reply.Code == protocol.QueryNotFound {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	var h protocol.QueryConsumerOffsetResponseHeader
	err = h.Decode(resp.Ext)
	return h.Offset, err == nil, err
}

// CommitOffset sets a group's progress.
func (c *Client) CommitOffset(ctx context.Context, address, consumers, topic string, queue int32, offset int64) error {
	_, err := c.Call(ctx, address, protocol.UpdateConsumerOffset, &protocol.UpdateConsumerOffsetRequestHeader{
		ConsumerGroup: consumers, Topic: topic, QueueID: queue, CommitOffset: offset,
	})
	return err
}

// TopicConfig asks the leader for a topic's configuration.
func (c *Client) TopicConfig(ctx context.Context, topic string) (t protocol.TopicConfig, err error) {
	leader, err := c.Leader(ctx)
	if err != nil {
		return t, err
	}
	resp, err := c.Call(ctx, leader, protocol.GetTopicConfig, &protocol.GetTopicConfigRequestHeader{Topic: topic})
	if err != nil {
		return t, err
	}
	return t, fastjson.Unmarshal(resp.Body, &t)
}

// pulled is the answer to a pull.
type pulled struct {
	code     int32
	next     int64
	min, max int64
	messages []message.View
}

// suspend is how long a pull waits at the broker for a message.
const suspend = time.Second

// Bits of a pull's sysFlag.
const pullSuspends, pullSubscribes = 2, 4

func (c *Client) pull(ctx context.Context, address, consumers, topic string, queue int32, offset int64, wait bool) (p pulled, err error) {
	h := protocol.PullMessageRequestHeader{
		ConsumerGroup: consumers, Topic: topic, QueueID: queue, QueueOffset: offset, MaxMsgNums: 32, SysFlag: pullSubscribes,
		Subscription: "*", ExpressionType: "TAG",
	}
	if wait {
		h.SysFlag |= pullSuspends
		h.SuspendTimeoutMillis = suspend.Milliseconds()
	}
	ctx, cancel := context.WithTimeout(ctx, suspend+requestTimeout)
	defer cancel()
	resp, err := c.Cluster.Client().Call(ctx, address, protocol.NewRequest(protocol.PullMessage, &h))
	if err != nil {
		return p, err
	}
	switch resp.Code {
	case protocol.Success, protocol.PullNotFound, protocol.PullRetryImmediately, protocol.PullOffsetMoved:
	default:
		return p, &admin.ReplyError{Code: resp.Code, Remark: resp.Remark}
	}
	var rh protocol.PullMessageResponseHeader
	if err := rh.Decode(resp.Ext); err != nil {
		return p, err
	}
	p = pulled{code: resp.Code, next: rh.NextBeginOffset, min: rh.MinOffset, max: rh.MaxOffset}
	if resp.Code != protocol.Success {
		return p, nil
	}
	for rest := resp.Body; len(rest) > 0; {
		v, err := message.ParseView(rest)
		if err != nil {
			return p, fmt.Errorf("%s sent a message that is none: %w", address, err)
		}
		p.messages = append(p.messages, v)
		rest = rest[v.Size():]
	}
	return p, nil
}

// Settled waits until one of the servers leads and all of them follow it and have applied what it had committed by then.
// It may be called under load.
func (c *Client) Settled(ctx context.Context, nodes ...*Node) (leader *Node, err error) {
	var target Progress
	err = Await(ctx, func(ctx context.Context) error {
		if leader == nil { // asked once: under load a target that moves on would never be reached
			if leader, target = c.leading(ctx, nodes); leader == nil {
				return errors.New("nobody leads")
			}
		}
		for _, n := range nodes {
			p, err := c.Progress(ctx, n.Address())
			switch {
			case err != nil:
				return err
			case p.Term != target.Term || p.Leads != (n == leader):
				was := leader
				leader = nil // another election: who leads now?
				return fmt.Errorf("%s is at %+v, not in the term of the leader %s %+v", n.Name, p, was.Name, target)
			case p.Applied < target.Commit:
				return fmt.Errorf("%s is at %+v, the leader %s was at %+v", n.Name, p, leader.Name, target)
			}
		}
		return nil
	})
	return leader, err
}

// leading finds the server that leads in the highest term.
func (c *Client) leading(ctx context.Context, nodes []*Node) (leader *Node, at Progress) {
	for _, n := range nodes {
		if p, err := c.Progress(ctx, n.Address()); err == nil && p.Leads && p.Term > at.Term {
			leader, at = n, p
		}
	}
	return leader, at
}

// ReadAll reads every queue of a topic from its first message to its last, from the group's leader.
func (c *Client) ReadAll(ctx context.Context, h *History, topic string) ([]Record, error) {
	leader, err := c.Leader(ctx)
	if err != nil {
		return nil, err
	}
	return c.ReadAllFrom(ctx, leader, h, topic)
}

// ReadAllFrom is ReadAll from the replica at an address.
func (c *Client) ReadAllFrom(ctx context.Context, address string, h *History, topic string) ([]Record, error) {
	var records []Record
	for queue := range h.Queues {
		q := admin.Queue{Broker: c.group, Address: address, ID: queue}
		offset, err := c.MinOffset(ctx, topic, q)
		if err != nil {
			return nil, err
		}
		end, _, err := c.MaxOffset(ctx, topic, q)
		if err != nil {
			return nil, err
		}
		for offset < end {
			p, err := c.pull(ctx, address, drainGroup, topic, queue, offset, false)
			if err != nil {
				return nil, fmt.Errorf("queue %d offset %d of %d: %w", queue, offset, end, err)
			}
			if p.next <= offset {
				return nil, fmt.Errorf("queue %d: at offset %d of %d the answer is code %d, next %d", queue, offset, end, p.code, p.next)
			}
			for _, v := range p.messages {
				records = append(records, recordOf(h.Run, v))
			}
			offset = p.next
		}
	}
	return records, nil
}

// drainGroup reads what is there in the end: a group that RocketMQ's tools own and that always exists.
const drainGroup = "TOOLS_CONSUMER"
