//go:build !race

package dispatch

// usualSchedules is how many random schedules the suite runs.
const usualSchedules = 10_000
