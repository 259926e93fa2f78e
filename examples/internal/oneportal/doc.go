// Package oneportal holds what the example programs for one portal share beyond package program:
// access to the portal, and the folder for the state of its queue. Copy what your own program
// needs. Besides the public packages it uses internal/filelock, three short files that you can copy
// too.
package oneportal
