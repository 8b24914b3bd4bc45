package rmq_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"
)

//go:generate go test -run TestCompatibilityPageListsEveryRequest . -args -update

var update = flag.Bool("update", false, "rewrite the generated parts of the pages in docs")

const (
	compatibilityPage = "docs/compatibility.md"
	requestsBegin     = "<!-- request codes: begin; written by go generate -->\n"
	requestsEnd       = "<!-- request codes: end -->\n"
)

// TestCompatibilityPageListsEveryRequest compares the page's list with the requests that the source registers handlers
// for: what is not on it is answered with REQUEST_CODE_NOT_SUPPORTED.
func TestCompatibilityPageListsEveryRequest(t *testing.T) {
	page, err := os.ReadFile(compatibilityPage)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(page), requestsBegin)
	got, tail, closed := strings.Cut(rest, requestsEnd)
	if !ok || !closed {
		t.Fatalf("%s has no place for the request codes", compatibilityPage)
	}
	files := sourceFiles(t)
	codes := requestCodes(files)
	want := "\n| code | request | answered by |\n|---|---|---|\n"
	servers := map[string][]string{}
	for pkg, server := range map[string]string{"compat": "broker", "compat/namesrv": "name server"} {
		names := handledRequests(files, pkg, codes)
		if len(names) == 0 {
			t.Errorf("no request is handled in %s", pkg)
		}
		for _, name := range names {
			servers[name] = append(servers[name], server)
		}
	}
	names := make([]string, 0, len(servers))
	for name := range servers {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return int(codes[a] - codes[b]) })
	wireNames := requestNames(t)
	for _, name := range names {
		slices.Sort(servers[name])
		want += fmt.Sprintf("| %d | %s | %s |\n", codes[name], wireNames[fmt.Sprint(codes[name])], strings.Join(servers[name], ", "))
	}
	want += "\n"
	if got == want {
		return
	}
	if !*update {
		t.Fatalf("the request codes of %s are not current; run go generate .", compatibilityPage)
	}
	if err := os.WriteFile(compatibilityPage, []byte(head+requestsBegin+want+requestsEnd+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}

// requestCodes returns the constants of type RequestCode in remoting/protocol.
func requestCodes(files []sourceFile) map[string]int64 {
	codes := map[string]int64{}
	for _, f := range files {
		if f.pkg != "remoting/protocol" || f.test {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || fmt.Sprint(spec.Type) != "RequestCode" || len(spec.Values) != 1 {
				return true
			}
			if literal, ok := spec.Values[0].(*ast.BasicLit); ok {
				code, _ := constant.Int64Val(constant.MakeFromLiteral(literal.Value, token.INT, 0))
				codes[spec.Names[0].Name] = code
			}
			return true
		})
	}
	return codes
}

// handledRequests returns the request codes that a package gives a handler: the first arguments of calls of Handle, and of
// functions named handle that shorten them, and the second ones of handleLeading.
func handledRequests(files []sourceFile, pkg string, codes map[string]int64) []string {
	var names []string
	add := func(e ast.Expr) {
		if s, ok := e.(*ast.SelectorExpr); ok && fmt.Sprint(s.X) == "protocol" {
			if _, known := codes[s.Sel.Name]; known && !slices.Contains(names, s.Sel.Name) {
				names = append(names, s.Sel.Name)
			}
		}
	}
	for _, f := range files {
		if f.pkg != pkg || f.test {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			switch {
			case !ok:
			case len(call.Args) == 3 && strings.EqualFold(calledName(call), "handle"):
				add(call.Args[0])
			case len(call.Args) == 4 && calledName(call) == "handleLeading":
				add(call.Args[1])
			}
			return true
		})
	}
	return names
}

func calledName(call *ast.CallExpr) string {
	switch fn := call.Fun.(type) {
	case *ast.Ident:
		return fn.Name
	case *ast.SelectorExpr:
		return fn.Sel.Name
	}
	return ""
}

// requestNames returns RocketMQ's names of the request codes, from the table that the constants are generated from.
func requestNames(t *testing.T) map[string]string {
	t.Helper()
	table, err := os.ReadFile("remoting/protocol/table.txt")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	for line := range strings.Lines(string(table)) {
		if words := strings.Fields(line); len(words) >= 3 && words[0] == "request" {
			names[words[1]] = words[2]
		}
	}
	return names
}
