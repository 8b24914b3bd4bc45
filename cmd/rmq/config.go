package main

import "io"

// ConfigItem is one effective setting.
type ConfigItem struct {
	Key       string // Java name
	Value     string // as a property file would say it, after defaults, clamping and detection
	Source    string // "default", "file:line", "environment NAMESRV_ADDR", "command line -n", "detected"
	Important bool   // printed by -m
	Effect    bool   // false: accepted, but this version does not act on it
}

// PrintItems writes items as a property file: key=value lines, each that is not a built-in default preceded by a comment
// naming its source. importantOnly is -m.
func PrintItems(w io.Writer, items []ConfigItem, importantOnly bool) error { return nil }

// PropertiesText returns items as the text of a property file without comments, the body of a GET_BROKER_CONFIG answer.
func PropertiesText(items []ConfigItem) string { return "" }
