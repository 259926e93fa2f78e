package event

import "context"

// Caller calls a REST method of one portal with an application's token. The clients of package rest
// fit; for another REST library write an adapter of ten lines.
//
// params is nil, a map[string]any that may nest maps and slices, or [Params], whose order must be
// kept. Call decodes the envelope's result member, as JSON, into result, a pointer, or discards it
// if result is nil. An error from the portal should have the methods of [CallError], so that
// this package can tell "already bound" from a failure. If it has a method NotRun() bool, true says
// that the call surely did nothing; package offline then knows that no record was reserved.
type Caller interface {
	Call(ctx context.Context, method string, params, result any) error
}

// CallError is what this package looks for, with errors.As, in an error of a [Caller].
type CallError interface {
	error
	ErrorCode() string        // the portal's error member, such as ERROR_CORE
	ErrorDescription() string // the portal's error_description member
}
