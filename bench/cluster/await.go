package cluster

import (
	"context"
	"fmt"
	"time"
)

// awaitPause is how long Await waits before it asks again.
const awaitPause = 10 * time.Millisecond

// Await calls met until it returns nil, or ctx ends; then it returns met's last error.
func Await(ctx context.Context, met func(ctx context.Context) error) error {
	for {
		err := met(ctx)
		if err == nil {
			return nil
		}
		if !pause(ctx, awaitPause) {
			return fmt.Errorf("%w (waited in vain: %w)", err, context.Cause(ctx))
		}
	}
}

// pause waits and reports whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
