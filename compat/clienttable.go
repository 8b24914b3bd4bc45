package compat

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"rmq/compat/broker"
	"rmq/remoting"
	"rmq/remoting/fastjson"
	"rmq/remoting/protocol"
)

// What the leader knows of consumers, on the other replicas: REPLICAS.md.

const (
	// tablePageBytes is about how much one answer tells: it ends with the group that reaches it.
	tablePageBytes = 1 << 20
	// groupStateBytesMax bounds what is told of one group: an answer has to fit into a frame.
	groupStateBytesMax = 8 << 20
	// tableBytesMax bounds what a replica takes over.
	tableBytesMax = 256 << 20
	// tableWait is how long a question waits for a change at the leader. A replica hears from it that often.
	tableWait = 3 * time.Second
	// tablePause is between two questions, and tablePauseByte is added for each byte of the last answer: 1 s for 1 MB. Groups
	// that change all the time must not cost more than they are worth.
	tablePause     = 200 * time.Millisecond
	tablePauseByte = time.Microsecond
	// tablePageTimeout bounds the transfer of one page.
	tablePageTimeout = 5 * time.Second
)

// registerClientTable adds the handler of what the other replicas ask of consumers.
func (p *Processors) registerClientTable(mux *remoting.Mux) {
	class := &remoting.Class{Name: "replica", Limit: replicasMax, Mode: remoting.Spawn}
	everywhere{p, mux}.handle(protocol.ClientTable, class, handle(p, p.clientTable))
}

// clientTable answers with a page of the consumer groups that the leader knows.
func (p *Processors) clientTable(ctx context.Context, r *remoting.Request, _ *none) (answer, error) {
	var q protocol.ClientTableRequest
	if err := fastjson.Unmarshal(r.Cmd.Body, &q); err != nil {
		return answer{}, badBody("ClientTableRequest", err)
	}
	if q.After == "" && q.Known != "" {
		p.awaitClients(ctx, r.Conn, q)
	}
	if !p.leads() {
		return answer{code: protocol.ServiceNotAvailable, remark: "this replica does not lead its group"}, nil
	}
	page := protocol.ClientTablePage{State: p.clientState(), Groups: []protocol.GroupState{}}
	if q.After == "" && q.Known == page.State {
		page.Unchanged = true
		return encoded(page)
	}
	bytes := 0
	for _, name := range p.broker.Clients().ConsumerGroups() {
		if name <= q.After {
			continue
		}
		if bytes >= tablePageBytes {
			page.More = true
			break
		}
		state, ok := p.broker.Clients().GroupState(name)
		if !ok {
			continue
		}
		group := groupState(state)
		text, err := fastjson.Marshal(group)
		if err != nil {
			return answer{}, err
		}
		if len(text) > groupStateBytesMax {
			p.Logger.Warn("a consumer group is too large to be told to the other replicas", "group", name, "bytes", len(text))
			continue
		}
		bytes += len(text)
		page.Groups = append(page.Groups, group)
	}
	return encoded(page)
}

// awaitClients waits until the table is another than the asker knows.
func (p *Processors) awaitClients(ctx context.Context, c *remoting.Conn, q protocol.ClientTableRequest) {
	_, changed := p.broker.Clients().ConsumersVersion()
	if p.clientState() != q.Known || !p.leads() {
		return
	}
	wait := time.NewTimer(min(time.Duration(q.WaitMillis)*time.Millisecond, tableWait))
	defer wait.Stop()
	select {
	case <-changed:
	case <-wait.C:
	case <-ctx.Done():
	case <-c.Done():
	}
}

// clientState names the present content of the client table, among all that any replica ever had.
func (p *Processors) clientState() string {
	version, _ := p.broker.Clients().ConsumersVersion()
	return fmt.Sprintf("%s/%s/%d", p.Identity().Addr, strconv.FormatInt(p.broker.Started().UnixNano(), 36), version)
}

func groupState(s broker.GroupState) protocol.GroupState {
	out := protocol.GroupState{
		Consumer: protocol.ConsumerData{
			GroupName: s.Info.Group, ConsumeType: s.Info.Type, MessageModel: s.Info.Model, ConsumeFromWhere: s.Info.FromWhere, UnitMode: s.Info.UnitMode,
			SubscriptionDataSet: []protocol.SubscriptionData{},
		},
		Members: []protocol.MemberState{},
	}
	for _, sub := range s.Info.Subscriptions {
		out.Consumer.SubscriptionDataSet = append(out.Consumer.SubscriptionDataSet, subscriptionData(sub))
	}
	for _, m := range s.Members {
		out.Members = append(out.Members, protocol.MemberState{
			ClientID: m.ClientID, Address: m.Remote.String(), Language: m.Language, Version: m.Version,
			Absent: m.Absent, SilentMillis: m.Silent.Milliseconds(),
		})
	}
	return out
}

