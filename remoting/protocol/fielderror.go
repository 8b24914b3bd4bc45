package protocol

import (
	"fmt"
	"strconv"
	"strings"
)

// FieldError says which ext field of a header cannot be used, what it holds and what was expected.
type FieldError struct {
	Header  string // Go name of the header
	Field   string // name on the wire
	Value   string // what was there, cut to 64 bytes; "" when Missing
	Want    string // what was expected, such as "an int32"
	Missing bool   // the field is required and absent
}

// Error words the error for the remark of an answer.
func (e *FieldError) Error() string {
	if e.Missing {
		return fmt.Sprintf("%s: %s is missing, want %s", e.Header, e.Field, e.Want)
	}
	return fmt.Sprintf("%s: %s is %q, want %s", e.Header, e.Field, e.Value, e.Want)
}

// fieldValueShown is how much of a bad value an error repeats.
const fieldValueShown = 64

// fieldReader parses the values of one header and keeps the first error.
type fieldReader struct {
	header string
	err    error
}

func (r *fieldReader) fail(f *Field, typ string) {
	if r.err != nil {
		return
	}
	value := f.Value
	if len(value) > fieldValueShown {
		value = value[:fieldValueShown]
	}
	r.err = &FieldError{Header: r.header, Field: f.Key, Value: strings.Clone(value), Want: wanted(typ)}
}

// missing notes the first required field whose bit in seen is clear. fields are pairs of name and type.
func (r *fieldReader) missing(seen uint32, fields ...string) {
	if r.err != nil {
		return
	}
	for i := 0; i < len(fields); i += 2 {
		if seen&(1<<(i/2)) == 0 {
			r.err = &FieldError{Header: r.header, Field: fields[i], Want: wanted(fields[i+1]), Missing: true}
			return
		}
	}
}

func wanted(typ string) string {
	switch typ {
	case "string":
		return "text"
	case "bool":
		return "true or false"
	default:
		return "an " + typ
	}
}

// The field parsers return false when the field counts as absent: it is bad (which r notes) or empty. The
// binary codec cannot tell an empty value from none, and Java reads both as none.

func (r *fieldReader) int32Field(f *Field) (int32, bool) {
	if f.Value == "" {
		return 0, false
	}
	n, err := strconv.ParseInt(f.Value, 10, 32)
	if err != nil {
		r.fail(f, "int32")
		return 0, false
	}
	return int32(n), true
}

func (r *fieldReader) int64Field(f *Field) (int64, bool) {
	if f.Value == "" {
		return 0, false
	}
	n, err := strconv.ParseInt(f.Value, 10, 64)
	if err != nil {
		r.fail(f, "int64")
		return 0, false
	}
	return n, true
}

// boolField reads true and false in any case, and the 1 and 0 that some clients write.
func (r *fieldReader) boolField(f *Field) (v, ok bool) {
	switch f.Value {
	case "":
		return false, false
	case "true", "1":
		return true, true
	case "false", "0":
		return false, true
	}
	switch {
	case strings.EqualFold(f.Value, "true"):
		return true, true
	case strings.EqualFold(f.Value, "false"):
		return false, true
	}
	r.fail(f, "bool")
	return false, false
}
