// Package admin asks a RocketMQ cluster what tools need to know and to change: routes, topics, offsets. It speaks the
// protocol, so it serves any RocketMQ-compatible cluster.
package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"rmq/remoting"
	"rmq/remoting/fastjson"
	"rmq/remoting/protocol"
)

// Queue is one queue of a topic and where its master answers.
type Queue struct {
	Broker  string // brokerName
	Address string // of the master, brokerId 0
	ID      int32
}

// Permission bits of topics.
const (
	PermWrite     = 2
	PermRead      = 4
	PermReadWrite = PermRead | PermWrite
)

// routeTimeout bounds how long a topic that was just created may take to show in the name server's route. A stock broker
// registers a change at once, but one that has just started may need a moment to have registered at all.
const routeTimeout = 15 * time.Second

// pollInterval is how often a route that is waited for is asked for.
const pollInterval = 100 * time.Millisecond

// AutoCreateTopic is the template that unknown topics are made from.
const AutoCreateTopic = "TBW102"

// ReplyError is an answer whose code is not SUCCESS.
type ReplyError struct {
	Code   int32
	Remark string
}

func (e *ReplyError) Error() string { return fmt.Sprintf("code %d: %s", e.Code, e.Remark) }

// Cluster asks a name server and its brokers the few things that a run has to know. Safe for concurrent use.
type Cluster struct {
	client      *remoting.Client
	nameServers []string
	timeout     time.Duration
}

// NewCluster makes a cluster with connections of its own; timeout bounds each request. The caller closes it.
func NewCluster(nameServers []string, timeout time.Duration) *Cluster {
	return &Cluster{client: remoting.NewClient(remoting.ClientOptions{}), nameServers: nameServers, timeout: timeout}
}

// Close ends its connections.
func (c *Cluster) Close() error { return c.client.Close() }

// Client is what the requests go through, for callers that have requests of their own.
func (c *Cluster) Client() *remoting.Client { return c.client }

// Call sends a request and returns the answer. An answer with another code than SUCCESS is a *ReplyError.
func (c *Cluster) Call(ctx context.Context, address string, code int32, h protocol.Header) (*protocol.Command, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	resp, err := c.client.Call(ctx, address, protocol.NewRequest(code, h))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", address, err)
	}
	if resp.Code != protocol.Success {
		return resp, fmt.Errorf("ask %s: %w", address, &ReplyError{resp.Code, resp.Remark})
	}
	return resp, nil
}

