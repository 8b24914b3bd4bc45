// Package rmq_test holds the rules of the house that a machine can check. They run on source text, so they also hold
// while something does not compile.
package rmq_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// floors places every package of the module. A package may import packages of lower floors only, and of its own floor
// only what siblings allows. A new package must be placed here before its first commit.
func floors() map[string]int {
	return map[string]int{
		"remoting/fastjson":     0,
		"remoting/protocol":     0,
		"remoting/protocol/gen": 0,
		"store/message":         0,

		"raftlog":         1,
		"raftlog/crashfs": 1,
		"remoting":        1,
		"store":           1,

		"compat/admin":   2,
		"compat/broker":  2,
		"compat/namesrv": 2,
		"controller":     2,

		"compat": 3,

		"bench":         4,
		"bench/cluster": 4,
		"cmd/rmq":       5, // wires everything, the bench commands too
	}
}

// siblings lists the imports inside one floor that are allowed, "importer > imported".
func siblings() []string {
	return []string{
		"remoting/protocol > remoting/fastjson",
		"raftlog/crashfs > raftlog",
		"bench > bench/cluster",     // measures what it starts and kills
		"raftlog > raftlog/crashfs", // in tests: the file system that forgets
	}
}

// sourceFile is one Go file of the module.
type sourceFile struct {
	path    string // relative, with slashes
	pkg     string // directory; "" = the root
	test    bool
	imports []string
	syntax  *ast.File
}

func (f sourceFile) String() string { return f.path }

// sourceFiles parses every Go file of this module; directories with a go.mod of their own are other modules.
func sourceFiles(t *testing.T) []sourceFile {
	t.Helper()
	var files []sourceFile
	set := token.NewFileSet()
	walk(t, func(name string) {
		if path.Ext(name) != ".go" {
			return
		}
		syntax, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		f := sourceFile{path: name, pkg: strings.TrimPrefix(path.Dir(name), "."), test: strings.HasSuffix(name, "_test.go"), syntax: syntax}
		for _, spec := range syntax.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			f.imports = append(f.imports, imported)
		}
		files = append(files, f)
	})
	if len(files) == 0 {
		t.Fatal("no source files found")
	}
	return files
}

// walk visits every file of this module that belongs to the source.
func walk(t *testing.T, visit func(name string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if !d.IsDir() {
			visit(name)
			return nil
		}
		_, ownModule := os.Stat(filepath.Join(name, "go.mod"))
		base := path.Base(name)
		if name != "." && (ownModule == nil || strings.HasPrefix(base, ".") || slices.Contains([]string{"bin", "target", "rmq-data"}, base)) {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestImportsPointDownwards(t *testing.T) {
	floor := floors()
	for _, f := range sourceFiles(t) {
		if f.pkg == "" {
			continue
		}
		mine, known := floor[f.pkg]
		if !known {
			t.Errorf("%s: package %s has no floor", f, f.pkg)
			continue
		}
		for _, imported := range f.imports {
			target, ours := strings.CutPrefix(imported, "rmq/")
			if !ours || target == f.pkg {
				continue
			}
			theirs, known := floor[target]
			if known && (theirs < mine || theirs == mine && slices.Contains(siblings(), f.pkg+" > "+target)) {
				continue
			}
			t.Errorf("%s (floor %d) imports %s (floor %d)", f, mine, target, theirs)
		}
	}
}

// TestStoreAndRaftlogNeverMeet: they are joined in cmd/rmq, by two interfaces; a test of either may not shorten the way.
func TestStoreAndRaftlogNeverMeet(t *testing.T) {
	for _, f := range sourceFiles(t) {
		for _, imported := range f.imports {
			if f.pkg == "store" && strings.HasPrefix(imported, "rmq/raftlog") || strings.HasPrefix(f.pkg, "raftlog") && strings.HasPrefix(imported, "rmq/store") ||
				f.pkg == "store" && strings.Contains(imported, "hashicorp/raft") {
				t.Errorf("%s imports %s", f, imported)
			}
		}
	}
}

func TestPackagesAreNamedForWhatTheyOwn(t *testing.T) {
	for _, f := range sourceFiles(t) {
		for part := range strings.SplitSeq(f.pkg, "/") {
			if slices.Contains([]string{"pkg", "common", "util", "utils", "internal", "helpers"}, part) {
				t.Errorf("%s: no package is named %s", f, part)
			}
		}
	}
}

// TestServerRunsNoPrograms: a setting must never lead to a command line. `rmq dev --processes`, which is no server, runs
// this program again.
func TestServerRunsNoPrograms(t *testing.T) {
	for _, f := range sourceFiles(t) {
		if !f.test && f.path != "cmd/rmq/dev_processes.go" && !strings.HasPrefix(f.pkg, "bench") && slices.Contains(f.imports, "os/exec") {
			t.Errorf("%s imports os/exec", f)
		}
	}
}

func TestNoInitFunctions(t *testing.T) {
	for _, f := range sourceFiles(t) {
		for _, decl := range f.syntax.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s has an init function", f)
			}
		}
	}
}

// TestTestsDoNotSleep: a test waits for a condition or drives a clock.
func TestTestsDoNotSleep(t *testing.T) {
	for _, f := range sourceFiles(t) {
		if !f.test {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Sleep" && fmt.Sprint(s.X) == "time" {
				t.Errorf("%s calls time.Sleep", f)
			}
			return true
		})
	}
}

// TestNoMachinePaths: nothing in the repository knows where somebody's copy of it lies.
func TestNoMachinePaths(t *testing.T) {
	roots := []string{"/wo" + "rk/", "/ro" + "ot/"}
	walk(t, func(name string) {
		info, err := os.Stat(name)
		if err != nil || !info.Mode().IsRegular() || info.Size() > 1<<20 {
			return
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, root := range roots {
			if i := strings.Index(string(text), root); i >= 0 {
				t.Errorf("%s holds the path %q", name, string(text[i:min(i+40, len(text))]))
			}
		}
	})
}
