package raftlog

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

func TestRaftLinesReachSlog(t *testing.T) {
	var out bytes.Buffer
	base := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo}))
	var l hclog.Logger = &raftLogger{out: base}
	l = l.Named("raft").Named("net").With("peer", "node1")
	l.Error("failed to contact", "servers", hclog.Fmt("%d of %d", 1, 3))
	l.Warn("election timeout reached")
	l.Info("entering follower state")
	got := out.String()
	for _, want := range []string{`level=ERROR msg="failed to contact" peer=node1 servers="1 of 3"`, `level=INFO msg="election timeout reached"`} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	if strings.Contains(got, "follower state") {
		t.Errorf("a normal turn is logged:\n%s", got)
	}
	if l.Name() != "raft.net" || len(l.ImpliedArgs()) != 2 || l.IsDebug() || l.IsInfo() || !l.IsWarn() || !l.IsError() || l.GetLevel() != hclog.Warn {
		t.Errorf("name %q, args %v, level %v", l.Name(), l.ImpliedArgs(), l.GetLevel())
	}
}
