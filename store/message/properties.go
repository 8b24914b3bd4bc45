package message

import (
	"bytes"
	"fmt"
)

// Separators of a property string.
const (
	NameSeparator  = 0x01 // between name and value
	ValueSeparator = 0x02 // behind each pair; optional behind the last
)

// Properties is a raw property string: name, 0x01, value, 0x02, repeated. Pairs without a name or with an empty value
// are skipped by every reader, as RocketMQ does, but kept byte for byte by every writer that does not name them.
// Where a name occurs twice the last pair counts.
type Properties []byte

// next splits off the first pair. ok is false for a pair that readers skip.
func (p Properties) next() (name, value, rest []byte, ok bool) {
	pair := []byte(p)
	if i := bytes.IndexByte(p, ValueSeparator); i >= 0 {
		pair, rest = p[:i], p[i+1:]
	}
	i := bytes.IndexByte(pair, NameSeparator)
	if i <= 0 || i == len(pair)-1 {
		return nil, nil, rest, false
	}
	return pair[:i], pair[i+1:], rest, true
}

// Walk calls fn for each pair in order until fn returns false. The slices alias p.
func (p Properties) Walk(fn func(name, value []byte) bool) {
	for len(p) > 0 {
		name, value, rest, ok := p.next()
		if ok && !fn(name, value) {
			return
		}
		p = rest
	}
}

// GetBytes returns the value of name, aliasing p.
func (p Properties) GetBytes(name string) (value []byte, found bool) {
	for len(p) > 0 {
		n, v, rest, ok := p.next()
		if ok && string(n) == name {
			value, found = v, true
		}
		p = rest
	}
	return value, found
}

// Get returns the value of name as a string of its own.
func (p Properties) Get(name string) (string, bool) {
	v, ok := p.GetBytes(name)
	return string(v), ok
}

// Map returns all pairs as a map of their own.
func (p Properties) Map() map[string]string {
	m := make(map[string]string)
	p.Walk(func(name, value []byte) bool {
		m[string(name)] = string(value)
		return true
	})
	return m
}

// AppendProperty appends one pair to the property string dst, adding the separator that dst may lack. Neither name nor
// value may hold a separator, see CheckProperty.
func AppendProperty(dst []byte, name, value string) []byte {
	if n := len(dst); n > 0 && dst[n-1] != ValueSeparator {
		dst = append(dst, ValueSeparator)
	}
	dst = append(dst, name...)
	dst = append(dst, NameSeparator)
	dst = append(dst, value...)
	return append(dst, ValueSeparator)
}

// CheckProperty says whether a pair can be stored and read back: name and value not empty, no separators in either.
func CheckProperty(name, value string) error {
	if name == "" || value == "" {
		return fmt.Errorf("property %q=%q is empty: %w", name, value, ErrMalformed)
	}
	for _, s := range [2]string{name, value} {
		for i := range len(s) {
			if s[i] == NameSeparator || s[i] == ValueSeparator {
				return fmt.Errorf("property %q=%q holds a separator: %w", name, value, ErrMalformed)
			}
		}
	}
	return nil
}

// Set returns p with name set to value: pairs of that name are taken out and one is appended. p is not changed; the
// result does not alias it.
func (p Properties) Set(name, value string) Properties {
	dst := make(Properties, 0, len(p)+len(name)+len(value)+3)
	return AppendProperty(p.appendWithout(dst, name), name, value)
}

// Delete returns p without the pairs of the given names. p is not changed; if none of the names occurs p itself is
// returned.
func (p Properties) Delete(names ...string) Properties {
	found := false
	for _, name := range names {
		if _, ok := p.GetBytes(name); ok {
			found = true
		}
	}
	if !found {
		return p
	}
	return p.appendWithout(make(Properties, 0, len(p)), names...)
}

// appendWithout appends p to dst, leaving out the pairs of the given names.
func (p Properties) appendWithout(dst Properties, names ...string) Properties {
	for len(p) > 0 {
		name, _, rest, ok := p.next()
		if !ok || !contains(names, name) {
			dst = append(dst, p[:len(p)-len(rest)]...)
		}
		p = rest
	}
	return dst
}

func contains(names []string, name []byte) bool {
	for _, n := range names {
		if n == string(name) {
			return true
		}
	}
	return false
}
