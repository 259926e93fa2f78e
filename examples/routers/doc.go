// Package routers shows a [webhook.Handler] in five routers: net/http, chi, gin, echo and fiber.
//
// Each router has one file to copy. It mounts the handler, takes the path parameter of the tenant
// and the ID of the request along, and has the middleware that applications usually have. [Serve]
// is the same for all: it runs a server and stops everything in the order that loses nothing.
package routers
