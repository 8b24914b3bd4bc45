package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"rmq/remoting"
	"rmq/remoting/fastjson"
	"rmq/remoting/protocol"
)

// queue is one queue of a topic and where its master answers.
type queue struct {
	broker  string // brokerName
	address string // of the master, brokerId 0
	id      int32
}

// routeTimeout bounds how long a topic that was just created may take to show in the name server's route. A stock broker
// registers a change at once, but one that has just started may need a moment to have registered at all.
const routeTimeout = 15 * time.Second

// replyError is an answer whose code is not SUCCESS.
type replyError struct {
	code   int32
	remark string
}

func (e *replyError) Error() string { return fmt.Sprintf("code %d: %s", e.code, e.remark) }

// cluster asks a name server and its brokers the few things that a run has to know. Safe for concurrent use.
type cluster struct {
	client      *remoting.Client
	nameServers []string
	timeout     time.Duration
}

// newCluster makes a cluster with connections of its own. The caller closes it.
func newCluster(nameServers []string, timeout time.Duration) *cluster {
	return &cluster{client: newClient(), nameServers: nameServers, timeout: timeout}
}

func (c *cluster) close() { c.client.Close() }

// call sends a request and returns the answer. An answer with another code than SUCCESS is a *replyError.
func (c *cluster) call(ctx context.Context, address string, code int32, h protocol.Header) (*protocol.Command, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	resp, err := c.client.Call(ctx, address, protocol.NewRequest(code, h))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", address, err)
	}
	if resp.Code != protocol.Success {
		return resp, fmt.Errorf("ask %s: %w", address, &replyError{resp.Code, resp.Remark})
	}
	return resp, nil
}

