package main

// The way from a property file to typed settings: config_file.go has the syntax, config_keys.go the table of every known
// key (keys.txt), config_values.go the types, config_broker.go and config_namesrv.go the keys that have an effect.

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
)

// ConfigItem is one effective setting.
type ConfigItem struct {
	Key       string // Java name
	Value     string // as a property file would say it, after defaults, clamping and detection
	Source    string // "default", "file:line", "environment NAMESRV_ADDR", "command line -n", "detected"
	Important bool   // printed by -m
	Effect    bool   // false: accepted, but this version does not act on it
}

const (
	sourceDefault  = "default"
	sourceDetected = "detected"
)

// keySettings is what a typed configuration keeps of its keys: where each value came from.
type keySettings struct {
	table    *keyTable
	settings map[string]setting // by Java key, the keys with an effect
	sources  map[string]string  // of the same keys; absent = default
	inert    []ConfigItem       // keys of the file without effect
}

// newKeySettings returns settings at their defaults. A key whose default in the table is no value ("auto", "unset") is
// left for the caller to fill with derive.
func newKeySettings(role string, settings map[string]setting) (*keySettings, error) {
	table, err := newKeyTable(role)
	if err != nil {
		return nil, err
	}
	k := &keySettings{table: table, settings: settings, sources: map[string]string{}}
	for key, s := range settings {
		spec, _, ok := table.find(key)
		if !ok {
			return nil, fmt.Errorf("key %s is not in the key table", key)
		}
		text, fixed := fixedDefault(spec, role)
		if !fixed {
			continue
		}
		if err := s.set(text); err != nil {
			return nil, fmt.Errorf("default of %s: %w", key, err)
		}
	}
	return k, nil
}

// fixedDefault returns the default of a key where the table has one that does not depend on the machine.
func fixedDefault(spec keySpec, role string) (string, bool) {
	switch spec.Default {
	case "empty":
		return "", true
	case "unset", "auto", "host name":
		return "", false
	}
	if spec.Key == "listenPort" {
		return map[string]string{roleBroker: "10911", roleNamesrv: "9876"}[role], true
	}
	return spec.Default, !strings.HasPrefix(spec.Default, "~") && !strings.HasPrefix(spec.Default, "-D")
}

// derive sets a key that the file left at its default to a value found elsewhere.
func (k *keySettings) derive(key, value, source string) error {
	if k.isSet(key) {
		return nil
	}
	if err := k.settings[key].set(value); err != nil {
		return fmt.Errorf("%s (%s) %s = %q: %w", key, source, key, value, err)
	}
	k.sources[key] = source
	return nil
}

// assign sets keys to the values that another part of the program chose; source is what Items says of them.
func (k *keySettings) assign(values map[string]string, source string) error {
	for key, value := range values {
		spec, _, ok := k.table.find(key)
		s, acts := k.settings[key]
		if !ok || !acts {
			return fmt.Errorf("%s has no effect", key)
		}
		if err := cmp.Or(spec.checkType(value), s.set(value)); err != nil {
			return fmt.Errorf("%s = %q: %w", key, value, err)
		}
		k.sources[key] = source
	}
	return nil
}

// isSet reports whether the key has another source than its default.
func (k *keySettings) isSet(key string) bool { return k.sources[key] != "" }

// load applies the file at path ("" = none) and reports on log what has no effect. See LoadBrokerConfig.
func (k *keySettings) load(path string, log *slog.Logger, strict bool) error {
	if path == "" {
		return nil
	}
	file, err := readConfigFile(path)
	if err != nil {
		return err
	}
	var problems []error
	if file.MarkupLines > 0 {
		log.Warn("an XML comment is not a comment in a property file; its lines are skipped", "at", at(path, file.MarkupFirst), "lines", file.MarkupLines)
	}
	applied, unknown := map[string]bool{}, map[string]bool{}
	inert := map[string]ConfigItem{}
	lines := map[string]int{}
	for _, e := range file.Entries {
		spec, alias, ok := k.table.find(e.Key)
		if !ok {
			unknown[e.Key] = true
			if err := k.unknown(path, e, log, strict); err != nil {
				problems = append(problems, err)
			}
			continue
		}
		key := e.Key
		if alias {
			key = spec.Key
			log.Warn("outdated spelling of a key", "at", at(path, e.Line), "key", e.Key, "now", spec.Key)
		}
		if first, again := lines[key]; again {
			log.Warn("a key stands twice, the last one counts", "key", key, "first", at(path, first), "last", at(path, e.Line))
		}
		lines[key] = e.Line
		if err := k.apply(key, spec, e); err != nil {
			problems = append(problems, fmt.Errorf("%s: %s = %s: %w", at(path, e.Line), e.Key, shownValue(e.Key, e.Value), err))
			continue
		}
		if _, acts := k.settings[key]; acts {
			applied[key] = true
			k.sources[key] = at(path, e.Line)
			continue
		}
		inert[key] = ConfigItem{Key: key, Value: shown(e.Key, e.Value), Source: at(path, e.Line), Important: spec.Important}
		reportInert(log, key, spec, e, path)
	}
	k.inert = slices.SortedFunc(maps.Values(inert), func(a, b ConfigItem) int { return cmp.Compare(a.Key, b.Key) })
	log.Info(fmt.Sprintf("%s: %d keys applied, %d accepted without effect, %d unknown", path, len(applied), len(inert), len(unknown)))
	return errors.Join(problems...)
}

