//go:build race

package dispatch

// usualSchedules is how many random schedules the suite runs with the race detector.
const usualSchedules = 400
