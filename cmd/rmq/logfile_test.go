package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestClassicLines(t *testing.T) {
	var out bytes.Buffer
	handler := newClassicHandler(&out, slog.LevelInfo)
	at := time.Date(2026, 2, 3, 4, 5, 6, 789, time.Local)
	write := func(h slog.Handler, level slog.Level, message string, args ...any) string {
		t.Helper()
		out.Reset()
		r := slog.NewRecord(at, level, message, 0)
		r.Add(args...)
		if err := h.Handle(context.Background(), r); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	boot := "The broker[broker-a, 10.0.0.1:10911] boot success. serializeType=JSON"
	tests := []struct{ got, want string }{
		{write(handler, slog.LevelInfo, boot), "2026-02-03 04:05:06 INFO main - " + boot + "\n"},
		{write(handler, slog.LevelWarn, "m", "a", 1, "b", "two words"), `2026-02-03 04:05:06 WARN main - m a=1 b="two words"` + "\n"},
		{write(handler, slog.LevelError, "m", "component", "raft log", "err", io.EOF), "2026-02-03 04:05:06 ERROR raft-log - m err=EOF\n"},
		{write(handler.WithAttrs([]slog.Attr{slog.String("component", "store"), slog.Int("k", 2)}), slog.LevelDebug, "m", "d", time.Second), "2026-02-03 04:05:06 DEBUG store - m k=2 d=1s\n"},
		{write(handler.WithGroup("g").WithAttrs([]slog.Attr{slog.Int("a", 1)}), slog.LevelInfo, "m", slog.Group("h", "b", 2), "component", "x"), "2026-02-03 04:05:06 INFO main - m g.a=1 g.h.b=2 g.component=x\n"},
		{write(handler, slog.LevelInfo, "two\nlines\x1b[31m", "v", "a\nb", "empty", ""), `2026-02-03 04:05:06 INFO main - two\nlines\x1b[31m v=a\nb empty=""` + "\n"},
	}
	for _, test := range tests {
		if test.got != test.want {
			t.Errorf("got  %swant %s", test.got, test.want)
		}
	}
	if handler.Enabled(context.Background(), slog.LevelDebug) || !handler.Enabled(context.Background(), slog.LevelWarn) {
		t.Error("the level is not observed")
	}
}

func TestOpenRoleLogWritesFileAndConsole(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		name string
		env  func(string) string
		path string
	}{
		{"home", propertyEnv("HOME=" + dir), filepath.Join(dir, "logs", "rocketmqlogs", "broker.log")},
		{"directory", propertyEnv("ROCKETMQ_LOG_DIR=" + filepath.Join(dir, "other")), filepath.Join(dir, "other", "broker.log")},
		{"user.home", propertyEnv("JAVA_OPT=-Duser.home=" + filepath.Join(dir, "java")), filepath.Join(dir, "java", "logs", "rocketmqlogs", "broker.log")},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var console bytes.Buffer
			log, closer, err := OpenRoleLog(test.env, "broker.log", slog.LevelInfo, slog.NewTextHandler(&console, nil))
			if err != nil {
				t.Fatal(err)
			}
			log.Info("boot success")
			if err := closer.Close(); err != nil {
				t.Fatal(err)
			}
			if err := closer.Close(); err != nil {
				t.Errorf("closing twice: %v", err)
			}
			log.Info("after close")
			text, err := os.ReadFile(test.path)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(string(text), " INFO main - boot success\n") {
				t.Errorf("got %q", text)
			}
			if !strings.Contains(console.String(), "boot success") || !strings.Contains(console.String(), "after close") {
				t.Errorf("console got %q", console.String())
			}
		})
	}
}

func TestOpenRoleLogGoesOnWithoutAFile(t *testing.T) {
	blocked := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(blocked, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, env := range []func(string) string{propertyEnv("HOME="), propertyEnv("ROCKETMQ_LOG_DIR=" + filepath.Join(blocked, "logs"))} {
		var console bytes.Buffer
		log, closer, err := OpenRoleLog(env, "broker.log", slog.LevelInfo, slog.NewTextHandler(&console, nil))
		if err == nil {
			t.Error("no error")
		}
		log.Info("still here")
		if !strings.Contains(console.String(), "still here") {
			t.Errorf("console got %q", console.String())
		}
		if err := closer.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestRotationKeepsABoundedNumberOfFiles(t *testing.T) {
	dir := t.TempDir()
	f, err := openRotatingFile(dir, "broker.log", 40, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range 20 {
		if _, err := fmt.Fprintf(f, "line %02d 4567890\n", i); err != nil { // 16 bytes: two a file
			t.Fatal(err)
		}
	}
	want := map[string]string{"broker.log": "18 19", "otherdays/broker.1.log": "16 17", "otherdays/broker.2.log": "14 15", "otherdays/broker.3.log": "12 13"}
	for name, lines := range want {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		var numbers []string
		for line := range strings.Lines(string(text)) {
			numbers = append(numbers, line[5:7])
		}
		if got := strings.Join(numbers, " "); got != lines {
			t.Errorf("%s holds %s, want %s", name, got, lines)
		}
	}
	if old, err := os.ReadDir(filepath.Join(dir, "otherdays")); err != nil || len(old) != 3 {
		t.Errorf("%d old files, %v", len(old), err)
	}
}

// TestTwoProcessesShareAFile: the second writer stands for another process.
func TestTwoProcessesShareAFile(t *testing.T) {
	dir := t.TempDir()
	const lines = 400
	var writers sync.WaitGroup
	for w := range 2 {
		f, err := openRotatingFile(dir, "broker.log", 1000, 50)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		writers.Go(func() {
			for i := range lines {
				if _, err := fmt.Fprintf(f, "writer %d line %03d\n", w, i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	found := 0
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		for line := range strings.Lines(string(text)) {
			if len(line) != len("writer 0 line 000\n") || !strings.HasPrefix(line, "writer ") {
				t.Errorf("torn line %q", line)
			}
			found++
		}
		return err
	})
	if err != nil || found != 2*lines {
		t.Errorf("%d lines, want %d: %v", found, 2*lines, err)
	}
}

func TestLogSurvivesTruncation(t *testing.T) {
	dir := t.TempDir()
	f, err := openRotatingFile(dir, "broker.log", 100, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	line := strings.Repeat("x", 59) + "\n"
	for range 2 {
		if _, err := io.WriteString(f, line); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(filepath.Join(dir, "broker.log"), 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "otherdays", "broker.1.log")); err == nil {
		t.Error("an emptied file was moved aside")
	}
}
