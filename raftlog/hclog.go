package raftlog

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// raftLogger gives Raft's lines to slog. Raft speaks of normal turns as Warn and Info; they go one level down, for the log of a
// healthy broker should be quiet. What Raft says of a peer that does not answer, several times a second, is said once in
// repeatAfter.
type raftLogger struct {
	out  *slog.Logger
	name string
	args []any
	said *saidLines // of all loggers made from one
}

const (
	repeatAfter  = 10 * time.Second
	saidLinesMax = 256 // kinds of lines that are remembered
)

// saidLines remembers when lines about peers were written.
type saidLines struct {
	mu   sync.Mutex
	when map[string]time.Time
}

// again reports whether a line about the same peer was written lately, and notes this one if not.
func (s *saidLines) again(msg string, args []any, now time.Time) bool {
	peer := ""
	for i := 0; i+1 < len(args); i += 2 {
		if key, ok := args[i].(string); ok && (key == "peer" || key == "server-id") {
			peer = fmt.Sprint(args[i+1])
		}
	}
	if peer == "" {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := msg + "\x00" + peer
	if last, ok := s.when[key]; ok && now.Sub(last) < repeatAfter {
		return true
	}
	if s.when == nil || len(s.when) >= saidLinesMax {
		s.when = make(map[string]time.Time)
	}
	s.when[key] = now
	return false
}

var _ hclog.Logger = (*raftLogger)(nil)

func slogLevel(l hclog.Level) slog.Level {
	switch l {
	case hclog.Error:
		return slog.LevelError
	case hclog.Warn:
		return slog.LevelInfo
	default:
		return slog.LevelDebug
	}
}

func (r *raftLogger) Log(level hclog.Level, msg string, args ...any) {
	l := slogLevel(level)
	if !r.out.Enabled(context.Background(), l) || r.said != nil && r.said.again(msg, args, time.Now()) {
		return
	}
	for i, a := range args {
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			if layout, ok := f[0].(string); ok {
				args[i] = fmt.Sprintf(layout, f[1:]...)
			}
		}
	}
	r.out.Log(context.Background(), l, msg, args...)
}

func (r *raftLogger) Trace(msg string, args ...any) { r.Log(hclog.Trace, msg, args...) }
func (r *raftLogger) Debug(msg string, args ...any) { r.Log(hclog.Debug, msg, args...) }
func (r *raftLogger) Info(msg string, args ...any)  { r.Log(hclog.Info, msg, args...) }
func (r *raftLogger) Warn(msg string, args ...any)  { r.Log(hclog.Warn, msg, args...) }
func (r *raftLogger) Error(msg string, args ...any) { r.Log(hclog.Error, msg, args...) }

func (r *raftLogger) enabled(l hclog.Level) bool {
	return r.out.Enabled(context.Background(), slogLevel(l))
}

func (r *raftLogger) IsTrace() bool { return r.enabled(hclog.Trace) }
func (r *raftLogger) IsDebug() bool { return r.enabled(hclog.Debug) }
func (r *raftLogger) IsInfo() bool  { return r.enabled(hclog.Info) }
func (r *raftLogger) IsWarn() bool  { return r.enabled(hclog.Warn) }
func (r *raftLogger) IsError() bool { return r.enabled(hclog.Error) }

func (r *raftLogger) ImpliedArgs() []any { return r.args }
func (r *raftLogger) Name() string       { return r.name }

func (r *raftLogger) With(args ...any) hclog.Logger {
	return &raftLogger{out: r.out.With(args...), name: r.name, said: r.said, args: append(r.args[:len(r.args):len(r.args)], args...)}
}

func (r *raftLogger) Named(name string) hclog.Logger {
	if r.name != "" {
		name = r.name + "." + name
	}
	return r.ResetNamed(name)
}

func (r *raftLogger) ResetNamed(name string) hclog.Logger {
	return &raftLogger{out: r.out, name: name, args: r.args, said: r.said}
}

// SetLevel does nothing: the level is slog's.
func (r *raftLogger) SetLevel(hclog.Level) {}

func (r *raftLogger) GetLevel() hclog.Level {
	for _, l := range []hclog.Level{hclog.Trace, hclog.Warn, hclog.Error} {
		if r.enabled(l) {
			return l
		}
	}
	return hclog.Off
}

func (r *raftLogger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return slog.NewLogLogger(r.out.Handler(), slog.LevelInfo)
}

func (r *raftLogger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer { return io.Discard }
