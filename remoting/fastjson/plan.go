package fastjson

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Raw is a JSON value kept as its text: reading copies it as it stands, legacy spellings included, and writing puts
// it out again. nil is written as null, and left out where a member may be.
type Raw []byte

// Defaulter is a struct whose members do not all default to zero. Unmarshal calls SetDefaults on each such struct
// before it reads its members.
type Defaulter interface{ SetDefaults() }

var (
	rawType       = reflect.TypeFor[Raw]()
	bytesType     = reflect.TypeFor[[]byte]()
	defaulterType = reflect.TypeFor[Defaulter]()
)

// plan is what there is to know about a struct type. Plans live as long as one call, so the package has no state.
type plan struct {
	members []member       // in alphabetical order of their names
	byName  map[string]int // names and aliases to members
}

// member is a struct field that takes part. Its tags are
//
//	json:"name"            the member's name; fields without it take no part
//	json:"name,omitempty"  left out when zero or of length 0
//	alias:"a,b"            other names it is read by
//	enum:"A,B,C"           a string that is read in any case or as an ordinal, and left out when it is none of these
//
// Nil pointers and empty enums are left out as Java's nulls are; nil maps and slices are written as empty unless
// omitempty is given. The members of embedded structs count as the outer struct's.
type member struct {
	name      string
	index     []int
	omitEmpty bool
	enum      []string
}

// plans builds and keeps plans.
type plans map[reflect.Type]*plan

func (p plans) of(t reflect.Type) (*plan, error) {
	if known := p[t]; known != nil {
		return known, nil
	}
	pl := &plan{byName: map[string]int{}}
	aliases := map[string][]string{}
	for _, f := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "" || name == "-" {
			continue
		}
		if f.Anonymous {
			return nil, fmt.Errorf("fastjson: %s names the embedded %s", t, f.Name)
		}
		m := member{name: name, index: f.Index, omitEmpty: options == "omitempty"}
		if list := f.Tag.Get("enum"); list != "" {
			m.enum = strings.Split(list, ",")
		}
		if list := f.Tag.Get("alias"); list != "" {
			aliases[name] = strings.Split(list, ",")
		}
		pl.members = append(pl.members, m)
	}
	slices.SortFunc(pl.members, func(a, b member) int { return cmp.Compare(a.name, b.name) })
	for i, m := range pl.members {
		for _, name := range append(aliases[m.name], m.name) {
			if _, twice := pl.byName[name]; twice {
				return nil, fmt.Errorf("fastjson: %s has member %s twice", t, name)
			}
			pl.byName[name] = i
		}
	}
	p[t] = pl
	return pl, nil
}
