package controller

import "fmt"

// ArbiterWish says what a leader may do about an arbiter.
type ArbiterWish uint8

const (
	ArbiterOff  ArbiterWish = iota // none is wanted, or nobody offers one
	ArbiterSeek                    // one may be asked for now
	ArbiterWait                    // it was asked for in vain, or is being asked for; it is too early to ask again
)

// View is what a leader knows of its group, as far as the membership depends on it.
type View struct {
	Self    string // server id of the leader
	Listed  bool   // the members were listed by hand: two of them stay voters also without an arbiter
	Arbiter ArbiterWish
	Members []MemberView
	Joiners []JoinerView
}

// MemberView is a server of the configuration.
type MemberView struct {
	ID      string
	Address string
	Number  int // of a data replica
	Arbiter bool
	Voter   bool
	Contact bool   // it has answered lately; always so for the leader itself
	Gone    bool   // it has not answered for long
	Caught  bool   // in contact, and lacks only what is under way
	Async   bool   // never to be a voter; also while it is not known
	Full    bool   // an arbiter that holds all that it may
	Unfit   bool   // an arbiter that answers, and cannot go on from what it has
	Moved   string // where it says that it is now, if that is not Address
}

// JoinerView is a server that runs Raft, with the group's log, and wants to be a member.
type JoinerView struct {
	ID      string
	Address string
	Number  int
}

// ActionKind is what is to be done to the membership.
type ActionKind uint8

const (
	NoAction ActionKind = iota
	AddLearner
	Promote
	Demote
	Remove
	ChangeAddress
	SeekArbiter
	SeedAnew // an arbiter
)

func (k ActionKind) String() string {
	return [...]string{"none", "add", "promote", "demote", "remove", "move", "seek-arbiter", "seed"}[k]
}

// Action is one change of the membership.
type Action struct {
	Kind    ActionKind
	ID      string
	Address string // of AddLearner and ChangeAddress, and where to tell an arbiter of its removal
	Why     string
}

func (a Action) String() string {
	if a.ID == "" {
		return a.Kind.String()
	}
	return a.Kind.String() + " " + a.ID
}

// Plan returns the one thing to do next. What it says for one data replica: a voter. For two: voters with an arbiter as the third,
// or a voter and a learner where there is none. For three and more: all voters. A replica becomes a voter only when it has caught
// up, a member that is in contact is never removed, and no step leaves the group without a majority that is in contact.
func Plan(v View) Action {
	p := planner{View: v}
	for _, step := range []func() Action{p.overfull, p.needless, p.replace, p.move, p.join, p.promote, p.unfit, p.vacant} {
		if a := step(); a.Kind != NoAction {
			return a
		}
	}
	return Action{}
}

type planner struct{ View }

func (p *planner) list(want func(m MemberView) bool) []MemberView {
	var list []MemberView
	for _, m := range p.Members {
		if want(m) {
			list = append(list, m)
		}
	}
	return list
}

func dataVoter(m MemberView) bool      { return m.Voter && !m.Arbiter }
func anyArbiter(m MemberView) bool     { return m.Arbiter }
func arbiterVoter(m MemberView) bool   { return m.Arbiter && m.Voter }
func arbiterLearner(m MemberView) bool { return m.Arbiter && !m.Voter }
func dataLearner(m MemberView) bool    { return !m.Voter && !m.Arbiter && !m.Async && m.Contact }
func promotable(m MemberView) bool     { return !m.Voter && !m.Arbiter && !m.Async && m.Caught }

// holds reports whether those in contact would be a majority of the voters if m were one, or were not.
func (p *planner) holds(m MemberView, voter bool) bool {
	voters, live := 0, 0
	for _, o := range p.Members {
		is := o.Voter
		if o.ID == m.ID {
			is = voter
		}
		if !is {
			continue
		}
		voters++
		if o.Contact || o.ID == p.Self {
			live++
		}
	}
	return voters > 0 && live > voters/2
}

// change returns an action on a member unless it could stop the group.
func (p *planner) change(kind ActionKind, m MemberView, format string, args ...any) Action {
	if m.ID == p.Self || m.Voter != (kind == Promote) && !p.holds(m, kind == Promote) {
		return Action{}
	}
	return Action{Kind: kind, ID: m.ID, Address: m.Address, Why: fmt.Sprintf(format, args...)}
}

// overfull relieves an arbiter that holds all that it may, because a data replica lacks so much: that one loses its vote, so that the
// arbiter is not needed either.
func (p *planner) overfull() Action {
	if len(p.list(func(m MemberView) bool { return m.Arbiter && m.Full })) == 0 {
		return Action{}
	}
	late := p.list(func(m MemberView) bool { return dataVoter(m) && m.ID != p.Self && !m.Caught })
	for _, contact := range []bool{false, true} { // the absent first
		for _, m := range late {
			if m.Contact == contact {
				return p.change(Demote, m, "the arbiter may not hold more of what this replica lacks")
			}
		}
	}
	return Action{}
}

