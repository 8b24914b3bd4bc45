package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// classicOption is one option of a classic program.
type classicOption struct {
	Short  string // one or two letters, or ""
	Long   string
	Value  string // name of its argument in the usage text; "" = a flag
	Repeat bool   // may be given several times; otherwise the last one counts
	Exact  bool   // the long name cannot be cut short; for options the classic program does not have
	Help   string
}

// classicSpec is the command line of a classic program.
type classicSpec struct {
	Program string
	Options []classicOption
}

// classicArgs holds, by long name, the values given; a flag has one empty value per mention.
type classicArgs map[string][]string

// Has reports whether the option was given.
func (a classicArgs) Has(long string) bool { return len(a[long]) > 0 }

// Last returns the last value of the option, or "".
func (a classicArgs) Last(long string) string {
	if values := a[long]; len(values) > 0 {
		return values[len(values)-1]
	}
	return ""
}

// negativeNumber is the only value that may begin with a hyphen and look like no option.
var negativeNumber = regexp.MustCompile(`^-[0-9]+(\.[0-9]+)?$`)

// parseClassic reads args the way the classic programs do: -t x, -tx, -t=x, --topic x, --topic=x, -topic x, and long
// names cut short as long as they stay unambiguous. A short name wins over a shorter one with a value attached. One pair
// of double quotes around a value is dropped, "--" ends the options, and words that belong to no option are ignored.
//
// What was read before a mistake is returned with the error, whose text is the classic one and whose exit code is 1.
func parseClassic(args []string, spec classicSpec) (classicArgs, error) {
	got := classicArgs{}
	for i := 0; i < len(args); i++ {
		word := args[i]
		if word == "--" {
			break
		}
		if len(word) < 2 || word[0] != '-' {
			continue
		}
		option, value, attached, err := spec.match(word)
		if err != nil {
			return got.withHelp(args[i+1:], spec), err
		}
		if option.Value != "" && !attached {
			if i+1 == len(args) || spec.isOption(args[i+1]) {
				return got.withHelp(args[i+1:], spec), exitErrorf(exitUsage, "Missing argument for option: %s", option.name())
			}
			i++
			value = args[i]
		}
		if !option.Repeat {
			got[option.Long] = nil
		}
		got[option.Long] = append(got[option.Long], strings.TrimSpace(unquote(value)))
	}
	return got, nil
}

// withHelp adds the help option if it stands among the words behind a mistake.
func (a classicArgs) withHelp(rest []string, spec classicSpec) classicArgs {
	for _, word := range rest {
		if o, _, _, err := spec.match(word); err == nil && o.Long == "help" {
			a["help"] = []string{""}
		}
	}
	return a
}

func (o classicOption) name() string {
	if o.Short != "" {
		return o.Short
	}
	return o.Long
}

// match finds the option that word names. attached tells that value came in the same word.
func (s classicSpec) match(word string) (option classicOption, value string, attached bool, err error) {
	unrecognized := exitErrorf(exitUsage, "Unrecognized option: %s", word)
	name := strings.TrimLeft(word, "-")
	hyphens := len(word) - len(name)
	if hyphens > 2 || name == "" {
		return option, "", false, unrecognized
	}
	name, value, attached = strings.Cut(name, "=")
	if hyphens == 1 {
		for _, o := range s.Options {
			if o.Short == name {
				return o, value, attached, o.checkAttached(attached, word)
			}
		}
	}
	long, err := s.matchLong(name, word)
	if err != nil || long.Long != "" {
		return long, value, attached, cmpError(err, long.checkAttached(attached, word))
	}
	if hyphens == 1 {
		for _, o := range s.Options {
			if rest, ok := strings.CutPrefix(word[1:], o.Short); ok && o.Short != "" && o.Value != "" {
				return o, rest, true, nil
			}
		}
	}
	return option, "", false, unrecognized
}

// matchLong finds the option whose long name is name or begins with it; none is the zero option.
func (s classicSpec) matchLong(name, word string) (classicOption, error) {
	var found []classicOption
	for _, o := range s.Options {
		if o.Long == name {
			return o, nil
		}
		if name != "" && !o.Exact && strings.HasPrefix(o.Long, name) {
			found = append(found, o)
		}
	}
	switch len(found) {
	case 0:
		return classicOption{}, nil
	case 1:
		return found[0], nil
	}
	names := make([]string, len(found))
	for i, o := range found {
		names[i] = "'" + o.Long + "'"
	}
	return classicOption{}, exitErrorf(exitUsage, "Ambiguous option: '%s'  (could be: %s)", word, strings.Join(names, ", "))
}

func (o classicOption) checkAttached(attached bool, word string) error {
	if attached && o.Value == "" {
		return exitErrorf(exitUsage, "Unrecognized option: %s", word)
	}
	return nil
}

func cmpError(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

// isOption reports whether word cannot be the value of the option before it.
func (s classicSpec) isOption(word string) bool {
	if len(word) < 2 || word[0] != '-' || negativeNumber.MatchString(word) {
		return false
	}
	_, _, _, err := s.match(word)
	return err == nil || word == "--"
}

func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}

// Usage returns the help text: a usage line, then one line per option in the order of its letters.
func (s classicSpec) Usage() string {
	options := slices.Clone(s.Options)
	slices.SortStableFunc(options, func(a, b classicOption) int {
		return strings.Compare(strings.ToLower(a.name()), strings.ToLower(b.name()))
	})
	heads := make([]string, len(options))
	width := 0
	usage := "usage: " + s.Program
	for i, o := range options {
		argument := ""
		if o.Value != "" {
			argument = " <" + o.Value + ">"
		}
		heads[i] = "    --" + o.Long + argument
		short := "--" + o.Long
		if o.Short != "" {
			heads[i] = "-" + o.Short + ",--" + o.Long + argument
			short = "-" + o.Short
		}
		usage += " [" + short + argument + "]"
		width = max(width, len(heads[i]))
	}
	var b strings.Builder
	fmt.Fprintln(&b, usage)
	for i, o := range options {
		fmt.Fprintf(&b, " %-*s   %s\n", width, heads[i], o.Help)
	}
	return b.String()
}
