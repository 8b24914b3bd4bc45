package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the generated part of docs/configuration.md")

const (
	configurationPage = "../../docs/configuration.md"
	generatedBegin    = "<!-- generated from cmd/rmq/keys.txt by go generate: do not edit below this line -->\n"
)

// TestConfigurationPageIsCurrent compares the tables of docs/configuration.md with the key table and the keys that have
// an effect; go generate rewrites them.
func TestConfigurationPageIsCurrent(t *testing.T) {
	page, err := os.ReadFile(configurationPage)
	if err != nil {
		t.Fatal(err)
	}
	head, got, ok := strings.Cut(string(page), generatedBegin)
	if !ok {
		t.Fatalf("%s has no line %q", configurationPage, generatedBegin)
	}
	want := configurationTables(t)
	if got == want {
		return
	}
	if !*update {
		t.Fatalf("the tables of %s are not current; run go generate ./cmd/rmq", configurationPage)
	}
	if err := os.WriteFile(configurationPage, []byte(head+generatedBegin+want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func configurationTables(t *testing.T) string {
	t.Helper()
	specs, err := parseKeys()
	if err != nil {
		t.Fatal(err)
	}
	acts := map[keySpec]bool{}
	for role, settings := range map[string]map[string]setting{roleBroker: (&BrokerConfig{}).settings(), roleNamesrv: (&NamesrvConfig{}).settings()} {
		table, err := newKeyTable(role)
		if err != nil {
			t.Fatal(err)
		}
		for key := range settings {
			spec, _, _ := table.find(key)
			acts[spec] = true
		}
	}
	counts := map[string]int{}
	var tables strings.Builder
	class := ""
	for _, s := range specs {
		if s.Class != class {
			class = s.Class
			title := class
			switch class {
			case "Outside":
				title = "Old spellings, plug-ins and system properties"
			case "Rmq":
				title = "rmq's own"
			}
			fmt.Fprintf(&tables, "\n### %s\n\n| key | type | default | since | rmq | note |\n|---|---|---|---|---|---|\n", title)
		}
		effect := effectWord(s, acts)
		counts[effect]++
		key := "`" + s.Key + "`"
		if s.Important {
			key += " \\*"
		}
		fmt.Fprintf(&tables, "| %s | %s | %s | %s | %s | %s |\n", key, s.Type, cell(s.Default), s.Since, effect, cell(s.Note))
	}
	var out strings.Builder
	out.WriteString("\n")
	for _, effect := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(&out, "- %s: %d keys\n", effect, counts[effect])
	}
	return out.String() + tables.String()
}

// effectWord says what this version does with a key.
func effectWord(s keySpec, acts map[keySpec]bool) string {
	switch {
	case s.Type == "alias":
		return "old spelling"
	case s.Treatment == refuse || s.refusal("true") != "" || s.refusal("enforcing") != "":
		return "refused"
	case acts[s]:
		return "**acts**"
	case s.Treatment == accept:
		return "no effect"
	}
	return "not yet"
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
