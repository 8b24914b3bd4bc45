package crashfs

import (
	"fmt"
	"strconv"
	"strings"
)

// rule is one injected fault.
type rule struct {
	op   string // "any" matches all
	path string // part of the name
	nth  int    // counts down to the first operation that is hit
	once bool
	fail bool
	hang chan struct{} // closed by the release function
}

// Inject adds a fault, written as
//
//	fail|hang <op>|any [path=<part of the name>] [nth=<n>] [once]
//
// such as "fail sync path=0000 nth=3". From its nth match on (default the first) the rule hits every match, or with once a single
// one. The returned function removes the rule and lets hanging operations go on.
func (f *FS) Inject(spec string) (release func()) {
	r, err := parseRule(spec)
	if err != nil {
		panic(err) // a mistake in a test
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = append(f.rules, r)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for i, other := range f.rules {
			if other == r {
				f.rules = append(f.rules[:i:i], f.rules[i+1:]...)
			}
		}
		if r.hang != nil {
			close(r.hang)
			r.hang = nil
		}
	}
}

func parseRule(spec string) (*rule, error) {
	words := strings.Fields(spec)
	if len(words) < 2 {
		return nil, fmt.Errorf("crashfs: rule %q has no operation", spec)
	}
	r := &rule{op: words[1], nth: 1}
	switch words[0] {
	case "fail":
		r.fail = true
	case "hang":
		r.hang = make(chan struct{})
	default:
		return nil, fmt.Errorf("crashfs: rule %q: unknown action", spec)
	}
	for _, w := range words[2:] {
		key, val, _ := strings.Cut(w, "=")
		switch key {
		case "path":
			r.path = val
		case "nth":
			n, err := strconv.Atoi(val)
			if err != nil || n < 1 {
				return nil, fmt.Errorf("crashfs: rule %q: bad nth", spec)
			}
			r.nth = n
		case "once":
			r.once = true
		default:
			return nil, fmt.Errorf("crashfs: rule %q: unknown word %q", spec, w)
		}
	}
	return r, nil
}

// matchLocked returns the rule that hits op.
func (f *FS) matchLocked(op Op) *rule {
	for i, r := range f.rules {
		if r.op != "any" && r.op != op.Kind || !strings.Contains(op.Path, r.path) {
			continue
		}
		if r.nth > 1 {
			r.nth--
			continue
		}
		if r.once {
			f.rules = append(f.rules[:i:i], f.rules[i+1:]...)
		}
		hit := *r
		return &hit
	}
	return nil
}