// needless takes the vote from an arbiter that has become superfluous, and then the arbiter out of the group.
func (p *planner) needless() Action {
	data := len(p.list(dataVoter))
	others := len(p.Joiners) + len(p.list(func(m MemberView) bool { return !m.Arbiter && !m.Async && m.ID != p.Self }))
	for _, m := range p.list(anyArbiter) {
		switch {
		case data >= 3:
			if a := p.change(Remove, m, "%d data replicas vote", data); a.Kind != NoAction {
				return a
			}
		case m.Voter && data == 1 && len(p.list(promotable)) == 0:
			return p.change(Demote, m, "only one data replica votes")
		case !m.Voter && m.Full:
			return p.change(Remove, m, "it may not hold more")
		case !m.Voter && others == 0:
			return p.change(Remove, m, "there is one data replica")
		case !m.Voter && m.Gone:
			return p.change(Remove, m, "it does not answer")
		}
	}
	return Action{}
}

// replace removes the member that a joiner takes the place of.
func (p *planner) replace() Action {
	for _, j := range p.Joiners {
		for _, m := range p.Members {
			// A server that has the joiner's address cannot be there any more.
			if m.ID == j.ID || m.Contact || !(m.Address == j.Address || !m.Arbiter && m.Number == j.Number && m.Gone) {
				continue
			}
			if a := p.change(Remove, m, "%s takes its place", j.ID); a.Kind != NoAction {
				return a
			}
		}
	}
	return Action{}
}

func (p *planner) move() Action {
	for _, m := range p.Members {
		if m.Moved != "" && m.Moved != m.Address && !p.taken(m.Moved) {
			return Action{Kind: ChangeAddress, ID: m.ID, Address: m.Moved, Why: "it was at " + m.Address}
		}
	}
	return Action{}
}

func (p *planner) taken(addr string) bool {
	return len(p.list(func(m MemberView) bool { return m.Address == addr })) > 0
}

func (p *planner) join() Action {
	for _, j := range p.Joiners {
		same := p.list(func(m MemberView) bool {
			return m.ID == j.ID || m.Address == j.Address || !m.Arbiter && m.Number == j.Number
		})
		if len(same) == 0 {
			return Action{Kind: AddLearner, ID: j.ID, Address: j.Address, Why: "it asks to join"}
		}
	}
	return Action{}
}

// promote gives votes. Two voters are only passed through: the step after is known to be possible.
func (p *planner) promote() Action {
	ready := p.list(promotable)
	spare := p.list(func(m MemberView) bool { return arbiterLearner(m) && m.Caught && !m.Full })
	switch data := len(p.list(dataVoter)); {
	case data >= 2 && len(ready) > 0:
		return p.change(Promote, ready[0], "it has caught up")
	case data == 1 && len(ready) >= 2:
		return p.change(Promote, ready[0], "it has caught up, and %s too", ready[1].ID)
	case data == 1 && len(ready) == 1 && len(spare)+len(p.list(arbiterVoter)) > 0:
		return p.change(Promote, ready[0], "it has caught up, and there is an arbiter")
	case data == 2 && len(spare) > 0 && len(p.list(arbiterVoter)) == 0:
		return p.change(Promote, spare[0], "two data replicas vote")
	}
	return Action{}
}

// unfit has an arbiter begin anew where the group stands.
func (p *planner) unfit() Action {
	for _, m := range p.list(anyArbiter) {
		if m.Unfit && p.Arbiter == ArbiterSeek {
			return Action{Kind: SeedAnew, ID: m.ID, Address: m.Address, Why: "it cannot go on from what it has"}
		}
	}
	return Action{}
}

// vacant fills the place of the arbiter, or does without one.
func (p *planner) vacant() Action {
	voters, learners := p.list(arbiterVoter), p.list(arbiterLearner)
	data, ready := p.list(dataVoter), p.list(promotable)
	// A learner that is in contact will be the third.
	if !(len(data) == 2 && len(p.list(dataLearner)) == 0 || len(data) == 1 && len(ready) == 1) {
		return Action{}
	}
	if len(voters) > 0 {
		dead := voters[0]
		switch {
		case !dead.Gone || dead.Contact:
			return Action{}
		case len(learners) > 0 && learners[0].Caught:
			return p.change(Remove, dead, "it does not answer, and %s takes its place", learners[0].ID)
		case len(learners) == 0 && p.Arbiter == ArbiterSeek:
			return Action{Kind: SeekArbiter, Why: dead.ID + " does not answer"}
		}
		return Action{}
	}
	switch {
	case len(learners) > 0:
		return Action{} // it is on its way
	case p.Arbiter == ArbiterSeek:
		return Action{Kind: SeekArbiter, Why: "there are two data replicas"}
	case len(data) == 2 && !p.Listed:
		for _, m := range data {
			if m.ID != p.Self {
				return p.change(Demote, m, "there is no arbiter: of two replicas only one can vote")
			}
		}
	}
	return Action{}
}
