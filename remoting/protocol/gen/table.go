package main

import (
	"bufio"
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// table is the parsed table.txt.
type table struct {
	requests  []code
	responses []code
	groups    []header
	headers   []header
}

// code is a request or response code. request and response name headers, "" for none.
type code struct {
	value    int64
	wire     string // SEND_MESSAGE
	request  string
	response string
}

// goName is the constant's name: SEND_MESSAGE is SendMessage.
func (c code) goName() string {
	var b strings.Builder
	for word := range strings.SplitSeq(c.wire, "_") {
		b.WriteString(word[:1] + strings.ToLower(word[1:]))
	}
	return b.String()
}

// header is a typed header, or a group of fields that headers include.
type header struct {
	name   string
	group  string // included group, "" for none
	fields []field
}

// required returns the fields that must be there.
func (h header) required() []field {
	var out []field
	for _, f := range h.fields {
		if f.rule == ruleRequired {
			out = append(out, f)
		}
	}
	return out
}

type rule uint8

const (
	ruleRequired rule = iota
	ruleDefault
	ruleHas
	ruleAlias
)

// field is one ext field.
type field struct {
	wire, name, typ string
	rule            rule
	value           string // Go literal of the default, for ruleDefault
	doc             string
}

// zero is the Go literal of a field type's zero value.
func zero(typ string) string {
	switch typ {
	case "string":
		return `""`
	case "bool":
		return "false"
	default:
		return "0"
	}
}

// parseTable reads the text of table.txt. An error names the line.
func parseTable(text []byte) (*table, error) {
	t := &table{}
	var open *header // what field lines belong to
	names := map[string]bool{}
	sc := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; sc.Scan(); n++ {
		line, doc, _ := strings.Cut(sc.Text(), "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		var err error
		switch kind := words[0]; {
		case line[0] == '\t':
			if open == nil {
				err = fmt.Errorf("field line outside a header")
				break
			}
			var f field
			if f, err = parseField(words, strings.TrimSpace(doc)); err == nil {
				open.fields = append(open.fields, f)
			}
		case kind == "request":
			err = t.addCode(&t.requests, words, 5)
		case kind == "response":
			err = t.addCode(&t.responses, words, 3)
		case kind == "group" || kind == "header":
			list := &t.headers
			if kind == "group" {
				list = &t.groups
			}
			h := header{}
			if h, err = parseHeader(words, names); err == nil {
				*list = append(*list, h)
				open = &(*list)[len(*list)-1]
			}
		default:
			err = fmt.Errorf("unknown kind of line %q", kind)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return t, t.check()
}

func (t *table) addCode(list *[]code, words []string, count int) error {
	if len(words) != count {
		return fmt.Errorf("%s line has %d words, want %d", words[0], len(words), count)
	}
	value, err := strconv.ParseInt(words[1], 10, 32)
	if err != nil {
		return fmt.Errorf("code: %w", err)
	}
	c := code{value: value, wire: words[2]}
	if count == 5 {
		c.request, c.response = strings.Trim(words[3], "-"), strings.Trim(words[4], "-")
	}
	*list = append(*list, c)
	return nil
}

func parseHeader(words []string, names map[string]bool) (header, error) {
	if len(words) != 2 && len(words) != 3 {
		return header{}, fmt.Errorf("%s line has %d words, want 2 or 3", words[0], len(words))
	}
	h := header{name: words[1]}
	if len(words) == 3 {
		h.group = words[2]
		if !names[h.group] {
			return header{}, fmt.Errorf("%s includes %s, which no line above defines", h.name, h.group)
		}
	}
	if names[h.name] {
		return header{}, fmt.Errorf("%s is defined twice", h.name)
	}
	names[h.name] = true
	return h, nil
}

func parseField(words []string, doc string) (field, error) {
	if len(words) != 4 {
		return field{}, fmt.Errorf("field line has %d words, want 4", len(words))
	}
	f := field{wire: words[0], name: words[1], typ: words[2], doc: doc}
	switch f.typ {
	case "string", "bool", "int32", "int64":
	default:
		return field{}, fmt.Errorf("field %s has type %q", f.wire, f.typ)
	}
	switch {
	case words[3] == "required":
		f.rule = ruleRequired
	case words[3] == "has":
		f.rule = ruleHas
	case words[3] == "alias":
		f.rule = ruleAlias
	case strings.HasPrefix(words[3], "="):
		f.rule, f.value = ruleDefault, words[3][1:]
		if f.typ == "string" {
			f.value = strconv.Quote(f.value)
		}
	default:
		return field{}, fmt.Errorf("field %s has rule %q", f.wire, words[3])
	}
	return f, nil
}

// check looks at what no single line shows.
func (t *table) check() error {
	for _, g := range t.groups {
		for _, f := range g.fields {
			if isNumber(f) {
				return fmt.Errorf("group %s has the number %s: the generator cannot write numbers of groups", g.name, f.wire)
			}
		}
	}
	used := map[string]bool{}
	for _, h := range t.headers {
		used[h.name] = false
		seen := map[string]bool{}
		for _, f := range h.fields {
			if seen[f.wire] || seen["go "+f.name] {
				return fmt.Errorf("header %s has field %s (%s) twice", h.name, f.wire, f.name)
			}
			seen[f.wire], seen["go "+f.name] = true, true
		}
		if len(h.required()) > 32 {
			return fmt.Errorf("header %s has more than 32 required fields", h.name)
		}
	}
	values := map[int64]bool{}
	for _, c := range t.requests {
		if values[c.value] {
			return fmt.Errorf("request code %d is there twice", c.value)
		}
		values[c.value] = true
		for _, name := range []string{c.request, c.response} {
			if name == "" {
				continue
			}
			if _, known := used[name]; !known {
				return fmt.Errorf("request %s names header %s, which is not there", c.wire, name)
			}
			used[name] = true
		}
	}
	for _, h := range t.headers {
		if !used[h.name] {
			return fmt.Errorf("no request names header %s", h.name)
		}
	}
	return nil
}
