package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"rmq/compat/admin"
)

// stored sums the next offsets of queues: its growth is the number of messages that were stored.
func stored(ctx context.Context, c *admin.Cluster, topic string, queues []admin.Queue) (sum int64, version int32, err error) {
	for _, q := range queues {
		offset, v, err := c.MaxOffset(ctx, topic, q)
		if err != nil {
			return 0, 0, fmt.Errorf("next offset of %s queue %d: %w", topic, q.ID, err)
		}
		sum, version = sum+offset, v
	}
	return sum, version, nil
}

// brokerNames lists the brokers of queues as name=address.
func brokerNames(queues []admin.Queue) []string {
	var names []string
	for _, q := range queues {
		if name := q.Broker + "=" + q.Address; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// brokerRegistered returns nil when a name server knows a master.
func brokerRegistered(ctx context.Context, nameServer string) error {
	c := admin.NewCluster([]string{nameServer}, time.Second)
	defer c.Close()
	_, err := c.Masters(ctx)
	return err
}
