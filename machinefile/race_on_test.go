//go:build race

package machinefile

const raceDetector = true
