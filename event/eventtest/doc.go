// Package eventtest is a Bitrix24 portal for tests and programs, in this process and on loopback: REST with the event.* and event.offline.* methods, an
// OAuth server, the queue server that posts events to handlers, the offline queue, and the objects whose changes raise events.
package eventtest
