//go:build !linux

package project_test

import (
	"errors"

	"github.com/hostctl/hostctl/internal/project"
)

func fill(string, project.Options) error { return errors.New("needs mount namespaces") }
