// Package dispatch decides which piece of work runs next. It keeps the order per object, the
// fairness between portals, the attempts and the counts for packages webhook and offline, which are
// its fronts. A front makes an [Item] of a delivery, and gets it back once: see [Front].
//
// # States of an item
//
//	                 no room            room
//	Enqueue ──┬─────────────▶ admitting ─────┐
//	          │ room                 │       │
//	Add ──────┴──────────────────────┼───────┴──▶ waiting ◀──────────── resting
//	                                 │            │  │  │  time is up       ▲
//	       no room in time, closed   │     merged │  │  │ its turn          │ retry
//	                                 ▼            │  │  ▼                   │
//	                              refused         │  │ running ─────────────┘
//	                                              │  │  │ done, unhandled, failed
//	                          portal removed, cut │  │  │
//	                                              ▼  ▼  ▼
//	                                             finished
//
// A refused item is the caller's again, and the front never sees it. Any other item is finished
// exactly once, with one [Outcome], and counted there. An item takes its place in its lane before
// it waits for room, so that order holds while the queue is full. While it waits for room it is
// neither merged nor counted. Only a removal of its portal, or the admission of the item in front
// of it, finishes it without room of its own.
//
// The front gets an item back while the item still holds its lane, its worker and its room. So a
// slow front slows the work down, and does no other harm.
//
// # Who runs next
//
// Items belong to a portal (of an application), and to a lane in it. A lane runs one item at a
// time, in order; an item that waits for its next attempt holds up its lane and nothing else. Items
// without a lane have no order.
//
// Urgent items, which are application events, have one lane for each portal, and workers of their
// own. All other items share [Config].Workers. If an item of a portal may start, the portal waits
// in one of three rings:
//
//   - A slow portal has had an item that ran for [SlowAfter]. It is slow until an item ends sooner,
//     [SlowFor] after the last that did not.
//   - A busy portal has a backlog: as many of its lanes are ready as it may run items at a time,
//     and at least two.
//   - All others are ordinary.
//
// A free worker goes to the rings in this order:
//
//	                Config.Urgent   Config.Workers
//	                ┌───────────┐   ┌───────────┬──────────┬─────────────────┐
//	                │           │   │ a quarter │ the rest │ up to SlowShare │
//	                └───────────┘   └───────────┴──────────┴─────────────────┘
//	urgent ring ──────▶ only
//	ordinary ring ────────────────────▶ second    ▶ first
//	busy ring ────────────────────────▶ first     ▶ second
//	slow ring ──────────────────────────────────────────────▶ only
//
// The portals of a ring take turns, and each runs the first items of its ready lanes. An ordinary
// portal runs one item in its turn. So portals with few events share the workers evenly, however
// many events each has.
//
// The turn of a busy or a slow portal goes on until as many items began as it may run at a time.
// Handlers that begin together can join their calls into a batch. If many portals with a backlog
// each began one item at a time, their handlers could not, and all of them would take longer. A
// turn ends early when no further item of the portal may start. A turn ends in the ring in which it
// began, even if the backlog is gone.
//
// Busy portals have a quarter of the workers that slow portals leave, and at least one. While fewer
// of their items run, they come before ordinary portals. Otherwise they come after them. Each side
// gets what the other does not need. So a backlog makes progress under any load, and it takes all
// workers when nothing else is ready. An ordinary portal then waits until the next item ends, and
// not behind the backlog. If slow portals leave one worker, it runs an ordinary portal's item and a
// busy portal's item in turn.
//
// Slow portals run up to [Config].SlowShare items. Other portals leave them the workers that they
// use within that share, and a few more while a slow portal waits. An item that has run for
// [SlowAfter] counts as one of a slow portal, up to [Config].Overflow. So slow portals delay each
// other, and other portals for a few seconds at most. An item that goes on long after its context
// has ended counts nowhere, and holds up its own portal only.
//
// No portal is slow or busy if SlowShare is as large as Workers. Then all take turns item by item.
//
// Workers are goroutines that start when there is something to do. A worker that has nothing to do
// for about a second ends.
//
// # Room
//
// An item holds room from its admission to its end. A portal may hold three quarters of the room.
// If several portals fill it, each gets an equal part and one part stays free: a portal is admitted
// while it holds no more than three times what is free. Portals that wait for room take turns as
// well, and the items of each keep their order. If a portal holds nothing and its item is no larger
// than the part that stays free, that item goes first; otherwise small items of other portals would
// keep it out. Urgent items have room of their own, and items of [Portal.Add] need none.
//
// # Concurrency
//
// All methods are safe for concurrent use. One lock guards everything, and it is never held while a
// front's method runs. A front may call the dispatcher from its methods, but must not wait there
// for something to finish.
package dispatch
