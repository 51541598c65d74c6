//go:build !linux

package proxy

import (
	"sync"
	"syscall"
)

// lot has room for no direction: each has a goroutine for as long as it lasts.
type lot struct{}

func newLot(*sync.WaitGroup) (*lot, error) { return &lot{}, nil }
func (l *lot) watch()                      {}
func (l *lot) takes(source) bool           { return false }
func (l *lot) park(*direction) bool        { return false }
func (l *lot) wake(*pair)                  {}
func (l *lot) close()                      {}

// convoy has none either.
type convoy struct{ tasks *sync.WaitGroup }

func (c *convoy) takes(*direction) syscall.RawConn { return nil }
func (c *convoy) join(*direction)                  {}
