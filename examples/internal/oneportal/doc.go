// Package oneportal holds what the example programs for one portal share beyond package program: access to the portal, and the folder for the state
// of its queue. It uses the public packages only; copy from it what a program of your own needs.
package oneportal
