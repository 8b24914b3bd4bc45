package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Sizes of the log files of one role: at most logFilesKept old files of about logBytesMax each beside the current one.
const (
	logBytesMax  = 64 << 20
	logFilesKept = 10
)

// OpenRoleLog returns a logger that writes the classic log file name ("broker.log", "namesrv.log") in the directory
// logDirectory(env) and hands every record to console as well; level applies to the file, console has its own. The file
// is rotated by size into the directory otherdays beside it, and bounded.
//
// If the file cannot be opened, the logger writes to console only and err says why: a warning, not a reason to stop.
// closer is never nil; it closes the file, after which records reach console only.
func OpenRoleLog(env func(string) string, name string, level slog.Leveler, console slog.Handler) (log *slog.Logger, closer io.Closer, err error) {
	dir, err := logDirectory(env)
	if err != nil {
		return slog.New(console), noFile{}, err
	}
	file, err := openRotatingFile(dir, name, logBytesMax, logFilesKept)
	if err != nil {
		return slog.New(console), noFile{}, err
	}
	return slog.New(slog.NewMultiHandler(console, newClassicHandler(file, level))), file, nil
}

// logDirectory is $ROCKETMQ_LOG_DIR, else logs/rocketmqlogs under the home directory.
func logDirectory(env func(string) string) (string, error) {
	env = withJavaOptions(env)
	if dir := env("ROCKETMQ_LOG_DIR"); dir != "" {
		return dir, nil
	}
	home := env("HOME")
	if home == "" {
		return "", errors.New("neither ROCKETMQ_LOG_DIR nor HOME is set: there is no log file")
	}
	return filepath.Join(home, "logs", "rocketmqlogs"), nil
}

type noFile struct{}

func (noFile) Close() error { return nil }

// classicHandler writes records as RocketMQ's log files have them, one line each:
//
//	2006-01-02 15:04:05 INFO main - message key=value
//
// The word before the hyphen, a thread name there, is the value of the attribute "component", else main. Control
// characters are escaped, so that a record never spans lines.
type classicHandler struct {
	out       io.Writer // its Write is called with whole lines, from any goroutine
	level     slog.Leveler
	component string
	attrs     string // " key=value" of every With
	prefix    string // of keys, from WithGroup
}

func newClassicHandler(out io.Writer, level slog.Leveler) *classicHandler {
	return &classicHandler{out: out, level: level}
}

// Enabled implements slog.Handler.
func (h *classicHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level.Level()
}

// Handle implements slog.Handler.
func (h *classicHandler) Handle(_ context.Context, r slog.Record) error {
	line := &classicHandler{component: h.component, attrs: h.attrs, prefix: h.prefix}
	r.Attrs(func(a slog.Attr) bool { line.add(a); return true })
	_, err := fmt.Fprintf(h.out, "%s %s %s - %s%s\n", r.Time.Format("2006-01-02 15:04:05"), r.Level, cmp.Or(line.component, "main"), oneLine(r.Message), line.attrs)
	return err
}

// WithAttrs implements slog.Handler.
func (h *classicHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	for _, a := range attrs {
		with.add(a)
	}
	return &with
}

// WithGroup implements slog.Handler.
func (h *classicHandler) WithGroup(name string) slog.Handler {
	with := *h
	if name != "" {
		with.prefix += name + "."
	}
	return &with
}

func (h *classicHandler) add(a slog.Attr) {
	value := a.Value.Resolve()
	switch {
	case a.Equal(slog.Attr{}):
	case a.Key == "component" && h.prefix == "":
		h.component = oneLine(strings.Join(strings.Fields(value.String()), "-"))
	case value.Kind() == slog.KindGroup:
		outer := h.prefix
		if a.Key != "" {
			h.prefix += a.Key + "."
		}
		for _, inner := range value.Group() {
			h.add(inner)
		}
		h.prefix = outer
	default:
		text := oneLine(value.String())
		if text == "" || strings.ContainsAny(text, " =\"") {
			text = strconv.Quote(value.String())
		}
		h.attrs += " " + h.prefix + a.Key + "=" + text
	}
}

// oneLine escapes what would break a line or move a terminal's cursor.
func oneLine(s string) string {
	if !strings.ContainsFunc(s, control) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if control(r) {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func control(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 }

// rotatingFile is an append-only file that moves aside when it grows beyond a size. Several processes may write the same
// file: each line is one write, and whoever finds the file moved by another reopens it.
type rotatingFile struct {
	path     string
	old      string // format of the names of old files, numbered from 1 = youngest
	bytesMax int64
	kept     int

	mu   sync.Mutex
	file *os.File // nil after Close
	size int64    // at least what this process knows of
}

func openRotatingFile(dir, name string, bytesMax int64, kept int) (*rotatingFile, error) {
	stem := strings.TrimSuffix(name, filepath.Ext(name))
	f := &rotatingFile{
		path:     filepath.Join(dir, name),
		old:      filepath.Join(dir, "otherdays", stem+".%d"+filepath.Ext(name)),
		bytesMax: bytesMax,
		kept:     kept,
	}
	if err := os.MkdirAll(filepath.Dir(f.old), 0o755); err != nil {
		return nil, fmt.Errorf("log file: %w", err)
	}
	return f, f.open()
}

// Write appends line, rotating first if it would not fit. After Close it drops the line.
func (f *rotatingFile) Write(line []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return 0, os.ErrClosed
	}
	var rotated error
	if f.size+int64(len(line)) > f.bytesMax {
		rotated = f.rotate()
	}
	n, err := f.file.Write(line)
	f.size += int64(n)
	return n, errors.Join(rotated, err)
}

// Close closes the file; it is safe to call twice.
func (f *rotatingFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	f.file = nil
	return err
}

// rotate moves the file aside and opens a new one, while no other process does so. If that fails it goes on with the one
// it has.
func (f *rotatingFile) rotate() error {
	dir, err := os.Open(filepath.Dir(f.old))
	if err != nil {
		return err
	}
	defer dir.Close() // gives the lock back
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", dir.Name(), err)
	}
	mine, err := f.file.Stat()
	if err != nil {
		return err
	}
	current, err := os.Stat(f.path)
	// Another process may have moved the file, or cut it short; then there is nothing to move.
	if err == nil && os.SameFile(mine, current) && mine.Size() >= f.size {
		if err := f.moveAside(); err != nil {
			return err
		}
	}
	full := f.file
	if err := f.open(); err != nil {
		return err
	}
	return full.Close()
}

// moveAside renames the file to number 1 after every old file went up by one; the oldest is overwritten.
func (f *rotatingFile) moveAside() error {
	for n := f.kept - 1; n >= 1; n-- {
		err := os.Rename(fmt.Sprintf(f.old, n), fmt.Sprintf(f.old, n+1))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return os.Rename(f.path, fmt.Sprintf(f.old, 1))
}

// open opens the file for appending; on failure f keeps the file it has.
func (f *rotatingFile) open() error {
	file, err := os.OpenFile(f.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("log file: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	f.file, f.size = file, info.Size()
	return nil
}
