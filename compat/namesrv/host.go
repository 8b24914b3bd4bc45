package namesrv

import (
	"context"

	"rmq/remoting/protocol"
)

// ArbiterHost keeps arbiters beside the name server. *controller.Arbiters is one. An error of Offer that has a method ResponseCode() int32
// is answered with that code, any other with ARBITER_FAILED.
type ArbiterHost interface {
	// Offer returns the arbiter of the group, which it makes if there is none.
	Offer(ctx context.Context, q protocol.ArbiterRequest) (protocol.ArbiterOffer, error)
	// Has reports whether there is an arbiter that was seeded by the group: somebody has founded it, and somebody else may not.
	Has(cluster, group string) bool
	// Forget ends and removes the arbiter of the group, if there is one.
	Forget(cluster, group string) error
}
