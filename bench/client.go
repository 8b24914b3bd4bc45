package bench

import (
	"log/slog"

	"rmq/remoting"
)

// newClient makes a client with connections of its own. It dials when it is first used and again after a loss, so a
// broker that restarts during a run is found again. The requests that brokers send to consumers need no answer and are
// left alone.
func newClient() *remoting.Client {
	return remoting.NewClient(remoting.ClientOptions{Logger: slog.New(slog.DiscardHandler)})
}
