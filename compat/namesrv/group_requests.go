package namesrv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"rmq/remoting"
	"rmq/remoting/protocol"
)

// ruleTimeout bounds what an arbiter host may take for one request.
const ruleTimeout = 3 * time.Second

func (s *NameServer) foundGroup(r *remoting.Request) *protocol.Command {
	var q protocol.FoundGroupBody
	if err := decodeJSON(r, &q); err != nil {
		return failure(r, err)
	}
	err := s.mayFound(&q)
	if err == nil {
		err = s.groups.found(q)
	}
	if err != nil {
		s.logger.Warn("founding a group was refused", "group", clip(q.Group), "replica", clip(q.ServerID), "address", clip(q.RaftAddr), "error", err)
		return failure(r, err)
	}
	s.logger.Info("a replica may found its group", "cluster", q.Cluster, "group", q.Group, "replica", q.ServerID, "address", q.RaftAddr)
	return successBody(r, protocol.FoundGrant{ValidMillis: grantFor.Milliseconds()}, json.Marshal)
}

// mayFound judges by who is here now: live replicas, and an arbiter. What the sender's address has registered is its own past.
func (s *NameServer) mayFound(q *protocol.FoundGroupBody) error {
	if b, ok := s.table.Broker(q.Group); ok && b.Cluster == q.Cluster {
		for _, address := range slices.Sorted(maps.Values(b.Addresses)) {
			if address != q.ClientAddr {
				return held("its replica at %s is alive", address)
			}
		}
	}
	if s.opts.Arbiters != nil && s.opts.Arbiters.Has(q.Cluster, q.Group) {
		return held("its arbiter is here; let this replica join, or have the name server forget the group")
	}
	return nil
}

func (s *NameServer) groupMembers(r *remoting.Request) *protocol.Command {
	var report protocol.GroupMembersBody
	err := decodeJSON(r, &report)
	if err == nil {
		err = s.groups.report(report)
	}
	if err != nil {
		s.logger.Warn("a report of a group's members was refused", "group", clip(report.Group), "leader", clip(report.Leader), "error", err)
		return failure(r, err)
	}
	return success(r)
}

func (s *NameServer) offerArbiter(r *remoting.Request) *protocol.Command {
	var q protocol.ArbiterRequest
	if err := decodeJSON(r, &q); err != nil {
		return failure(r, err)
	}
	if !ValidName(q.Cluster) || !ValidName(q.Group) || len(q.DataAddrs) > membersMax {
		return failure(r, fmt.Errorf("%w: cluster %q, group %q, %d replicas", ErrInvalid, clip(q.Cluster), clip(q.Group), len(q.DataAddrs)))
	}
	if s.opts.Arbiters == nil {
		return protocol.NewResponse(r.Cmd, protocol.ArbiterOff, "arbiterListenPort=0")
	}
	ctx, cancel := context.WithTimeout(context.Background(), ruleTimeout)
	defer cancel()
	offer, err := s.opts.Arbiters.Offer(ctx, q)
	if err != nil {
		s.logger.Warn("no arbiter is offered", "cluster", q.Cluster, "group", q.Group, "error", err)
		code := protocol.ArbiterFailed
		if coded := interface{ ResponseCode() int32 }(nil); errors.As(err, &coded) {
			code = coded.ResponseCode()
		}
		return protocol.NewResponse(r.Cmd, code, err.Error())
	}
	return successBody(r, offer, json.Marshal)
}

// forgetGroup is for operators: afterwards the group may be founded anew, and its arbiter here is gone.
func (s *NameServer) forgetGroup(r *remoting.Request) *protocol.Command {
	var q protocol.ForgetGroupBody
	err := decodeJSON(r, &q)
	if err == nil && (!ValidName(q.Cluster) || !ValidName(q.Group)) {
		err = fmt.Errorf("%w: cluster %q, group %q", ErrInvalid, clip(q.Cluster), clip(q.Group))
	}
	if err == nil && s.opts.Arbiters != nil {
		err = s.opts.Arbiters.Forget(q.Cluster, q.Group)
	}
	if err == nil {
		err = s.groups.forget(q.Cluster, q.Group)
	}
	if err != nil {
		return failure(r, err)
	}
	s.logger.Warn("a group was forgotten", "cluster", q.Cluster, "group", q.Group, "by", r.Conn.RemoteAddr())
	return success(r)
}

// decodeJSON reads the body of a request of rmq's own.
func decodeJSON(r *remoting.Request, v any) error {
	if err := json.Unmarshal(r.Cmd.Body, v); err != nil {
		return fmt.Errorf("%w: request body: %w", ErrInvalid, err)
	}
	return nil
}
