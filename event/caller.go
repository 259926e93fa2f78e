package event

import "context"

// Caller calls a REST method of one portal with an application's token. The clients of package rest
// implement it. For another REST library, write an adapter of ten lines.
//
// params is nil, a map[string]any that may nest maps and slices, or [Params], whose order must be
// kept. result is a pointer, into which Call decodes the result member of the response, or nil to
// discard it. An error that the portal returned should have the methods of [CallError], so that
// this package can distinguish "already bound" from a failure. If an error has a method NotRun()
// bool that returns true, the call certainly did nothing; package offline then knows that no record
// was reserved.
type Caller interface {
	Call(ctx context.Context, method string, params, result any) error
}

// CallError is an error that a portal returned to a [Caller]. This package finds it with errors.As.
type CallError interface {
	error
	ErrorCode() string        // the portal's error member, such as ERROR_CORE
	ErrorDescription() string // the portal's error_description member
}
