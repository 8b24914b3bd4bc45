package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A lone broker whose machine is lost for good may not be founded anew elsewhere until the name server is told to forget its group.
func TestGroupIsForgotten(t *testing.T) {
	home := t.TempDir()
	_, names := startNames(t, home)
	p := startProcess(t, home, "broker", "-n", names, "-c", brokerFile(t, home, "broker-a", freePorts(t)))
	p.waitLine("boot success")
	eventually(t, "the name server has heard who is in the group", func() bool {
		text, err := os.ReadFile(filepath.Join(home, "namesrv", "groups.json"))
		return err == nil && strings.Contains(string(text), "report")
	})
	p.kill()
	elsewhere := t.TempDir()
	file := brokerFile(t, elsewhere, "broker-a", freePorts(t))
	p = startProcess(t, home, "broker", "-n", names, "-c", file)
	p.waitLine("waits for")
	p.kill()
	out := tool(t, 0, "forget", "-n", names, "-c", "DefaultCluster", "-b", "broker-a")
	if !strings.Contains(out, "EMPTY") || !strings.Contains(out, names+" has forgotten broker-a") {
		t.Errorf("printed %q", out)
	}
	p = startProcess(t, home, "broker", "-n", names, "-c", file)
	p.waitLine("boot success")
	if out := tool(t, 1, "forget", "-n", "127.0.0.1:1", "-c", "DefaultCluster", "-b", "broker-a"); !strings.Contains(out, "127.0.0.1:1") {
		t.Errorf("printed %q", out)
	}
}
