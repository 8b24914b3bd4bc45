package fastjson

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf16"
)

// DepthMax is how deep values may be nested in a text that is read.
const DepthMax = 64

// SyntaxError says where a text is not JSON, in bytes from its start.
type SyntaxError struct {
	Offset int
	Msg    string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("fastjson: %s at byte %d", e.Msg, e.Offset) }

// Scanner takes JSON text apart token by token without building a tree. It is the reading half of the header codec
// and of Unmarshal. It allocates nothing of its own; text goes to the builder the caller hands in.
type Scanner struct {
	data []byte
	pos  int
}

// NewScanner returns a scanner at the start of data, which it never changes.
func NewScanner(data []byte) Scanner { return Scanner{data: data} }

// Pos returns the offset of the next byte.
func (s *Scanner) Pos() int { return s.pos }

// Fail returns a SyntaxError at the current position.
func (s *Scanner) Fail(format string, args ...any) error {
	return &SyntaxError{Offset: s.pos, Msg: fmt.Sprintf(format, args...)}
}

// Peek skips white space and returns the byte that follows without taking it, 0 at the end of the text.
func (s *Scanner) Peek() byte {
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; c {
		case ' ', '\t', '\n', '\r', '\f', '\b':
			s.pos++
		default:
			return c
		}
	}
	return 0
}

// Take skips white space and takes c if it comes next.
func (s *Scanner) Take(c byte) bool {
	if s.Peek() != c {
		return false
	}
	s.pos++
	return true
}

// Expect is Take that fails when something else comes.
func (s *Scanner) Expect(c byte) error {
	if !s.Take(c) {
		return s.Fail("want %q", c)
	}
	return nil
}

// End fails unless only white space is left.
func (s *Scanner) End() error {
	if s.Peek(); s.pos < len(s.data) {
		return s.Fail("text goes on after its value")
	}
	return nil
}

// More is called after an element of an object or array that ends with end: it takes the comma and returns true, or
// takes end and returns false.
func (s *Scanner) More(end byte) (bool, error) {
	if s.Take(',') {
		return true, nil
	}
	if s.Take(end) {
		return false, nil
	}
	return false, s.Fail("want ',' or %q", end)
}

// String takes a quoted string, appends its characters to b and returns what was appended. They are never more bytes
// than the text has, so a builder grown by the length of the text once holds all its strings without allocating
// again. Half a surrogate pair becomes U+FFFD; bytes that are not UTF-8 are kept.
func (s *Scanner) String(b *strings.Builder) (string, error) {
	if err := s.Expect('"'); err != nil {
		return "", err
	}
	start := b.Len()
	for {
		from := s.pos
		for s.pos < len(s.data) {
			c := s.data[s.pos]
			if c == '"' || c == '\\' {
				break
			}
			s.pos++
		}
		b.Write(s.data[from:s.pos])
		if s.pos == len(s.data) {
			return "", s.Fail("string does not end")
		}
		s.pos++
		if s.data[s.pos-1] == '"' {
			return b.String()[start:], nil
		}
		if err := s.escape(b); err != nil {
			return "", err
		}
	}
}

// escape takes what follows a backslash.
func (s *Scanner) escape(b *strings.Builder) error {
	if s.pos == len(s.data) {
		return s.Fail("string does not end")
	}
	c := s.data[s.pos]
	s.pos++
	switch c {
	case '"', '\\', '/', '\'':
		b.WriteByte(c)
	case 'b':
		b.WriteByte('\b')
	case 't':
		b.WriteByte('\t')
	case 'n':
		b.WriteByte('\n')
	case 'v':
		b.WriteByte('\v')
	case 'f':
		b.WriteByte('\f')
	case 'r':
		b.WriteByte('\r')
	case 'u':
		r, ok := unhex(s.data[s.pos:])
		if !ok {
			return s.Fail(`want four hex digits after \u`)
		}
		s.pos += 4
		b.WriteRune(s.pair(r))
	default:
		s.pos--
		return s.Fail("unknown escape %q", c)
	}
	return nil
}

// pair completes a surrogate pair of which r was the first half, if it is one and the second half follows.
func (s *Scanner) pair(r rune) rune {
	if !utf16.IsSurrogate(r) {
		return r
	}
	if rest := s.data[s.pos:]; len(rest) >= 6 && rest[0] == '\\' && rest[1] == 'u' {
		if low, ok := unhex(rest[2:]); ok {
			if full := utf16.DecodeRune(r, low); full != '\uFFFD' {
				s.pos += 6
				return full
			}
		}
	}
	return '\uFFFD'
}

// Literal takes a number, true, false or null and returns its text, which aliases the input.
func (s *Scanner) Literal() ([]byte, error) {
	s.Peek()
	from := s.pos
	for s.pos < len(s.data) && isLiteralByte(s.data[s.pos]) {
		s.pos++
	}
	text := s.data[from:s.pos]
	if !isLiteral(text) {
		s.pos = from
		return nil, s.Fail("want a value")
	}
	return text, nil
}

func isLiteralByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '+' || c == '.'
}

func isLiteral(text []byte) bool {
	switch string(text) {
	case "true", "false", "null":
		return true
	}
	rest := digits(bytes.TrimPrefix(text, []byte("-")))
	if rest != nil && len(rest) > 0 && rest[0] == '.' {
		rest = digits(rest[1:])
	}
	if rest != nil && len(rest) > 0 && (rest[0] == 'e' || rest[0] == 'E') {
		rest = rest[1:]
		if len(rest) > 0 && (rest[0] == '+' || rest[0] == '-') {
			rest = rest[1:]
		}
		rest = digits(rest)
	}
	return rest != nil && len(rest) == 0
}

// digits returns what follows the digits at the start of text, nil if there are none.
func digits(text []byte) []byte {
	n := 0
	for n < len(text) && text[n] >= '0' && text[n] <= '9' {
		n++
	}
	if n == 0 {
		return nil
	}
	return text[n:]
}

// Skip takes a value of any kind and drops it. depth is how many values enclose it.
func (s *Scanner) Skip(depth int) error {
	switch s.Peek() {
	case '{':
		return s.skipObject(depth)
	case '[':
		return s.skipArray(depth)
	case '"':
		return s.skipString()
	default:
		_, err := s.Literal()
		return err
	}
}

func (s *Scanner) skipObject(depth int) error {
	if depth >= DepthMax {
		return s.Fail("more than %d values inside each other", DepthMax)
	}
	s.pos++
	if s.Take('}') {
		return nil
	}
	for {
		if err := s.Skip(depth + 1); err != nil { // the key: a string, an integer or an object
			return err
		}
		if err := s.Expect(':'); err != nil {
			return err
		}
		if err := s.Skip(depth + 1); err != nil {
			return err
		}
		if more, err := s.More('}'); err != nil || !more {
			return err
		}
	}
}

func (s *Scanner) skipArray(depth int) error {
	if depth >= DepthMax {
		return s.Fail("more than %d values inside each other", DepthMax)
	}
	s.pos++
	if s.Take(']') {
		return nil
	}
	for {
		if err := s.Skip(depth + 1); err != nil {
			return err
		}
		if more, err := s.More(']'); err != nil || !more {
			return err
		}
	}
}

func (s *Scanner) skipString() error {
	s.pos++
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case '"':
			s.pos++
			return nil
		case '\\':
			s.pos++
		}
		s.pos++
	}
	s.pos = len(s.data)
	return s.Fail("string does not end")
}
