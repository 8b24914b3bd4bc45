package controller

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// join tells a replica that wants to be a member what to do next.
func (t *team) join(ctx context.Context, r JoinRequest) (JoinAnswer, error) {
	if r.Incarnation == "" || r.Address == "" {
		return JoinAnswer{}, refuse(CodeRefused, "a replica without a name or an address cannot join")
	}
	if err := t.allocate(&r); err != nil {
		return JoinAnswer{}, err
	}
	a := JoinAnswer{Number: r.Number, ServerID: string(r.ServerID())}
	if err := t.outcast(a.ServerID); err != nil {
		return JoinAnswer{}, err
	}
	rival, text := t.rival(&r)
	if rival != nil && rival.Address != r.Address && t.there(ctx, rival) {
		return JoinAnswer{}, refuse(CodeRefused, "replica number %d of group %s is %s at %s, which is in contact; %s at %s must have another number",
			r.Number, t.o.Name, rival.ID, rival.Address, a.ServerID, r.Address)
	}
	if at := t.placeOf(a.ServerID); at != "" && at != r.Address && t.twice(ctx, &r, at) {
		return JoinAnswer{}, refuse(CodeRefused, "replica %s of group %s runs at %s; the directory at %s is a copy of its: two cannot vote as one, empty it", a.ServerID, t.o.Name, at, r.Address)
	}
	a.Do, a.Text = JoinWait, text
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.find(a.ServerID)
	switch {
	case !r.State || r.LastIndex+1 < t.o.Log.Status().FirstIndex:
		a.Do = JoinFill
	case !r.Running:
		a.Do = JoinStart
	case m != nil && m.Address == r.Address:
		a.Do = JoinMember
		delete(t.joiners, a.ServerID)
		return a, nil
	}
	for id, j := range t.joiners {
		if id != a.ServerID && (j.Number == r.Number || j.Address == r.Address) {
			delete(t.joiners, id) // what was there before is gone, or it will ask again and be told no
		}
	}
	if t.joiners[a.ServerID] == nil && len(t.joiners) >= joinersMax {
		return JoinAnswer{}, refuse(CodeNotNow, "%d replicas want to join already", len(t.joiners))
	}
	t.joiners[a.ServerID] = &joiner{JoinRequest: r, at: time.Now()}
	if a.Do == JoinWait {
		t.nudge()
	}
	return a, nil
}

// placeOf returns where a member is by the configuration, "" if it is none.
func (t *team) placeOf(id string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m := t.find(id); m != nil {
		return m.Address
	}
	return ""
}

// twice reports whether the replica that asks also runs at addr, as another process. The same one may be reached there, too, by an
// address that it had before.
func (t *team) twice(ctx context.Context, r *JoinRequest, addr string) bool {
	if string(r.ServerID()) == t.self {
		return true
	}
	h, err := ask(ctx, t.o.Net, addr, t.g.hello())
	return err == nil && h.ServerID() == r.ServerID() && h.Address != r.Address
}

// find returns the member with a server id; t.mu is held.
func (t *team) find(id string) *member {
	for _, m := range t.members {
		if m.ID == id {
			return m
		}
	}
	return nil
}

// allocate gives a replica that has no number the lowest that is free; the same again when it asks again.
func (t *team) allocate(r *JoinRequest) error {
	if r.Number >= 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	taken := make(map[int]bool)
	for _, m := range t.members {
		if m.number >= 0 && m.Address == r.Address { // its directory was emptied
			r.Number = m.number
			return nil
		}
		if m.number >= 0 && strings.TrimPrefix(m.ID, fmt.Sprintf("%d-", m.number)) == r.Incarnation {
			r.Number = m.number
			return nil
		}
		taken[m.number] = true
	}
	if n, ok := t.numbers[r.Incarnation]; ok {
		r.Number = n
		return nil
	}
	for _, j := range t.joiners {
		taken[j.Number] = true
	}
	for _, n := range t.numbers {
		taken[n] = true
	}
	for n := range numberSearch {
		if !taken[n] {
			r.Number = n
			t.numbers[r.Incarnation] = n
			return nil
		}
	}
	return refuse(CodeRefused, "the group has no number left")
}

// rival returns the member that has the number of a replica which is another one, and why that has to wait.
func (t *team) rival(r *JoinRequest) (*Server, string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range t.members {
		if m.arbiter || m.number != r.Number || m.ID == string(r.ServerID()) {
			continue
		}
		text := fmt.Sprintf("its place is that of %s at %s, which has not been silent for %v yet", m.ID, m.Address, t.o.Pace.Gone)
		s := m.Server
		return &s, text
	}
	return nil, ""
}

// there reports whether a member is where it should be.
func (t *team) there(ctx context.Context, m *Server) bool {
	if m.ID == t.self {
		return true
	}
	h, err := ask(ctx, t.o.Net, m.Address, t.g.hello())
	return err == nil && string(h.ServerID()) == m.ID
}

// settle tells a muted replica how far it is.
func (t *team) settle(r SettleRequest) SettleAnswer {
	return SettleAnswer{Term: t.term, LastIndex: t.o.Log.Status().LastIndex, Match: t.o.Replicas.Match(r.ServerID)}
}

// sayEvery paces what is logged of a state that lasts.
const sayEvery = 10 * time.Second

// placed reports whether the configuration has this replica where it is, and whether that is committed.
func (g *Group) placed() (placed, settled bool) {
	if g.Leading() {
		return true, true
	}
	conf, err := g.o.Log.Configuration()
	if err != nil {
		return true, false // Raft ends
	}
	if len(conf.Servers) == 0 {
		return true, false // nothing has come from the leader that knows it
	}
	settled = g.o.Log.ConfigurationIndex() <= g.o.Log.Status().CommitIndex
	for _, s := range conf.Servers {
		if s.ID == g.self.ServerID() {
			return string(s.Address) == g.o.Address, settled
		}
	}
	return false, settled
}

func (g *Group) askPlace(ctx context.Context) (JoinAnswer, error) {
	r := JoinRequest{Hello: g.hello(), Async: g.o.Async, State: true, Running: true, LastIndex: g.o.Log.Status().LastIndex}
	addr, _, err := findLeader(ctx, &g.o, r.Hello, g.addresses())
	if err != nil {
		return JoinAnswer{}, err
	}
	var a JoinAnswer
	return a, Ask(ctx, g.o.Net, addr, CallJoin, r, &a)
}

// addresses returns where the other servers of the configuration are.
func (g *Group) addresses() []string {
	var list []string
	conf, err := g.o.Log.Configuration()
	if err != nil {
		return nil
	}
	for _, s := range conf.Servers {
		if s.ID != g.self.ServerID() && !IsArbiter(string(s.ID)) {
			list = append(list, string(s.Address))
		}
	}
	return list
}
