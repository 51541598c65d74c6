package agent

import (
	"context"
	"sync"
)

// background runs fn beside everything else until ctx ends or stop is called,
// which waits for it.
func background(ctx context.Context, fn func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var runs sync.WaitGroup
	runs.Go(func() { fn(ctx) })
	return func() {
		cancel()
		runs.Wait()
	}
}
