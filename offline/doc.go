// Package offline works the queue of offline events: changes that a Bitrix24 portal keeps until an
// application fetches them. A portal sends online deliveries once and never again. With the queue,
// nothing is lost while the application is down, and no public address is needed.
//
//	mux := event.NewMux()
//	event.On(mux, event.OnCrmDealUpdate, func(ctx context.Context, d *event.Delivery, e event.CRMEntity) error {
//		deal, err := event.Fetch[Deal](ctx, portals.Coalescer(d.MemberID()), d) // with up to 49 others in one request
//		if err != nil {
//			return err // event.ErrGone, for a deal that was deleted meanwhile, ends the record
//		}
//		return save(ctx, deal)
//	})
//	api := portals.Portal(memberID) // a client of package rest, with an administrator's token
//	if err := event.NewAPI(api).Reconcile(ctx, mux.OfflineBindings("")); err != nil {
//		return err
//	}
//	consumer, err := offline.NewConsumer(api, mux)
//	if err != nil {
//		return err
//	}
//	return consumer.Run(ctx)
//
// A [Consumer] works the queue of one portal. A [Fleet] works the queues of many portals in one
// process. [Queue] is for programs that work a queue in another way. A handler of
// [event.OnOfflineEvent], which a portal sends online, may call [Consumer.WakeFor] or
// [Fleet.WakeFor] to shorten the wait; neither type relies on it.
//
// # Guarantees
//
// At least once. A record leaves the queue after its handler succeeded, and not before. A process
// that dies, or a portal that does not respond, makes the next start handle again what was finished
// since the last request that cleared records. That is five seconds' worth at most while the portal
// responds. Handlers must tolerate repetition. One that reads the object's present state does.
//
// A set, not a log. However often an object changes while its record waits, there is one record for
// its addition, one for all its updates and one for its deletion. Each says that something
// happened, not what. Read the object.
//
// Order. Records of one object (see [event.Delivery.Lane]) are handled one at a time, in the order
// of their last change, which the portal states to the second. Two cases leave this order: a parked
// record is tried later than newer ones, and while event.offline.list fails, the records of an
// earlier process come later than new ones. Records that are about no object have no order.
//
// Objects do not wait for each other. Up to [WithWorkers] objects are handled at the same time, and
// more records are reserved while handlers run. A record that waits for its next attempt blocks the
// later records of its object, and no worker. A slow handler blocks its object and one worker.
//
// # When records are reserved
//
// Records are reserved when for a second fewer objects were ready or running than there are
// workers, or as soon as everything is finished. While records are in work, reservations are half a
// second apart at least. After one that found less than it asked for, the next waits for the first
// time of [WithInterval] too, five seconds at most, unless everything is finished sooner. Nothing
// is reserved while all workers are busy. So if handlers of as many objects as there are workers
// never return, the queue stops. Handlers must return when their context ends; see
// [WithHandlerTimeout].
//
// Reservations begin with 50 records. They double up to [WithBatchSize] while they come back full
// and workers are free again within 10 seconds, and they are halved when that takes more than 20.
//
// An empty queue is asked again after 2 seconds, and then less and less often, up to once a minute
// ([WithInterval]).
//
// Memory is bounded. A consumer reserves nothing more while its records in work take more than 48
// MiB, three quarters of 64 MiB. Records that wait for another attempt or to be parked count. The
// records of a fleet share 256 MiB, and a portal may have at most three times what is free, so that
// one portal leaves some to the others. A usual record takes one or two KiB. At the bound the rest
// waits in the portal's queue. Handlers, acks and parked records go on. The bound is checked before
// a request is made, so what the request returns comes on top.
//
// # Failures
//
// A record whose handler fails is tried again after about 1, 2, 4, 8 and up to 30 seconds, or after
// the time that [event.Retry] names, however long. It is tried [WithMaxAttempts] times in all. What
// happens then depends on the last error:
//
//	event.Drop                        the record is cleared: Hooks.Dropped, Stats.Dropped
//	event.ErrGone                     the record is cleared: there is nothing left to do
//	event.ErrUnhandled                the record is parked at once: Stats.Unhandled
//	a panic, runtime.Goexit           the record is parked at once
//	another error that is permanent   the record is parked at once
//	out of attempts                   the record is parked
//	the record cannot be read         it is parked without an attempt: Record.Err
//
// An error is permanent if it has a method Permanent() bool that returns true. Errors of packages
// rest and oauth have this method, and so has the error of a payload without the ID of its object.
// If an error joins several, all of them must agree. The error of [event.Fetch] for a comment of
// the new task card, which no method reads, clears the record like ErrGone, with a warning in the
// log.
//
// [event.Drop] ends a record for good. Other permanent errors park it, because a later version of
// the program, or other rights, may make a difference. So may a handler for an event that has none:
// after a deployment that binds a new event, the old program may get its first records. The log
// names each of these events once, as an error. Register a handler with [event.Mux.Unhandled] to
// clear these records instead.
//
// # Parked records
//
// To park a record (dead letter) is to mark it with event.offline.error. Before that, the consumer
// makes sure that the reservation still holds it.
//
// Parked records are tried at each start, ten minutes after the last pass over them
// ([WithParkedInterval]), and if the program calls [Consumer.RetryParked] or [Fleet.RetryParked].
// A pass makes one attempt for each change, however many rows the portal has of it, and uses the
// newest row. When the handler succeeds, all rows of the change are cleared. When it fails, all but
// the newest are cleared. A pass uses a quarter of the workers at most, so parked records that hang
// do not delay others. A record that fails for a month is tried until the portal purges it.
//
// Parking has two side effects on the portal; see [Queue.Park]. It deletes the newer record of the
// same change, if there is one. And until the parked record is read again, the portal merges later
// changes of the same kind of that object into it, and no reservation sees them. So a parked record
// stands for all of them, and a handler that reads the object's present state misses none.
//
// # Recovery
//
// The consumer looks for records that are reserved and that it does not know: at each start, after
// a reservation whose response did not arrive, and every five minutes together with another
// request. It handles them before newer ones. This needs nothing on disk, and works on every plan.
//
// It calls event.offline.list for that. If this method fails while others work, only what needs it
// waits: the records of an earlier process, the parking of records, and parked records. New records
// are handled meanwhile. [Consumer.Drain] does not end before the method works again. See
// [StallNoList].
//
// # One consumer for each queue
//
// An application has one queue on each portal for each connector. If two consumers of one queue
// share no [Leaser], they take each other's reservations for those of a process that died. They
// handle records twice, at the same time, and neither the order nor the number of attempts holds.
//
// A record can also be lost then, see "What can be lost". The consumer looks for this after it has
// parked records. If a record is not among the parked ones, another consumer has cleared it, and
// parking has deleted the newer record of its change: its handler runs once more.
//
// # Leases
//
// Processes that share a [Leaser] work a queue one at a time; see [WithLeaser]. A consumer has one
// lease. A fleet divides its portals into 256 shards with a lease each, and every process of the
// fleet holds an equal part.
//
// A lease is renewed five times in its time to live ([WithLeaseTTL], 15 seconds). It counts as lost
// a tenth of that time before the store grants it to others. The time is measured by the wall clock
// and by the monotonic clock, and the earlier end counts. So a process that slept, or whose leaser
// hangs, stops in time. When a lease is lost, the contexts of running handlers end with the cause
// [ErrLeaseLost], in every phase: also while a consumer stops, or while a shard passes to another
// process. Finished records are cleared, and none is parked. Only a handler that goes on although
// its context has ended can overlap with another process's.
//
// When a process starts or ends, shards move within seconds. After one died, they move within about
// twenty seconds. A handler that goes on although its context
// has ended keeps its own portal from moving, and its shard with it. The process goes on with the
// other portals of that shard and hands over another shard instead.
//
// A wake-up for a queue that another process works is passed on through the leaser, within about
// four seconds. [Fleet.RetryParked] is not.
//
// # Identity
//
// The names of leases and of spool folders hold the application, the portal and the connector, so
// several applications may share a [Leaser] and a folder, and never take each other's records. A
// [Consumer] learns the application and the portal from its caller, if that has the methods
// ClientID() string and MemberID() string, as the clients of package rest have, or else from
// [WithClientID] and [WithMemberID]. With [WithLeaser] or [WithSpool] it must know both. A [Fleet]
// then needs [WithClientID].
//
// The deliveries that handlers get carry the proof [event.ProofCall], with the application and the
// portal. [event.AttemptOf] returns the number of the attempt, and whether the record was parked.
//
// # Plans that cannot reserve
//
// Reservations need the feature rest_offline_extended of the portal's plan. Without it a consumer
// ends with [ErrExtendedModeRequired], after it has finished what was reserved before. With
// [WithSpool] it logs a warning and reads with deletion instead, which works on every plan. It
// writes each response to the spool and syncs it before it handles a record of it. Every hour it
// tries to reserve again, because plans change.
//
// A spool holds up to 100,000 records that are not finished; parked ones do not count. If the disk
// fails, records that could not be written are handled from memory, no more are taken from the
// portal, and the log and [StallNoDisk] report it. The disk is tried again until it works.
//
// # Loops
//
// An application that changes the objects it listens to receives its own changes, and may respond
// with others, forever. For offline events, the portal hides from a binding what the application
// itself writes with the binding's connector:
//
//   - A write without auth_connector makes no record for a binding without a connector, and one for
//     each binding with a connector.
//   - A write with auth_connector A makes no record for the binding with connector A, and one for
//     bindings with another or none.
//   - Writes of people, of robots, imports and other applications, and through webhooks always make
//     records.
//
// So an application with one integration needs no connector, and its own changes stay hidden. One
// with several gives each a connector ([WithConnector], and auth_connector with its writes), if the
// plan has the feature rest_auth_connector. Changes that are written in another way, for example
// through a webhook, come back. Then write with the application's token, or compare before you
// write, or let a technical user write and name that user in [WithIgnoredUsers]. Online events are
// not hidden at all.
//
// # Requests
//
// A portal allows 2 requests a second, shared by all applications at one address. The request that
// reserves records also clears finished ones, and looks for the records of earlier processes, for
// parked records and for the backlog. So a reservation costs one request, and one more for each
// five seconds that its records take; parking costs two. If the portal refuses batches, the calls
// are made one by one. With 500 records in a reservation, this is a hundredth of a request for
// each. With their objects, fetched through rest.Coalescer, it is three hundredths.
//
// # Many portals
//
// A [Fleet] works the queues of many portals with a bounded number of requests and handlers at a
// time. It keeps portals that are slow, fail or have much to do from delaying others; see the type.
// An empty queue is asked after 10 seconds, and then less and less often, up to once in five
// minutes. If that is too rare, bind [event.OnOfflineEvent] and call [Fleet.WakeFor] from its
// handler.
//
// Package offlinetest has tests for your own implementation of [Leaser].
//
// # Observation
//
// [Consumer.Stats] and [Fleet.Stats] count what happened. [WithHooks] reports it as it happens. A
// [Stall] is a portal that goes on failing, a queue that stays empty for longer than it should, a
// list that fails, or a disk that cannot be written; see [WithStallAlert].
//
// WARN and ERROR go to slog.Default unless [WithLogger] sets a logger. Parked and lost records and
// stalls are ERROR; portals that fail, dropped records and lost leases are WARN. Retries and
// recovered records are INFO. Lines about a portal have the attribute member_id, if it is known,
// those about a record also event, record_id and message_id. Errors and logs of this package hold
// no payload and no address. The text of a handler's error is logged, with tokens removed.
//
// # What can be lost
//
//   - Records that are older than about 34 days. The portal purges them, also reserved and parked
//     ones.
//   - Changes while the application is not installed completely or not paid for. The portal makes
//     no records of them.
//   - The application's own changes; see "Loops".
//   - Records of ignored users, and what was merged into them; see [WithIgnoredUsers].
//   - Records that a handler ends with [event.Drop] or [event.ErrGone].
//   - On a plan that cannot reserve: a response that does not arrive; records that the disk could
//     not take and that are not finished when the process stops or dies; and what cannot be read in
//     a damaged file of the spool.
//   - With two consumers of one queue that share no leaser: a change whose record one of them parks
//     just after the other has cleared it. This deletes the record of a newer change. The handler
//     runs once more (see "One consumer for each queue"), unless the process dies before that. If
//     all attempts fail, nothing is left to park: Hooks.Dropped, Stats.Dropped.
//   - What [Queue.Pop] returned and the program did not finish.
//
// # Concurrency
//
// [Queue] is safe for concurrent use if its caller is, [Consumer] and [Fleet] always. Their zero
// values are not usable. The file docs/dispatch.md of the module shows how the parts fit together.
//
// # Errors
//
//	ErrExtendedModeRequired  the plan cannot reserve records
//	ErrConnectorRefused      the plan has no connectors
//	ErrAccessDenied          the token is not an administrator's
//	ErrWrongAuthType         the call came through an incoming webhook
//	ErrBadResponse           a response is not what the method's documentation says
//	ErrConfig                NewQueue, NewConsumer, NewFleet: arguments or options that make no sense
//	ErrProcessID             refused before calling: no reservation is named
//	ErrNothingNamed          refused before calling: no record is named
//	ErrMessageID             refused before calling: not 32 characters
//	ErrRecordID              refused before calling: not positive
//	ErrLimit                 refused before calling: a limit below 1
//	ErrFilter                refused before calling: the portal would refuse the filter or misread it
//	ErrMemberID              no portal was named to a fleet
//	ErrRunning               Run or Drain was called while one of them was under way
//	ErrStopped               cause of a handler's context: the grace period is over
//	ErrLeaseHeld             Drain: another process works the queue
//	ErrLeaseLost             cause of contexts: the lease was lost
//	ErrSpool                 the spool cannot be used, or records are lost because it could not be written
//	ErrSpoolOwner            the spool's folder is another queue's, or an older version's
//	ErrSpoolInUse            another process has records in the spool
//	ErrIdentity              the caller belongs to another application or portal
//	others                   the caller's errors, wrapped
package offline
