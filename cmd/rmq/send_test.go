package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"rmq/compat/admin"
	"rmq/remoting/protocol"
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

// A message that fewer replicas have than were asked for is stored: the statuses of stock clients, no failure.
func TestSendStatuses(t *testing.T) {
	for code, want := range map[int32]string{
		protocol.Success: "SEND_OK", protocol.FlushDiskTimeout: "FLUSH_DISK_TIMEOUT", protocol.SlaveNotAvailable: "SLAVE_NOT_AVAILABLE",
		protocol.FlushSlaveTimeout: "FLUSH_SLAVE_TIMEOUT", protocol.ServiceNotAvailable: "",
	} {
		var out, errs strings.Builder
		s := &sender{topic: "T", out: &out, errors: &errs}
		h := protocol.SendMessageResponseHeader{MsgID: "x", QueueID: 1, QueueOffset: 2}
		s.acknowledged(admin.Queue{Broker: "broker-a", ID: 1}, &protocol.Command{Code: code, Ext: h.AppendFields(nil)}, nil)
		if got, _, _ := strings.Cut(out.String(), " "); got != want || (s.failed.Load() == 0) != (want != "") {
			t.Errorf("code %d: printed %q and %q, %d failed", code, out.String(), errs.String(), s.failed.Load())
		}
	}
}
