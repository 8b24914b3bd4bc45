package raftlog

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

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

// A peer that is away is spoken of once in a while, not at every heartbeat.
func TestLinesOfOnePeerDoNotRepeat(t *testing.T) {
	var out bytes.Buffer
	l := (&raftLogger{out: slog.New(slog.NewTextHandler(&out, nil)), said: &saidLines{}}).Named("raft")
	for range 3 {
		l.Error("failed to heartbeat to", "peer", "a:1", "backoff time", 1)
		l.Error("failed to heartbeat to", "peer", "b:1")
		l.Error("failed to take snapshot", "error", "x")
	}
	for text, want := range map[string]int{"a:1": 1, "b:1": 1, "snapshot": 3} {
		if n := strings.Count(out.String(), text); n != want {
			t.Errorf("%q is logged %d times, want %d", text, n, want)
		}
	}
	s := saidLines{when: map[string]time.Time{}}
	now := time.Now()
	args := []any{"peer", "a:1"}
	if s.again("m", args, now) || !s.again("m", args, now.Add(repeatAfter-1)) || s.again("m", args, now.Add(repeatAfter)) {
		t.Error("a line is not said again when its time has come")
	}
}
