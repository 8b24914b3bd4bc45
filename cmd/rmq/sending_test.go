package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// sending is an rmq send that runs while a test does something else.
type sending struct {
	t    *testing.T
	feed *io.PipeWriter
	out  lockedBuffer
	done chan string
}

func startSending(t *testing.T, names string) *sending {
	in, feed := io.Pipe()
	s := &sending{t: t, feed: feed, done: make(chan string, 1)}
	go func() {
		var errs bytes.Buffer
		env := environment{stdin: in, stdout: &s.out, stderr: &errs, getenv: func(string) string { return "" }}
		code := dispatch(t.Context(), env, []string{"send", "-n", names, "-t", "T"})
		in.Close()
		s.done <- fmt.Sprintf("code %d: %s%s", code, lastLine(s.out.String()), errs.String())
	}()
	t.Cleanup(func() { feed.Close() })
	return s
}

// pass feeds messages, at most 1,000 a second.
func (s *sending) pass(n int) {
	for i := range n {
		if _, err := fmt.Fprintf(s.feed, "message %d\n", i); err != nil {
			s.t.Error(err)
			return
		}
		<-time.After(time.Millisecond)
	}
}

// end ends the input: every message must have been acknowledged.
func (s *sending) end() {
	s.t.Helper()
	s.feed.Close()
	if got := <-s.done; !strings.HasPrefix(got, "code 0") || !strings.Contains(got, " 0 failed") {
		s.t.Errorf("send ended with %s", got)
	}
}
