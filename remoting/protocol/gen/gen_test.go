package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func readTable(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile("../table.txt")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// The generated files are those that the table gives now.
func TestGeneratedFilesAreCurrent(t *testing.T) {
	files, err := generate(readTable(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what table.txt gives: run go generate", name)
		}
	}
}

func TestRunWritesTheFiles(t *testing.T) {
	dir := t.TempDir()
	if err := run(dir); err == nil {
		t.Error("ran without a table")
	}
	if err := os.WriteFile(filepath.Join(dir, "table.txt"), readTable(t), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"codes_gen.go", "headers_gen.go", "headers_gen_test.go"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestTableMistakesAreNamed(t *testing.T) {
	for text, want := range map[string]string{
		"request 10 A -":                           "line 1: request line has 4 words",
		"request x A - -":                          "line 1: code",
		"request 10 A H -":                         "names header H",
		"request 10 A - -\nrequest 10 B - -":       "request code 10 is there twice",
		"nonsense":                                 "line 1: unknown kind",
		"\ta A string required":                    "line 1: field line outside",
		"header H\n\ta A string":                   "line 2: field line has 3 words",
		"header H\n\ta A float required":           `line 2: field a has type "float"`,
		"header H\n\ta A string maybe":             `line 2: field a has rule "maybe"`,
		"header H\n\ta A string =\n\ta B string =": "has field a (B) twice",
		"header H\n\ta A string =\n\tb A string =": "has field b (A) twice",
		"group G\n\ta A int32 =0":                  "group G has the number a",
		"header H":                                 "no request names header H",
		"header H G":                               "includes G",
		"header H\nheader H":                       "H is defined twice",
		"header":                                   "line 1: header line has 1 words",
		"header H" + manyRequired(33):              "more than 32 required",
	} {
		if _, err := generate([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func manyRequired(n int) string {
	var b strings.Builder
	for i := range n {
		name := string(rune('A'+i/26)) + string(rune('a'+i%26))
		b.WriteString("\n\t" + name + " " + name + " string required")
	}
	return b.String()
}
