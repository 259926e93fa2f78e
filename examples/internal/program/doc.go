// Package program holds what the example programs share: settings from flags and variables, signals
// and exit codes, the log, and an application's access to its portals. It uses the public packages
// only; copy from it what a program of your own needs.
package program
