package fastjson

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// What fastjson 1.2.83 did with every character of the basic plane: 69 were escaped, the others written as they are.
func TestAppendStringEscapesWhatFastjsonEscapes(t *testing.T) {
	short := map[rune]string{'\b': `\b`, '\t': `\t`, '\n': `\n`, '\f': `\f`, '\r': `\r`, '"': `\"`, '\\': `\\`}
	escaped := 0
	for r := rune(0); r < 0x10000; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		want := string(r)
		switch {
		case short[r] != "":
			want = short[r]
		case r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029:
			want = fmt.Sprintf(`\u%04X`, r)
		}
		if want != string(r) {
			escaped++
		}
		text := "x" + string(r) + "y" + string(r)
		if got := string(AppendString([]byte("before"), text)); got != `before"x`+want+`y`+want+`"` {
			t.Fatalf("U+%04X: %s", r, got)
		}
	}
	if escaped != 69 {
		t.Errorf("%d characters escaped, fastjson escapes 69", escaped)
	}
}

// Bytes that are no text, and characters cut off at the end, go through unchanged.
func TestAppendStringKeepsOtherBytes(t *testing.T) {
	for _, text := range []string{"", "plain", "\xff\xfe", "a\xc2", "a\xe2", "a\xe2\x80", "\xe2\x80\xaa", "😀", "\xc2\xa0"} {
		if got := string(AppendString(nil, text)); got != `"`+text+`"` {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func TestScannerStringUndoesAppendString(t *testing.T) {
	var all strings.Builder
	for r := rune(0); r < 0x3000; r++ {
		all.WriteRune(r)
	}
	all.WriteString("😀\xff\xc2")
	scan := NewScanner(string(AppendString(nil, all.String())))
	got, err := scan.String()
	if err != nil || got != all.String() {
		t.Errorf("came back different, %v", err)
	}
	if err := scan.End(); err != nil {
		t.Error(err)
	}
}
