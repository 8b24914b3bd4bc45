// Command gen writes the generated files of package protocol from table.txt. It is run by go generate in
// the package's directory.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := run("."); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// run reads dir/table.txt and writes the generated files into dir.
func run(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "table.txt"))
	if err != nil {
		return err
	}
	files, err := generate(text)
	if err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
