// Package b24events is the Go SDK for Bitrix24 events. It holds no code of its own; its packages do
// the work:
//
//   - [github.com/b24events/b24events/event]: deliveries, the catalogue of typed events, the mux,
//     and the event.* methods
//   - [github.com/b24events/b24events/webhook]: an http.Handler that verifies, queues, acknowledges
//     and processes
//   - [github.com/b24events/b24events/oauth]: installations, verified and stored, and their tokens,
//     refreshed
//   - [github.com/b24events/b24events/rest]: calls to a portal, with typed errors
//   - [github.com/b24events/b24events/offline]: the offline queue and a consumer that works it
//   - [github.com/b24events/b24events/polling]: events of bots in fetch mode and of messenger users
//   - [github.com/b24events/b24events/event/eventtest]: a Bitrix24 portal for tests
//
// Start with the README, or with go run ./examples/quickstart.
package b24events
