package fastjson

import (
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
// and of Unmarshal.
type Scanner struct {
	text string
	pos  int
}

// NewScanner returns a scanner at the start of text.
func NewScanner(text string) Scanner { return Scanner{text: text} }

// Fail returns a SyntaxError at the current position.
func (s *Scanner) Fail(format string, args ...any) error {
	return &SyntaxError{Offset: s.pos, Msg: fmt.Sprintf(format, args...)}
}

// Peek skips white space and returns the byte that follows without taking it, 0 at the end of the text.
func (s *Scanner) Peek() byte {
	for s.pos < len(s.text) {
		switch c := s.text[s.pos]; c {
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
	if s.pos < len(s.text) && s.text[s.pos] == c { // what compact text always has
		s.pos++
		return true
	}
	return s.takeAfterSpace(c)
}

func (s *Scanner) takeAfterSpace(c byte) bool {
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
	if s.Peek(); s.pos < len(s.text) {
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

// String takes a quoted string and returns its characters: a part of the scanner's text if there are no escapes in it,
// else a string of its own. Half a surrogate pair becomes U+FFFD; bytes that are not UTF-8 are kept.
func (s *Scanner) String() (string, error) {
	if err := s.Expect('"'); err != nil {
		return "", err
	}
	rest := s.text[s.pos:]
	for i := range len(rest) {
		if rest[i] == '"' {
			s.pos += i + 1
			return rest[:i], nil
		}
		if rest[i] == '\\' {
			break
		}
	}
	return s.unescape()
}

// unescape takes the rest of a string that has escapes in it.
func (s *Scanner) unescape() (string, error) {
	end := s.pos
	for end < len(s.text) && s.text[end] != '"' {
		if s.text[end] == '\\' {
			end++
		}
		end++
	}
	if end >= len(s.text) {
		s.pos = len(s.text)
		return "", s.Fail("string does not end")
	}
	var b strings.Builder
	b.Grow(end - s.pos) // characters are never more bytes than their escapes
	for s.pos < end {
		plain := strings.IndexByte(s.text[s.pos:end], '\\')
		if plain < 0 {
			plain = end - s.pos
		}
		b.WriteString(s.text[s.pos : s.pos+plain])
		s.pos += plain
		if s.pos < end {
			s.pos++
			if err := s.escape(&b); err != nil {
				return "", err
			}
		}
	}
	s.pos++
	return b.String(), nil
}

// escape takes what follows a backslash, at least one byte and the closing quote.
func (s *Scanner) escape(b *strings.Builder) error {
	c := s.text[s.pos]
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
		r, ok := unhex(s.text[s.pos:])
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
	if rest := s.text[s.pos:]; len(rest) >= 6 && rest[0] == '\\' && rest[1] == 'u' {
		if low, ok := unhex(rest[2:]); ok {
			if full := utf16.DecodeRune(r, low); full != '\uFFFD' {
				s.pos += 6
				return full
			}
		}
	}
	return '\uFFFD'
}

// Literal takes a number, true, false or null and returns its text, a part of the scanner's.
func (s *Scanner) Literal() (string, error) {
	s.Peek()
	from := s.pos
	for s.pos < len(s.text) && isLiteralByte(s.text[s.pos]) {
		s.pos++
	}
	text := s.text[from:s.pos]
	if !isLiteral(text) {
		s.pos = from
		return "", s.Fail("want a value")
	}
	return text, nil
}

func isLiteralByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '+' || c == '.'
}

func isLiteral(text string) bool {
	switch text {
	case "true", "false", "null":
		return true
	}
	rest, ok := digits(strings.TrimPrefix(text, "-"))
	if ok && strings.HasPrefix(rest, ".") {
		rest, ok = digits(rest[1:])
	}
	if ok && rest != "" && (rest[0] == 'e' || rest[0] == 'E') {
		rest = rest[1:]
		if rest != "" && (rest[0] == '+' || rest[0] == '-') {
			rest = rest[1:]
		}
		rest, ok = digits(rest)
	}
	return ok && rest == ""
}

// digits cuts the digits off the start of text, of which there must be one.
func digits(text string) (rest string, ok bool) {
	n := 0
	for n < len(text) && text[n] >= '0' && text[n] <= '9' {
		n++
	}
	return text[n:], n > 0
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
	for s.pos++; s.pos < len(s.text); s.pos++ {
		switch s.text[s.pos] {
		case '"':
			s.pos++
			return nil
		case '\\':
			s.pos++
		}
	}
	s.pos = len(s.text)
	return s.Fail("string does not end")
}
