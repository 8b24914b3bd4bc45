package compat

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"rmq/compat/broker"
	"rmq/remoting"
	"rmq/remoting/protocol"
)

// configChangesMax bounds one request to change the configuration.
const configChangesMax = 64

// updateConfig changes keys of the configuration: those that a group's replicas share for all of them, through the leader,
// all others of this replica. All changes of a request are made, or none.
func (p *Processors) updateConfig(ctx context.Context, r *remoting.Request, _ *none) (answer, error) {
	changes, err := configChanges(string(r.Cmd.Body))
	if err != nil {
		return answer{}, err
	}
	shared, own := make(map[string]string), make(map[string]string)
	for key, value := range changes {
		if broker.IsGroupSetting(key) {
			shared[key] = value
		} else {
			own[key] = value
		}
	}
	if len(shared) > 0 && len(own) > 0 {
		// One of the two could fail when the other is done.
		return answer{}, &broker.Refusal{Reason: broker.InvalidParameter, Text: fmt.Sprintf("%v are shared by the group's replicas, %v are not: change them one after the other",
			slices.Sorted(maps.Keys(shared)), slices.Sorted(maps.Keys(own)))}
	}
	var a answer
	if len(shared) > 0 {
		a, err = p.changeShared(ctx, r, shared)
	} else {
		a, err = p.changeOwn(ctx, own)
	}
	if err == nil && a.code == protocol.Success {
		p.Logger.Info("configuration changed", "by", r.Conn.RemoteAddr(), "changes", changes)
	}
	return a, err
}

// changeOwn changes keys of this replica, and tells which changes have to wait for a restart.
func (p *Processors) changeOwn(ctx context.Context, changes map[string]string) (answer, error) {
	if p.UpdateConfig == nil {
		return answer{}, &broker.Refusal{Reason: broker.InvalidParameter, Text: fmt.Sprintf("%v cannot be changed while the broker runs", slices.Sorted(maps.Keys(changes)))}
	}
	restart, err := p.UpdateConfig(ctx, changes)
	if err != nil || len(restart) == 0 {
		return answer{}, err
	}
	return answer{remark: "takes effect when the broker starts again: " + strings.Join(slices.Sorted(slices.Values(restart)), ", ")}, nil
}

// changeShared changes keys that all replicas of the group share.
func (p *Processors) changeShared(ctx context.Context, r *remoting.Request, changes map[string]string) (answer, error) {
	if p.leads() {
		return answer{}, p.broker.SetGroupConfig(ctx, changes)
	}
	if _, again := r.Cmd.Ext.Get(forwardedFrom); again {
		return answer{}, &broker.Refusal{Reason: broker.NotAvailable, Text: "this replica does not lead its group, nothing was changed"}
	}
	addr := ""
	_, err := p.leader.await(ctx, change)
	if err == nil {
		addr, err = p.Leadership.LeaderAddr(ctx)
	}
	if err != nil {
		return answer{}, &broker.Refusal{Reason: broker.NotAvailable, Text: fmt.Sprintf("the group has no leader now, which has to change %v: %v", slices.Sorted(maps.Keys(changes)), err)}
	}
	cmd := protocol.NewRequest(protocol.UpdateBrokerConfig, nil)
	cmd.Ext.Set(forwardedFrom, r.Conn.RemoteAddr().String())
	for _, key := range slices.Sorted(maps.Keys(changes)) {
		cmd.Body = fmt.Appendf(cmd.Body, "%s=%s\n", key, changes[key])
	}
	resp, err := p.Peers.Call(ctx, addr, cmd)
	if err != nil {
		return answer{}, &broker.Refusal{Reason: broker.NotAvailable, Text: fmt.Sprintf("the leader %s did not answer, the change may or may not be made: %v", addr, err)}
	}
	return answer{code: resp.Code, remark: resp.Remark}, nil
}

// configChanges reads key=value lines.
func configChanges(text string) (map[string]string, error) {
	changes := make(map[string]string)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !ok || key == "" {
			return nil, &broker.Refusal{Reason: broker.InvalidParameter, Text: fmt.Sprintf("%.100q is not of the form key=value", line)}
		}
		if changes[key] = value; len(changes) > configChangesMax {
			return nil, &broker.Refusal{Reason: broker.InvalidParameter, Text: fmt.Sprintf("more than %d changes in one request", configChangesMax)}
		}
	}
	if len(changes) == 0 {
		return nil, &broker.Refusal{Reason: broker.InvalidParameter, Text: "the request names no key"}
	}
	return changes, nil
}
