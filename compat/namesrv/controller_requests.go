package namesrv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"rmq/remoting"
	"rmq/remoting/protocol"
)

// Admin tools ask a controller for elections and for replicas in sync. rmq has none: each group decides for itself, and the name
// server, which knows every group's leader, passes the question on.

// passTimeout is for a leader's answer: admin tools wait 3 s, and give a new election no more.
const passTimeout = 2500 * time.Millisecond

var errNoPassing = errors.New("this name server reaches no brokers")

// groupsWithLeaderMax bounds the groups that one request may ask for.
const groupsWithLeaderMax = 1024

// controllerMetadata says that the controller is this name server, as the tool reached it: tools then send the request they
// came for to the address in the answer.
func (s *NameServer) controllerMetadata(r *remoting.Request) *protocol.Command {
	self := r.Conn.LocalAddr().String()
	return successHeader(r, &protocol.GetMetaDataResponseHeader{
		Group: "rmq", ControllerLeaderID: self, ControllerLeaderAddress: self, Leader: true, Peers: self,
	})
}

// electMaster passes the request to the leader of the group that it names, and the answer back.
func (s *NameServer) electMaster(r *remoting.Request) *protocol.Command {
	var h protocol.ElectMasterRequestHeader
	if err := h.Decode(r.Cmd.Ext); err != nil {
		return failure(r, err)
	}
	return s.passOn(r, h.BrokerName)
}

// cleanBroker likewise: a replica is removed by its group.
func (s *NameServer) cleanBroker(r *remoting.Request) *protocol.Command {
	var h protocol.CleanBrokerDataRequestHeader
	if err := h.Decode(r.Cmd.Ext); err != nil {
		return failure(r, err)
	}
	return s.passOn(r, h.BrokerName)
}

// passOn answers with what the leader of a group does.
func (s *NameServer) passOn(r *remoting.Request, group string) *protocol.Command {
	ctx, cancel := context.WithTimeout(context.Background(), passTimeout)
	defer cancel()
	answer, err := s.pass(ctx, group, r.Cmd, r.Cmd.Body)
	if err != nil {
		return failure(r, err)
	}
	out := protocol.NewResponse(r.Cmd, answer.Code, answer.Remark)
	out.Ext, out.Body = answer.Ext, answer.Body
	return out
}

// syncState asks the leader of each group named in the body and puts their answers together. A group without a leader is left out,
// unless it is the only one.
func (s *NameServer) syncState(r *remoting.Request) *protocol.Command {
	var names []string
	if err := decodeBody(r, &names); err != nil {
		return failure(r, err)
	}
	if len(names) > groupsWithLeaderMax {
		return failure(r, fmt.Errorf("%w: %d groups, at most %d can be asked for at once", ErrInvalid, len(names), groupsWithLeaderMax))
	}
	ctx, cancel := context.WithTimeout(context.Background(), passTimeout)
	defer cancel()
	type result struct {
		table map[string]json.RawMessage
		err   error
	}
	results := make(chan result, len(names))
	for _, name := range names {
		go func() {
			table, err := s.syncStateOf(ctx, r.Cmd, name)
			results <- result{table, err}
		}()
	}
	all := map[string]json.RawMessage{}
	var failed []error
	for range names {
		got := <-results
		if got.err != nil {
			failed = append(failed, got.err)
		}
		for name, info := range got.table {
			all[name] = info
		}
	}
	if len(all) == 0 && len(failed) > 0 {
		return failure(r, errors.Join(failed...))
	}
	return successBody(r, syncStates{all}, json.Marshal)
}

// syncStates is BrokerReplicasInfo, the groups' parts as their leaders gave them.
type syncStates struct {
	Table map[string]json.RawMessage `json:"replicasInfoTable"`
}

func (s *NameServer) syncStateOf(ctx context.Context, like *protocol.Command, name string) (map[string]json.RawMessage, error) {
	body, err := json.Marshal([]string{name})
	if err != nil {
		return nil, err
	}
	answer, err := s.pass(ctx, name, like, body)
	if err != nil {
		return nil, err
	}
	if answer.Code != protocol.Success {
		return nil, fmt.Errorf("group %s: %s", name, clip(answer.Remark))
	}
	var states syncStates
	if err := json.Unmarshal(answer.Body, &states); err != nil {
		return nil, fmt.Errorf("group %s: %w", name, err)
	}
	return states.Table, nil
}

// pass sends a request to the leader of a group.
func (s *NameServer) pass(ctx context.Context, name string, like *protocol.Command, body []byte) (*protocol.Command, error) {
	if s.opts.Client == nil {
		return nil, errNoPassing
	}
	b, ok := s.table.Broker(name)
	if !ok {
		return nil, fmt.Errorf("%w: %.100q", ErrUnknownBroker, name)
	}
	leader := b.Addresses[LeaderID]
	if leader == "" {
		return nil, fmt.Errorf("group %s has no leader now", name)
	}
	cmd := protocol.NewRequest(like.Code, nil)
	cmd.Ext, cmd.Body = like.Ext, body
	answer, err := s.opts.Client.Call(ctx, leader, cmd)
	if err != nil {
		return nil, fmt.Errorf("group %s, leader %s: %w", name, leader, err)
	}
	return answer, nil
}
