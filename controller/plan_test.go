package controller

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// planScript is a file of testdata/plan: lines that change what the leader sees, and after "plan" the actions that follow from it,
// each carried out before the next is asked for. README there has the words.
type planScript struct {
	t *testing.T
	v View
}

func TestPlanScripts(t *testing.T) {
	names, err := filepath.Glob(filepath.Join("testdata", "plan", "*.txt"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) { runPlanScript(t, name) })
	}
}

func runPlanScript(t *testing.T, name string) {
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	s := &planScript{t: t}
	var want []string
	planning, at := false, 0
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if planning && strings.HasPrefix(line, "\t") {
			want = append(want, strings.TrimSpace(line))
			continue
		}
		if planning {
			s.plan(fmt.Sprintf("%s:%d", name, at), want)
			planning, want = false, nil
		}
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || strings.HasPrefix(words[0], "#"):
		case words[0] == "plan":
			planning, at = true, n
		default:
			s.see(words)
		}
	}
	if planning {
		s.plan(fmt.Sprintf("%s:%d", name, at), want)
	}
}

func number(id string) int {
	n := -1
	fmt.Sscanf(id, "%d-", &n) //nolint:errcheck // -1 then
	return n
}

func (s *planScript) see(words []string) {
	s.t.Helper()
	v := &s.v
	switch id := words[len(words)-1]; words[0] {
	case "leader":
		v.Self = id
	case "listed":
		v.Listed = true
	case "arbiters":
		v.Arbiter = map[string]ArbiterWish{"off": ArbiterOff, "ask": ArbiterSeek, "wait": ArbiterWait}[id]
	case "joiner":
		v.Joiners = append(v.Joiners, JoinerView{ID: words[1], Number: number(words[1]), Address: words[2]})
	case "forget":
		v.Joiners = nil
	case "member":
		m := MemberView{ID: words[1], Number: number(words[1]), Address: "at-" + words[1], Arbiter: strings.HasPrefix(words[1], "arbiter"), Contact: true}
		for _, w := range words[2:] {
			switch name, value, _ := strings.Cut(w, "="); name {
			case "voter":
				m.Voter = true
			case "learner":
			case "caught":
				m.Caught = true
			case "silent":
				m.Contact = false
			case "gone":
				m.Contact, m.Gone = false, true
			case "async":
				m.Async = true
			case "full":
				m.Full = true
			case "unfit":
				m.Unfit = true
			case "at":
				m.Address = value
			case "moved":
				m.Moved = value
			default:
				s.t.Fatalf("word %q", w)
			}
		}
		v.Members = slices.DeleteFunc(v.Members, func(o MemberView) bool { return o.ID == m.ID })
		v.Members = append(v.Members, m)
	default:
		s.t.Fatalf("line %q", words)
	}
}

func (s *planScript) plan(where string, want []string) {
	s.t.Helper()
	var got []string
	for {
		a := Plan(s.v)
		if a.Kind == NoAction {
			break
		}
		if got = append(got, a.String()); len(got) > 20 {
			s.t.Fatalf("%s: it does not end: %q", where, got)
		}
		carryOut(s.t, &s.v, a)
	}
	if !slices.Equal(got, want) {
		s.t.Errorf("%s: planned %q, want %q", where, got, want)
	}
}

// carryOut does to the view what the group would do. It fails the test if the step is one that must never be planned.
func carryOut(t *testing.T, v *View, a Action) {
	t.Helper()
	i := slices.IndexFunc(v.Members, func(m MemberView) bool { return m.ID == a.ID })
	if (i < 0) != (a.Kind == AddLearner || a.Kind == SeekArbiter) || a.ID == v.Self && a.Kind != ChangeAddress {
		t.Fatalf("planned %v in %+v", a, *v)
	}
	switch a.Kind {
	case AddLearner:
		v.Members = append(v.Members, MemberView{ID: a.ID, Number: number(a.ID), Address: a.Address, Contact: true})
		v.Joiners = slices.DeleteFunc(v.Joiners, func(j JoinerView) bool { return j.ID == a.ID })
	case Promote:
		v.Members[i].Voter = true
	case Demote:
		v.Members[i].Voter = false
	case Remove:
		if m := v.Members[i]; m.Contact && !m.Arbiter {
			t.Fatalf("removes %s, which is in contact, in %+v", m.ID, *v)
		}
		v.Members = slices.Delete(v.Members, i, i+1)
	case ChangeAddress:
		v.Members[i].Address = a.Address
	case SeedAnew:
		v.Members[i].Unfit, v.Members[i].Contact, v.Members[i].Gone, v.Members[i].Caught = false, true, false, true
	case SeekArbiter:
		id := "arbiter-n"
		for slices.ContainsFunc(v.Members, func(m MemberView) bool { return m.ID == id }) {
			id += "n"
		}
		v.Members = append(v.Members, MemberView{ID: id, Number: -1, Address: "at-" + id, Arbiter: true, Contact: true, Caught: true})
		v.Arbiter = ArbiterWait
	}
	voters, live := 0, 0
	for _, m := range v.Members {
		if m.Voter {
			voters++
			if m.Contact {
				live++
			}
		}
	}
	if a.Kind != AddLearner && a.Kind != SeekArbiter && a.Kind != ChangeAddress && live <= voters/2 {
		t.Fatalf("after %v the group has %d of %d voters: %+v", a, live, voters, *v)
	}
}

// Whatever a leader sees, its plan comes to an end, and no step of it stops the group or removes a data replica that is there.
func TestPlanEndsAndHolds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		v := View{Self: "0-a", Listed: r.IntN(4) == 0, Arbiter: ArbiterWish(r.IntN(3))}
		v.Members = append(v.Members, MemberView{ID: "0-a", Voter: true, Contact: true, Caught: true, Address: "0"})
		live, voters := 1, 1
		for i := 1; i < 1+r.IntN(5); i++ {
			m := MemberView{ID: fmt.Sprintf("%d-b", i), Number: i, Address: fmt.Sprint(i), Voter: r.IntN(2) == 0, Contact: r.IntN(3) > 0, Async: r.IntN(5) == 0}
			if r.IntN(3) == 0 {
				m.ID, m.Number, m.Arbiter, m.Full = fmt.Sprintf("arbiter-%d", i), -1, true, r.IntN(4) == 0
				m.Unfit = r.IntN(4) == 0
			}
			m.Caught, m.Gone = m.Contact && r.IntN(2) == 0, !m.Contact && r.IntN(2) == 0
			if m.Voter {
				voters++
				if m.Contact {
					live++
				}
			}
			v.Members = append(v.Members, m)
		}
		if live <= voters/2 {
			continue // nobody leads such a group
		}
		for i := range r.IntN(3) {
			v.Joiners = append(v.Joiners, JoinerView{ID: fmt.Sprintf("%d-j", i), Number: r.IntN(5), Address: fmt.Sprint(r.IntN(8))})
		}
		began := v
		began.Members = slices.Clone(v.Members)
		for steps := 0; ; steps++ {
			a := Plan(v)
			if a.Kind == NoAction {
				break
			}
			if steps > 30 {
				t.Fatalf("it does not end: %v in %+v, begun as %+v", a, v, began)
			}
			carryOut(t, &v, a)
		}
	}
}
