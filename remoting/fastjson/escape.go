package fastjson

const hexUpper = "0123456789ABCDEF"

// AppendString appends s as a quoted JSON string with exactly the escapes fastjson makes: \b \t \n \f \r \" \\ in
// short form, the other control characters (U+0000 to U+001F, U+007F to U+009F) and the line separators U+2028 and
// U+2029 as \uXXXX with upper case digits. All other bytes are copied, so text that is not UTF-8 stays as it is.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c < 0x7f && c != '"' && c != '\\' {
			i++
			continue
		}
		escaped, size := escapeAt(s[i:])
		if escaped < 0 {
			i += size
			continue
		}
		dst = append(dst, s[from:i]...)
		dst = appendEscape(dst, escaped)
		i += size
		from = i
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}

// escapeAt returns the character at the start of s if it needs an escape, else -1, and how many bytes to go on by.
// s starts with a byte that is not plain.
func escapeAt(s string) (r rune, size int) {
	switch c := s[0]; {
	case c < 0x80:
		return rune(c), 1
	case c == 0xc2 && len(s) > 1 && s[1] >= 0x80 && s[1] <= 0x9f:
		return rune(s[1]), 2
	case c == 0xe2 && len(s) > 2 && s[1] == 0x80 && (s[2] == 0xa8 || s[2] == 0xa9):
		return 0x2000 | rune(s[2]&^0x80), 3
	default:
		return -1, 1
	}
}

func appendEscape(dst []byte, r rune) []byte {
	switch r {
	case '\b':
		return append(dst, '\\', 'b')
	case '\t':
		return append(dst, '\\', 't')
	case '\n':
		return append(dst, '\\', 'n')
	case '\f':
		return append(dst, '\\', 'f')
	case '\r':
		return append(dst, '\\', 'r')
	case '"', '\\':
		return append(dst, '\\', byte(r))
	}
	return append(dst, '\\', 'u', hexUpper[r>>12&15], hexUpper[r>>8&15], hexUpper[r>>4&15], hexUpper[r&15])
}

// unhex returns the value of four hex digits.
func unhex(s string) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	var r rune
	for i := range 4 {
		c := s[i]
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
