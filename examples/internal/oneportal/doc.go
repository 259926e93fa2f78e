// Package oneportal holds what the example programs for one portal share: settings from flags and variables, access to the portal, signals,
// and the folder for state. It uses the public packages only; copy from it what a program of your own needs.
package oneportal