// askNameServer asks the name servers in turn until one answers, whatever the code.
func (c *Cluster) askNameServer(ctx context.Context, code int32, h protocol.Header, body any) error {
	var errs []error
	for _, address := range c.nameServers {
		resp, err := c.Call(ctx, address, code, h)
		if err == nil {
			err = fastjson.Unmarshal(resp.Body, body)
		}
		if reply := (*ReplyError)(nil); err == nil || errors.As(err, &reply) {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Route asks for the route of a topic; an unknown topic is a *ReplyError with TOPIC_NOT_EXIST.
func (c *Cluster) Route(ctx context.Context, topic string) (*protocol.TopicRouteData, error) {
	var route protocol.TopicRouteData
	h := &protocol.GetRouteInfoRequestHeader{Topic: topic, AcceptStandardJSONOnly: true}
	if err := c.askNameServer(ctx, protocol.GetRouteinfoByTopic, h, &route); err != nil {
		return nil, err
	}
	return &route, nil
}

// Brokers returns every registered broker, by brokerName.
func (c *Cluster) Brokers(ctx context.Context) (map[string]protocol.BrokerData, error) {
	var info protocol.ClusterInfo
	if err := c.askNameServer(ctx, protocol.GetBrokerClusterInfo, nil, &info); err != nil {
		return nil, err
	}
	return info.BrokerAddrTable, nil
}

// Masters returns the master address of every broker that the name server knows, by brokerName.
func (c *Cluster) Masters(ctx context.Context) (map[string]string, error) {
	brokers, err := c.Brokers(ctx)
	if err != nil {
		return nil, err
	}
	masters := map[string]string{}
	for name, broker := range brokers {
		if address := broker.BrokerAddrs[0]; address != "" {
			masters[name] = address
		}
	}
	if len(masters) == 0 {
		return nil, errors.New("the name server knows no master")
	}
	return masters, nil
}

// EnsureTopic returns the queues of a topic that have the permission bits in perm. A topic that the name server does not
// know is created on every master with the given number of queues.
func (c *Cluster) EnsureTopic(ctx context.Context, topic string, queues int, perm int32) ([]Queue, error) {
	route, err := c.Route(ctx, topic)
	if reply := (*ReplyError)(nil); errors.As(err, &reply) && reply.Code == protocol.TopicNotExist {
		if err := c.CreateTopic(ctx, topic, queues); err != nil {
			return nil, fmt.Errorf("create topic %s: %w", topic, err)
		}
		route, err = c.awaitRoute(ctx, topic)
	}
	if err != nil {
		return nil, fmt.Errorf("route of topic %s: %w", topic, err)
	}
	found := RouteQueues(route, perm)
	if len(found) == 0 {
		return nil, fmt.Errorf("topic %s has no usable queue on any master", topic)
	}
	return found, nil
}

// CreateTopic creates a topic on every master.
func (c *Cluster) CreateTopic(ctx context.Context, topic string, queues int) error {
	masters, err := c.Masters(ctx)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(masters)) {
		_, err := c.Call(ctx, masters[name], protocol.UpdateAndCreateTopic, &protocol.CreateTopicRequestHeader{
			Topic: topic, DefaultTopic: AutoCreateTopic,
			ReadQueueNums: int32(queues), WriteQueueNums: int32(queues),
			Perm: PermReadWrite, TopicFilterType: "SINGLE_TAG",
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// awaitRoute polls for the route of a topic that was just created.
func (c *Cluster) awaitRoute(ctx context.Context, topic string) (*protocol.TopicRouteData, error) {
	ctx, cancel := context.WithTimeout(ctx, routeTimeout)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		route, err := c.Route(ctx, topic)
		if err == nil {
			return route, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-tick.C:
		}
	}
}

// RouteQueues lists the queues with the given permission whose broker has a master, one broker after the other.
func RouteQueues(route *protocol.TopicRouteData, perm int32) []Queue {
	address := map[string]string{}
	for _, broker := range route.BrokerDatas {
		address[broker.BrokerName] = broker.BrokerAddrs[0]
	}
	var queues []Queue
	for _, data := range route.QueueDatas {
		n := data.WriteQueueNums
		if perm&PermRead != 0 {
			n = data.ReadQueueNums
		}
		if data.Perm&perm != perm || address[data.BrokerName] == "" {
			continue
		}
		for id := range n {
			queues = append(queues, Queue{data.BrokerName, address[data.BrokerName], id})
		}
	}
	slices.SortFunc(queues, func(a, b Queue) int {
		return cmp.Or(strings.Compare(a.Broker, b.Broker), cmp.Compare(a.ID, b.ID))
	})
	return queues
}

// MinOffset is the oldest offset of a queue.
func (c *Cluster) MinOffset(ctx context.Context, topic string, q Queue) (int64, error) {
	resp, err := c.Call(ctx, q.Address, protocol.GetMinOffset, &protocol.GetMinOffsetRequestHeader{Topic: topic, QueueID: q.ID})
	if err != nil {
		return 0, err
	}
	var h protocol.GetMinOffsetResponseHeader
	err = h.Decode(resp.Ext)
	return h.Offset, err
}

// MaxOffset is the offset that is written next in a queue; version is the answering broker's.
func (c *Cluster) MaxOffset(ctx context.Context, topic string, q Queue) (offset int64, version int32, err error) {
	resp, err := c.Call(ctx, q.Address, protocol.GetMaxOffset,
		&protocol.GetMaxOffsetRequestHeader{Topic: topic, QueueID: q.ID, Committed: true})
	if err != nil {
		return 0, 0, err
	}
	var h protocol.GetMaxOffsetResponseHeader
	err = h.Decode(resp.Ext)
	return h.Offset, resp.Version, err
}