// apply checks the value of a known key and, if the key has an effect, sets it.
func (k *keySettings) apply(key string, spec keySpec, e configEntry) error {
	if why := spec.refusal(e.Value); why != "" {
		return fmt.Errorf("refused: %s", why)
	}
	s, acts := k.settings[key]
	if e.Value == "" && spec.Type != "String" {
		return fmt.Errorf("has no value")
	}
	if err := spec.checkType(e.Value); err != nil {
		return err
	}
	if acts {
		return s.set(e.Value)
	}
	return nil
}

func (k *keySettings) unknown(path string, e configEntry, log *slog.Logger, strict bool) error {
	hint := k.table.hint(e.Key)
	if strict {
		return fmt.Errorf("%s: %s = %s: unknown key%s", at(path, e.Line), e.Key, shownValue(e.Key, e.Value), optional("; ", hint))
	}
	attrs := []any{"at", at(path, e.Line), "key", e.Key}
	if hint != "" {
		attrs = append(attrs, "hint", hint)
	}
	log.Warn("unknown key, ignored", attrs...)
	return nil
}

// reportInert says once that a key changes nothing; quietly if the file only repeats the default.
func reportInert(log *slog.Logger, key string, spec keySpec, e configEntry, path string) {
	write := log.Warn
	if e.Value == spec.Default || e.Value == "" {
		write = log.Debug
	}
	text := "key accepted without effect"
	if spec.Treatment == honour {
		text = "key accepted, but this version does not act on it yet"
	}
	write(text, "at", at(path, e.Line), "key", key, "note", spec.Note)
}

// items returns the effective settings, sorted by key.
func (k *keySettings) items() []ConfigItem {
	items := slices.Clone(k.inert)
	for key, s := range k.settings {
		spec, _, _ := k.table.find(key)
		items = append(items, ConfigItem{Key: key, Value: s.get(), Source: cmp.Or(k.sources[key], sourceDefault), Important: spec.Important, Effect: true})
	}
	slices.SortFunc(items, func(a, b ConfigItem) int { return cmp.Compare(a.Key, b.Key) })
	return items
}

func at(path string, line int) string { return fmt.Sprintf("%s:%d", path, line) }

func optional(separator, text string) string {
	if text == "" {
		return ""
	}
	return separator + text
}

func shown(key, value string) string {
	if secret(key) {
		return "******"
	}
	return value
}

func shownValue(key, value string) string {
	const most = 200
	if value = shown(key, value); len(value) > most {
		value = value[:most] + "..."
	}
	return fmt.Sprintf("%q", value)
}

// PrintItems writes items as a property file: key=value lines, each that is not a built-in default preceded by a comment
// naming its source. importantOnly is -m.
func PrintItems(w io.Writer, items []ConfigItem, importantOnly bool) error {
	for _, item := range items {
		if importantOnly && !item.Important {
			continue
		}
		comment := ""
		if item.Source != sourceDefault {
			comment = "# " + item.Source
			if !item.Effect {
				comment += ", accepted without effect"
			}
			comment += "\n"
		}
		if _, err := fmt.Fprintf(w, "%s%s=%s\n", comment, item.Key, escapeProperty(item.Value)); err != nil {
			return err
		}
	}
	return nil
}

// PropertiesText returns items as the text of a property file without comments, the body of a GET_BROKER_CONFIG answer.
func PropertiesText(items []ConfigItem) string {
	var b strings.Builder
	for _, item := range items {
		fmt.Fprintf(&b, "%s=%s\n", item.Key, escapeProperty(item.Value))
	}
	return b.String()
}

// escapeProperty writes a value so that reading it back gives the same text.
func escapeProperty(value string) string {
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`, "\t", `\t`, "\f", `\f`).Replace(value)
}
