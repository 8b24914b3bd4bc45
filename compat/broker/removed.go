package broker

import (
	"context"
	"slices"
	"strings"

	"rmq/store"
)

// removedKey is the stored setting with the server ids of the replicas that were removed from the group, oldest first. Such a
// directory never becomes a member again: somebody wanted it out.
const removedKey = "rmq.removedReplicas"

// removedMax is how many are remembered. An older one that is started again may join again.
const removedMax = 256

// Removed reports whether a replica was removed from the group, as far as that is applied here.
func (b *Broker) Removed(serverID string) bool { return slices.Contains(b.removed(), serverID) }

func (b *Broker) removed() []string {
	list, _ := b.store.Config(removedKey)
	return strings.Fields(list)
}

// RememberRemoved notes that a replica is removed, and returns once that is committed. Two at a time may lose one of the notes: the
// caller lets one membership change happen at a time.
func (b *Broker) RememberRemoved(ctx context.Context, serverID string) error {
	list := b.removed()
	if slices.Contains(list, serverID) {
		return nil
	}
	list = append(list, serverID)
	list = list[max(0, len(list)-removedMax):]
	_, err := b.append(ctx, store.PutConfig(removedKey, strings.Join(list, " ")))
	return err
}
