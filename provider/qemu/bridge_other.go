//go:build !linux

package qemu

import (
	"context"
	"errors"
	"os"
)

// bridges says that hostctl can make bridges on this system. What follows is
// never called.
const bridges = false

func mayBridge() bool { return false }

func ensureBridge(hostBridge) error                             { return errors.ErrUnsupported }
func removeBridge(string, string) error                         { return nil }
func hostBridges() (map[string]bool, error)                     { return nil, nil }
func replug(string, string) error                               { return errors.ErrUnsupported }
func openTap(context.Context, string, string) (*os.File, error) { return nil, errors.ErrUnsupported }
func openMacvtap(string, string, string) (*os.File, error)      { return nil, errors.ErrUnsupported }
func removeMacvtap(string) error                                { return errors.ErrUnsupported }
func hasFileCapabilities(string) bool                           { return false }
