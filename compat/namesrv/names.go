package namesrv

import (
	"unicode"
	"unicode/utf8"
)

// Lengths of names and addresses in bytes.
const (
	nameBytesMax    = 255
	addressBytesMax = 255
)

// ValidName accepts the name of a topic, broker, cluster or zone. It is wider than the alphabet that brokers allow for
// topics, because each broker also registers a topic named after itself, by default its host name, and one named after its
// cluster. What it leaves out has no place in a log line, in a command line or unescaped in JSON.
func ValidName(s string) bool {
	if s == "" || len(s) > nameBytesMax || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r == '"' || r == '\\' || unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// ValidAddress accepts host:port in any spelling that clients might resolve. A comma or a quote is not accepted: the Go
// client cuts a route's addresses out of the JSON text at those.
func ValidAddress(s string) bool {
	if s == "" || len(s) > addressBytesMax {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '"' || c == ',' || c == '\\' || c == '{' || c == '}' {
			return false
		}
	}
	return true
}
