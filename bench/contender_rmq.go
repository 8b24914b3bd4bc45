package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// rmq is the rmq of a given executable, by default the one that runs the comparison.
type rmq struct {
	program string
	text    string // first line of its version output; set by prepare
}

func (m *rmq) name() string    { return "rmq" }
func (m *rmq) version() string { return m.text }

func (m *rmq) prepare(ctx context.Context) error {
	if m.program == "" {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		m.program = self
	}
	if _, err := os.Stat(m.program); err != nil {
		return fmt.Errorf("bench: rmq executable: %w", err)
	}
	m.text = "rmq, " + runtime.Version()
	if out, err := exec.CommandContext(ctx, m.program, "version").Output(); err == nil {
		m.text, _, _ = strings.Cut(string(out), "\n")
	}
	return nil
}

func (m *rmq) command(r role, _, configFile string) (string, []string) {
	return m.program, []string{string(r), "-c", configFile}
}
