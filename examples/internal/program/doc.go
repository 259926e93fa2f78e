// Package program holds what the example programs share: settings from flags and variables, signals
// and exit codes, the log, and an application's access to its portals. It uses the public packages
// only, so copy what your own program needs.
package program
