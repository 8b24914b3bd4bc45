package namesrv

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"rmq/remoting"
	"rmq/remoting/protocol"
)

const (
	minIDQueueMax = 256             // notices that wait to be sent; more are dropped, as brokers ask by themselves, too
	minIDTimeout  = 3 * time.Second // for handing one notice to one broker
)

// minIDNotifier tells the replicas of a group with an acting master when the smallest id among them changes: a smaller one
// came, or the replica that had it is gone. Apache's brokers start or stop acting as master then; without a notice they
// find out by asking for their group's members.
type minIDNotifier struct {
	client *remoting.Client
	logger *slog.Logger
	table  *RouteTable
	queue  chan minIDNotice
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}

	mu       sync.Mutex // held while the table is read
	smallest map[string]member
}

// member is a replica of some group.
type member struct {
	id      int64
	address string
}

type minIDNotice struct {
	header protocol.NotifyMinBrokerIdChangeRequestHeader
	to     []string
}

// newMinIDNotifier starts a notifier that sends over client.
func newMinIDNotifier(client *remoting.Client, table *RouteTable, logger *slog.Logger) *minIDNotifier {
	n := &minIDNotifier{
		client: client, logger: logger, table: table, queue: make(chan minIDNotice, minIDQueueMax), done: make(chan struct{}),
		smallest: map[string]member{},
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	go n.run()
	return n
}

// close drops what was not sent yet and waits.
func (n *minIDNotifier) close() {
	n.cancel()
	<-n.done
}

// observe looks at a group after it may have changed, and queues a notice if its smallest id did and send is set. haAddress
// is that of the replica that was registered, empty if one left.
func (n *minIDNotifier) observe(brokerName, haAddress string, send bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	b, ok := n.table.Broker(brokerName)
	if !ok {
		delete(n.smallest, brokerName)
		return
	}
	id := slices.Min(slices.Collect(maps.Keys(b.Addresses)))
	before, known := n.smallest[brokerName]
	now := member{id, b.Addresses[id]}
	n.smallest[brokerName] = now
	if !known || before.id == now.id || !b.ActingMaster || !send {
		return
	}
	select {
	case n.queue <- newMinIDNotice(&b, before, now, haAddress):
	default:
		n.logger.Warn("a change of the smallest broker id is not announced, too many are", "broker", brokerName, "limit", minIDQueueMax)
	}
}

func newMinIDNotice(b *BrokerData, before, now member, haAddress string) minIDNotice {
	notice := minIDNotice{to: slices.Sorted(maps.Values(b.Addresses))}
	notice.header = protocol.NotifyMinBrokerIdChangeRequestHeader{
		MinBrokerID: now.id, HasMinBrokerID: true, BrokerName: b.Name, MinBrokerAddr: now.address,
	}
	if now.id < before.id {
		notice.header.HABrokerAddr = haAddress
		if len(notice.to) > 1 { // the one that came knows
			notice.to = slices.DeleteFunc(notice.to, func(address string) bool { return address == now.address })
		}
	} else if !slices.Contains(notice.to, before.address) {
		notice.header.OfflineBrokerAddr = before.address
	}
	return notice
}

func (n *minIDNotifier) run() {
	defer close(n.done)
	for {
		select {
		case <-n.ctx.Done():
			return
		case notice := <-n.queue:
			for _, address := range notice.to {
				n.tell(address, &notice.header)
			}
		}
	}
}

func (n *minIDNotifier) tell(address string, h *protocol.NotifyMinBrokerIdChangeRequestHeader) {
	ctx, cancel := context.WithTimeout(n.ctx, minIDTimeout)
	defer cancel()
	if err := n.client.Oneway(ctx, address, protocol.NewRequest(protocol.NotifyMinBrokerIdChange, h)); err != nil {
		n.logger.Warn("a broker was not told of a new smallest id", "address", address, "broker", h.BrokerName, "id", h.MinBrokerID, "error", err)
	}
}
