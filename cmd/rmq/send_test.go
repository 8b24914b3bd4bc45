package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

// A signal ends a send whose input is still open, and that is not a success: lines may be left.
func TestInterruptedSendIsNoSuccess(t *testing.T) {
	in, feed := io.Pipe()
	defer feed.Close()
	ctx, cancel := context.WithCancel(t.Context())
	s := &sender{}
	ended := make(chan error, 1)
	go func() { ended <- s.sendLines(ctx, in) }()
	if _, err := io.WriteString(feed, "\n"); err != nil { // it reads; an empty line is no message
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, errInterrupted) {
		t.Errorf("ended with %v", err)
	}
	if err := s.sendLines(t.Context(), strings.NewReader("\n\n")); err != nil {
		t.Errorf("an input without a message: %v", err)
	}
	if err := s.sendLines(t.Context(), strings.NewReader(strings.Repeat("x", bodyBytesMax+2))); err == nil || !strings.Contains(err.Error(), "4194304") {
		t.Errorf("a line over the limit: %v", err)
	}
}
