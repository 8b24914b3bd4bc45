package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestParseConfigFollowsJavaProperties(t *testing.T) {
	tests := []struct {
		name, text string
		want       []configEntry
	}{
		{"separators", "a=1\nb:2\nc 3\nd = 4\ne\t:\t5", []configEntry{{"a", "1", 1}, {"b", "2", 2}, {"c", "3", 3}, {"d", "4", 4}, {"e", "5", 5}}},
		{"trailing blanks are trimmed", "brokerId = 1 \t\n", []configEntry{{"brokerId", "1", 1}}},
		{"only the first separator counts", "a=b=c:d", []configEntry{{"a", "b=c:d", 1}}},
		{"comments at line start only", "# x=1\n  ! y=2\na=1 # no comment\n", []configEntry{{"a", "1 # no comment", 3}}},
		{"bare word", "flag\nother", []configEntry{{"flag", "", 1}, {"other", "", 2}}},
		{"empty value", "a=\nb=2", []configEntry{{"a", "", 1}, {"b", "2", 2}}},
		{"continued lines", "a=one;\\\n   two;\\\n\tthree\nb=2", []configEntry{{"a", "one;two;three", 1}, {"b", "2", 4}}},
		{"continued line at the end", "a=1\\", []configEntry{{"a", "1", 1}}},
		{"nothing but a continuation", "\\\n\\\n\na=1\n\\", []configEntry{{"a", "1", 4}}},
		{"even backslashes do not continue", "a=1\\\\\nb=2", []configEntry{{"a", `1\`, 1}, {"b", "2", 2}}},
		{"a comment does not continue", "# comment \\\na=1", []configEntry{{"a", "1", 2}}},
		{"escapes", `a=x\ty\u0041\n` + "\n" + `b\=c=1`, []configEntry{{"a", "x\tyA", 1}, {"b=c", "1", 2}}},
		{"other escapes lose the backslash", `path=C:\data`, []configEntry{{"path", "C:data", 1}}},
		{"quotes are ordinary", `a="1"`, []configEntry{{"a", `"1"`, 1}}},
		{"nothing is expanded", "a=${HOME}/x", []configEntry{{"a", "${HOME}/x", 1}}},
		{"line ends", "a=1\r\nb=2\rc=3\n", []configEntry{{"a", "1", 1}, {"b", "2", 2}, {"c", "3", 3}}},
		{"continued over a carriage return", "a=1,\\\r\n  2\r\n", []configEntry{{"a", "1,2", 1}}},
		{"byte order mark", "\ufeffa=1", []configEntry{{"a", "1", 1}}},
		{"UTF-8", "a=消息", []configEntry{{"a", "消息", 1}}},
		{"Latin-1 when not UTF-8", "a=caf\xe9", []configEntry{{"a", "café", 1}}},
		{"no key", "=1\n:2", []configEntry{{"", "1", 1}, {"", "2", 2}}},
		{"duplicates are kept in order", "a=1\na=2", []configEntry{{"a", "1", 1}, {"a", "2", 2}}},
		{"empty file", "", nil},
		{"XML comment", "<!--\n a=1\n-->\nb=2", []configEntry{{"b", "2", 4}}},
		{"XML comment on one line", "<!-- a=1 -->\nb=2", []configEntry{{"b", "2", 2}}},
		{"XML comment never closed", "<!--\na=1", []configEntry{{"<!--", "", 1}, {"a", "1", 2}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			file, err := parseConfig("f", []byte(test.text))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(file.Entries, test.want) {
				t.Errorf("got %+v, want %+v", file.Entries, test.want)
			}
		})
	}
}

func TestParseConfigNamesTheLineOfABrokenEscape(t *testing.T) {
	_, err := parseConfig("broker.conf", []byte("a=1\nb=\\u00zz\nc=\\u1\n"))
	if err == nil || !strings.Contains(err.Error(), "broker.conf:2: ") || !strings.Contains(err.Error(), "broker.conf:3: ") {
		t.Errorf("got %v, want both lines named", err)
	}
}

func TestReadConfigFileIsBounded(t *testing.T) {
	path := writeFile(t, "big.conf", strings.Repeat("#", configFileBytesMax+1))
	if _, err := readConfigFile(path); err == nil || !strings.Contains(err.Error(), fmt.Sprint(configFileBytesMax)) {
		t.Errorf("got %v, want an error naming the limit", err)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("a=1\nb:\\u0041 \\\n c\n#x\n<!-- y -->\nz"))
	f.Add([]byte("\xff\xfe=\\"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := parseConfig("f", data)
		if err != nil {
			return
		}
		// Whatever was read must survive being printed and read again.
		var items []ConfigItem
		for _, e := range file.Entries {
			if strings.ContainsFunc(e.Key, func(r rune) bool { return !nameRune(r) }) || e.Key == "" || strings.HasPrefix(e.Key, "<!--") {
				continue
			}
			items = append(items, ConfigItem{Key: e.Key, Value: e.Value, Source: sourceDefault})
		}
		again, err := parseConfig("f", []byte(PropertiesText(items)))
		if err != nil {
			t.Fatal(err)
		}
		if len(again.Entries) != len(items) {
			t.Fatalf("%d entries became %d", len(items), len(again.Entries))
		}
		for i, e := range again.Entries {
			if e.Key != items[i].Key || e.Value != items[i].Value {
				t.Fatalf("%+v became %+v", items[i], e)
			}
		}
	})
}