func brokerGroupState(s protocol.GroupState) broker.GroupState {
	out := broker.GroupState{Info: consumerInfo(s.Consumer)}
	for _, m := range s.Members {
		// An address that cannot be read is shown as none: it is for people only.
		remote, _ := netip.ParseAddrPort(m.Address)
		out.Members = append(out.Members, broker.MemberState{
			ClientID: m.ClientID, Remote: remote, Language: m.Language, Version: m.Version,
			Absent: m.Absent, Silent: max(time.Duration(m.SilentMillis)*time.Millisecond, 0),
		})
	}
	return out
}

// errNoTable: the leader is a version of rmq that does not tell of its clients.
var errNoTable = errors.New("the leader does not know the request")

// TakeOverClients takes over what the leader knows of consumers, before this replica serves, and keeps that up to date
// until Close. It returns when it has it or leads itself; at the end of ctx with an error, and goes on trying. It is to be
// called once.
func (p *Processors) TakeOverClients(ctx context.Context) error {
	if p.Leadership == nil || p.Peers == nil {
		return nil
	}
	f := &tableCopy{p: p}
	var err error
	for {
		if err = f.refresh(ctx, 0); err == nil || errors.Is(err, errNoTable) {
			break
		}
		f.pause(ctx, 0)
		if ctx.Err() != nil {
			break
		}
	}
	p.passing.Lock()
	defer p.passing.Unlock()
	if p.ctx.Err() == nil {
		p.forwards.Go(func() { f.run(p.ctx) })
	}
	return err
}

// tableCopy keeps this replica's client table as complete as the leader's. One goroutine uses it at a time.
type tableCopy struct {
	p      *Processors
	known  string // state of the leader's table that was taken over last
	losses uint64 // of connections here, up to then
	bytes  int    // of the last table
}

// run asks the leader again and again until ctx ends.
func (f *tableCopy) run(ctx context.Context) {
	for ctx.Err() == nil {
		f.bytes = 0
		if err := f.refresh(ctx, tableWait); err != nil && ctx.Err() == nil {
			f.p.Logger.Debug("the leader's consumers are not known", "error", err)
		}
		f.pause(ctx, f.bytes)
	}
}

func (f *tableCopy) pause(ctx context.Context, bytes int) {
	select {
	case <-ctx.Done():
	case <-time.After(tablePause + time.Duration(bytes)*tablePauseByte):
	}
}

// refresh takes over the leader's table if it has changed, for which the leader waits. It does nothing on the leader.
func (f *tableCopy) refresh(ctx context.Context, wait time.Duration) error {
	reign, err := f.p.leader.await(ctx, query)
	if err != nil {
		return err
	}
	// The next leader has another table: there is no point in waiting for the one that is gone.
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(reign, cancel)()
	addr, err := f.p.Leadership.LeaderAddrOrHere(asking)
	if err != nil || addr == "" {
		f.known = ""
		return err
	}
	losses := f.p.broker.Clients().Losses()
	if losses != f.losses {
		f.known = "" // the leader tells whether those clients are still there
	}
	groups, state, err := f.ask(asking, addr, wait)
	if err != nil {
		return err
	}
	if f.p.leads() {
		return nil // its own clients know better by now
	}
	if state == f.known {
		f.p.broker.Clients().StillThere()
		return nil
	}
	f.p.broker.Clients().TakeOver(groups)
	f.known, f.losses = state, losses
	return nil
}

// ask returns all groups of the leader at addr, and their state; no groups if that is the known one.
func (f *tableCopy) ask(ctx context.Context, addr string, wait time.Duration) (groups []broker.GroupState, state string, err error) {
	q := protocol.ClientTableRequest{Known: f.known, WaitMillis: wait.Milliseconds()}
	for {
		page, err := f.page(ctx, addr, q, wait)
		if err != nil || page.Unchanged {
			return nil, page.State, err
		}
		if state == "" {
			state = page.State // what changes while further pages are read is told next time
		}
		for _, g := range page.Groups {
			groups = append(groups, brokerGroupState(g))
		}
		if !page.More || len(page.Groups) == 0 {
			return groups, state, nil
		}
		if f.bytes > tableBytesMax {
			return nil, "", fmt.Errorf("%s tells of more than %d bytes of consumers", addr, tableBytesMax)
		}
		q, wait = protocol.ClientTableRequest{After: page.Groups[len(page.Groups)-1].Consumer.GroupName}, 0
	}
}

func (f *tableCopy) page(ctx context.Context, addr string, q protocol.ClientTableRequest, wait time.Duration) (page protocol.ClientTablePage, err error) {
	ctx, cancel := context.WithTimeout(ctx, wait+tablePageTimeout)
	defer cancel()
	cmd := protocol.NewRequest(protocol.ClientTable, nil)
	if cmd.Body, err = fastjson.Marshal(q); err != nil {
		return page, err
	}
	resp, err := f.p.Peers.Call(ctx, addr, cmd)
	switch {
	case err != nil:
		return page, err
	case resp.Code == protocol.RequestCodeNotSupported:
		return page, fmt.Errorf("%s: %w", addr, errNoTable)
	case resp.Code != protocol.Success:
		return page, fmt.Errorf("%s: code %d %s", addr, resp.Code, resp.Remark)
	}
	f.bytes += len(resp.Body)
	return page, fastjson.Unmarshal(resp.Body, &page)
}
