package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strings"
	"testing"
)

// TestEveryFieldIsRead: a key counts as having an effect because it has a field here, so somebody must read the field.
func TestEveryFieldIsRead(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	// These decide about identities, in config_broker.go and config_namesrv.go.
	read := map[string]bool{"BrokerRole": true, "EnableDLegerCommitLog": true, "DLegerPeers": true, "DLegerSelfID": true,
		"EnableControllerInNamesrv": true, "ControllerDLegerPeers": true, "ControllerDLegerSelfID": true,
	}
	for _, file := range files {
		name := file.Name()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "config") {
			continue
		}
		syntax, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(syntax, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				read[s.Sel.Name] = true
			}
			return true
		})
	}
	for _, config := range []any{BrokerConfig{}, NamesrvConfig{}} {
		typ := reflect.TypeOf(config)
		for i := range typ.NumField() {
			if f := typ.Field(i); f.IsExported() && !read[f.Name] {
				t.Errorf("%s.%s is never read: its key has no effect", typ.Name(), f.Name)
			}
		}
	}
}
