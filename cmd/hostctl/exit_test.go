package main

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/hint"
)

// A machine that failed before the interruption keeps its reason.
func TestOtherErrors(t *testing.T) {
	t.Parallel()
	stop := errors.New("interrupted")
	ended := errors.New("core-03: wait for SSH: the guest has stopped")
	for _, c := range []struct {
		name string
		err  error
		want []string
	}{
		{"only the interruption", fmt.Errorf("core-01: %w", stop), nil},
		{"all interrupted", errors.Join(fmt.Errorf("core-01: %w", stop), fmt.Errorf("core-02: %w", context.Canceled)), nil},
		{"one of three", hint.Wrap(errors.Join(nil, errors.Join(fmt.Errorf("core-01: %w", stop), ended)), "go on"), []string{ended.Error()}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, e := range otherErrors(c.err, stop) {
				got = append(got, e.Error())
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
