package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/magiconair/properties"
)

// configFileBytesMax bounds what is read of a property file; the longest sane one is a few dozen KiB.
const configFileBytesMax = 1 << 20

// configEntry is one key of a property file.
type configEntry struct {
	Key   string
	Value string // trimmed on both sides, unlike java.util.Properties
	Line  int    // where the entry starts, from 1
}

// ConfigFile is a parsed property file: the syntax of java.util.Properties, nothing expanded, entries in file order.
type ConfigFile struct {
	Path    string
	Entries []configEntry
	// MarkupLines counts the lines dropped because they lie inside an XML comment, which some of the classic sample files
	// open with; MarkupFirst is the first one. (A property file has no such comments: java.util.Properties takes their
	// words for keys.)
	MarkupLines, MarkupFirst int
}

// readConfigFile reads and parses the file at path.
func readConfigFile(path string) (*ConfigFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, configFileBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	if len(data) > configFileBytesMax {
		return nil, fmt.Errorf("configuration file %s is larger than %d bytes", path, configFileBytesMax)
	}
	return parseConfig(path, data)
}

// parseConfig parses data, the content of the file at path. The text is UTF-8, or ISO-8859-1 when it is not valid UTF-8.
// The error names every line that cannot be read; the only such lines hold a broken \uXXXX escape.
func parseConfig(path string, data []byte) (*ConfigFile, error) {
	text := strings.TrimPrefix(string(data), "\ufeff")
	if !utf8.ValidString(text) {
		text = latin1(data)
	}
	file := &ConfigFile{Path: path}
	var problems []error
	lines := logicalLines(text)
	lastClose := len(lines) - 1
	for lastClose >= 0 && !strings.Contains(lines[lastClose].text, markupClose) {
		lastClose--
	}
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if i <= lastClose && strings.HasPrefix(line.text, markupOpen) {
			n := markupLength(lines[i:])
			if file.MarkupLines == 0 {
				file.MarkupFirst = line.number
			}
			file.MarkupLines += n
			i += n - 1
			continue
		}
		key, value, err := parseEntry(line.text)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s:%d: %w", path, line.number, err))
			continue
		}
		file.Entries = append(file.Entries, configEntry{Key: key, Value: strings.TrimSpace(value), Line: line.number})
	}
	return file, errors.Join(problems...)
}

type logicalLine struct {
	text   string
	number int
}

// logicalLines drops blank lines and comments and joins continued lines. It exists because the properties library does
// not tell on which line a key stands.
func logicalLines(text string) []logicalLine {
	const blanks = " \t\f"
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text = strings.ReplaceAll(text, "\r", "\n")
	natural := strings.Split(text, "\n")
	var lines []logicalLine
	for i := 0; i < len(natural); i++ {
		part := strings.TrimLeft(natural[i], blanks)
		if part == "" || part[0] == '#' || part[0] == '!' {
			continue
		}
		number := i + 1
		var whole strings.Builder
		for endsInEscape(part) {
			whole.WriteString(part[:len(part)-1])
			part = ""
			if i++; i < len(natural) {
				part = strings.TrimLeft(natural[i], blanks)
			}
		}
		whole.WriteString(part)
		if whole.Len() > 0 {
			lines = append(lines, logicalLine{text: whole.String(), number: number})
		}
	}
	return lines
}

const markupOpen, markupClose = "<!--", "-->"

// markupLength returns how many lines the XML comment spans that opens on the first of lines and closes on one of them.
func markupLength(lines []logicalLine) int {
	return 1 + slices.IndexFunc(lines, func(line logicalLine) bool { return strings.Contains(line.text, markupClose) })
}

// endsInEscape reports whether s ends in an odd number of backslashes.
func endsInEscape(s string) bool {
	return (len(s)-len(strings.TrimRight(s, `\`)))%2 == 1
}

// parseEntry splits one logical line into key and value and resolves the escapes of both.
func parseEntry(line string) (key, value string, err error) {
	if line[0] == '=' || line[0] == ':' {
		return "", line[1:], nil
	}
	loader := properties.Loader{Encoding: properties.UTF8, DisableExpansion: true}
	p, err := loader.LoadBytes([]byte(line))
	if err != nil {
		// The library's own text names a line number of its own and may quote a secret.
		return "", "", errors.New(`cannot be read: \u must be followed by four hexadecimal digits`)
	}
	for _, key := range p.Keys() {
		value, _ := p.Get(key)
		return key, value, nil
	}
	return "", "", nil
}

func latin1(data []byte) string {
	runes := make([]rune, len(data))
	for i, b := range data {
		runes[i] = rune(b)
	}
	return string(runes)
}
