package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/golden"
	"github.com/hostctl/hostctl/internal/lifecycle"
	"github.com/hostctl/hostctl/provider"
)

// The plan as it is read.
func TestPlanText(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	a := newApp([]string{"hostctl"}, streams{strings.NewReader(""), &stdout, &stderr}, nil)
	a.flags.output = "text"
	err := a.showPlan([]lifecycle.MachinePlan{
		{Name: "core-01", State: provider.Running, Action: lifecycle.NoAction, Declared: true},
		{Name: "core-02", State: provider.Stopped, Action: lifecycle.StartAction, Declared: true},
		{Name: "core-03", State: provider.Stopped, Action: lifecycle.StartAction, Declared: true, Changes: []lifecycle.Change{
			{Field: "cpus", From: "1", To: "2", Takes: lifecycle.StartAction},
		}},
		{Name: "core-04", State: provider.Running, Action: lifecycle.RestartAction, Declared: true, Changes: []lifecycle.Change{
			{Field: "memory", From: "1GiB", To: "2GiB", Takes: lifecycle.RestartAction},
			{Field: "accel", To: "tcg", Takes: lifecycle.RestartAction},
			{Field: "forward web", To: "127.0.0.1:8080 -> 80/tcp", Takes: lifecycle.UpdateAction},
		}},
		{Name: "core-05", State: provider.Running, Action: lifecycle.ReplaceAction, Declared: true, Changes: []lifecycle.Change{
			{Field: "image", From: "flatcar stable", To: "flatcar beta", Takes: lifecycle.ReplaceAction},
			{Field: "network dev", From: "172.28.8.101 in 172.28.8.0/24", Takes: lifecycle.ReplaceAction},
		}},
		{Name: "core-06", State: lifecycle.NotCreated, Action: lifecycle.CreateAction, Declared: true, Changes: []lifecycle.Change{
			{Field: "machine", To: "flatcar beta, 2 cpus, 1GiB, disk of 20GiB", Takes: lifecycle.CreateAction},
		}},
		{Name: "old-01", State: provider.Running, Action: lifecycle.NoAction},
	})
	if err != nil {
		t.Fatal(err)
	}
	golden.Equal(t, "plan.golden", stdout.String()+"\n"+stderr.String())
}