// askNameServer asks the name servers in turn until one answers, whatever the code.
func (c *cluster) askNameServer(ctx context.Context, code int32, h protocol.Header, body any) error {
	var errs []error
	for _, address := range c.nameServers {
		resp, err := c.call(ctx, address, code, h)
		if err == nil {
			err = fastjson.Unmarshal(resp.Body, body)
		}
		if reply := (*replyError)(nil); err == nil || errors.As(err, &reply) {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c *cluster) route(ctx context.Context, topic string) (*protocol.TopicRouteData, error) {
	var route protocol.TopicRouteData
	h := &protocol.GetRouteInfoRequestHeader{Topic: topic, AcceptStandardJSONOnly: true}
	if err := c.askNameServer(ctx, protocol.GetRouteinfoByTopic, h, &route); err != nil {
		return nil, err
	}
	return &route, nil
}

// masters returns the master address of every broker that the name server knows, by brokerName.
func (c *cluster) masters(ctx context.Context) (map[string]string, error) {
	var info protocol.ClusterInfo
	if err := c.askNameServer(ctx, protocol.GetBrokerClusterInfo, nil, &info); err != nil {
		return nil, err
	}
	masters := map[string]string{}
	for name, broker := range info.BrokerAddrTable {
		if address := broker.BrokerAddrs[0]; address != "" {
			masters[name] = address
		}
	}
	if len(masters) == 0 {
		return nil, errors.New("the name server knows no master")
	}
	return masters, nil
}

// ensureTopic returns the queues of a topic that have the permission bits in perm. A topic that the name server does not
// know is created on every master with the given number of queues.
func (c *cluster) ensureTopic(ctx context.Context, topic string, queues int, perm int32) ([]queue, error) {
	route, err := c.route(ctx, topic)
	if reply := (*replyError)(nil); errors.As(err, &reply) && reply.code == protocol.TopicNotExist {
		if err := c.createTopic(ctx, topic, queues); err != nil {
			return nil, fmt.Errorf("create topic %s: %w", topic, err)
		}
		route, err = c.awaitRoute(ctx, topic)
	}
	if err != nil {
		return nil, fmt.Errorf("route of topic %s: %w", topic, err)
	}
	found := routeQueues(route, perm)
	if len(found) == 0 {
		return nil, fmt.Errorf("topic %s has no usable queue on any master", topic)
	}
	return found, nil
}

func (c *cluster) createTopic(ctx context.Context, topic string, queues int) error {
	masters, err := c.masters(ctx)
	if err != nil {
		return err
	}
	for _, name := range sortedKeys(masters) {
		_, err := c.call(ctx, masters[name], protocol.UpdateAndCreateTopic, &protocol.CreateTopicRequestHeader{
			Topic: topic, DefaultTopic: defaultTopic,
			ReadQueueNums: int32(queues), WriteQueueNums: int32(queues),
			Perm: protocol.PermRead | protocol.PermWrite, TopicFilterType: "SINGLE_TAG",
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// awaitRoute polls for the route of a topic that was just created.
func (c *cluster) awaitRoute(ctx context.Context, topic string) (*protocol.TopicRouteData, error) {
	ctx, cancel := context.WithTimeout(ctx, routeTimeout)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		route, err := c.route(ctx, topic)
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

// routeQueues lists the queues with the given permission whose broker has a master, one broker after the other.
func routeQueues(route *protocol.TopicRouteData, perm int32) []queue {
	address := map[string]string{}
	for _, broker := range route.BrokerDatas {
		address[broker.BrokerName] = broker.BrokerAddrs[0]
	}
	var queues []queue
	for _, data := range route.QueueDatas {
		n := data.WriteQueueNums
		if perm&protocol.PermRead != 0 {
			n = data.ReadQueueNums
		}
		if data.Perm&perm != perm || address[data.BrokerName] == "" {
			continue
		}
		for id := range n {
			queues = append(queues, queue{data.BrokerName, address[data.BrokerName], id})
		}
	}
	slices.SortFunc(queues, func(a, b queue) int {
		return cmp.Or(strings.Compare(a.broker, b.broker), cmp.Compare(a.id, b.id))
	})
	return queues
}

// minOffset is the oldest offset of a queue, maxOffset the one that is written next.
func (c *cluster) minOffset(ctx context.Context, topic string, q queue) (int64, error) {
	resp, err := c.call(ctx, q.address, protocol.GetMinOffset, &protocol.GetMinOffsetRequestHeader{Topic: topic, QueueID: q.id})
	if err != nil {
		return 0, err
	}
	var h protocol.GetMinOffsetResponseHeader
	err = h.Decode(resp.Ext)
	return h.Offset, err
}

func (c *cluster) maxOffset(ctx context.Context, topic string, q queue) (offset int64, version int32, err error) {
	resp, err := c.call(ctx, q.address, protocol.GetMaxOffset,
		&protocol.GetMaxOffsetRequestHeader{Topic: topic, QueueID: q.id, Committed: true})
	if err != nil {
		return 0, 0, err
	}
	var h protocol.GetMaxOffsetResponseHeader
	err = h.Decode(resp.Ext)
	return h.Offset, resp.Version, err
}

// stored sums the next offsets of queues: its growth is the number of messages that were stored.
func (c *cluster) stored(ctx context.Context, topic string, queues []queue) (sum int64, version int32, err error) {
	for _, q := range queues {
		offset, v, err := c.maxOffset(ctx, topic, q)
		if err != nil {
			return 0, 0, fmt.Errorf("next offset of %s queue %d: %w", topic, q.id, err)
		}
		sum, version = sum+offset, v
	}
	return sum, version, nil
}

// brokerNames lists the brokers of queues as name=address.
func brokerNames(queues []queue) []string {
	var names []string
	for _, q := range queues {
		if name := q.broker + "=" + q.address; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// brokerRegistered returns nil when a name server knows a master.
func brokerRegistered(ctx context.Context, nameServer string) error {
	c := newCluster([]string{nameServer}, time.Second)
	defer c.close()
	_, err := c.masters(ctx)
	return err
}
