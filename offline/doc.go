// Package offline works the queue of offline events: changes that a Bitrix24 portal keeps until an application fetches them. Online
// deliveries are sent once and never again; here nothing is lost while the application is down, and no public address is needed.
//
//	mux := event.NewMux()
//	event.On(mux, event.OnCrmDealUpdate, func(ctx context.Context, d *event.Delivery, e event.CRMEntity) error {
//		deal, err := event.Fetch[Deal](ctx, portals.Coalescer(d.MemberID()), d) // leaves with up to 49 others, in one request
//		if err != nil {
//			return err // event.ErrGone, for a deal that was deleted meanwhile, counts as done with
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
// A handler of [event.OnOfflineEvent], online, may call [Consumer.WakeFor] to shorten the wait; the
// consumer does not rely on it. [Fleet] works the queues of many portals in one process. [Queue] is
// for programs that work a queue in another way.
//
// # Guarantees
//
// At least once. A record leaves the queue after its handler succeeded, and not before. A crash, or a clearing that the portal never got,
// makes the next start handle again what was finished since the last clearing: five seconds' worth at most, while the portal answers. Handlers
// must bear repetition; one that reads the object's present state does.
//
// A set, not a log. However often an object changed while its record waited, there is one record for its addition, one for all its
// updates and one for its deletion. Each says that something happened, not what: read the object.
//
// Order. Records of one object (see [event.Delivery.Entity]) are handled one after the other, in the order of their last change, which the
// portal tells to the second. Different objects are handled at the same time, up to [WithWorkers]. A record about no object that the
// catalogue knows has no order.
//
// Recovery. At the start, after a reservation whose answer did not arrive, and every five minutes (later where [WithInterval] lets the queue be
// asked more seldom), the consumer looks for records that a reservation
// holds and it does not know of, and finishes them before others, or at the same time. Nothing is kept on disk for this, and no plan
// is needed for it. It cannot tell the reservations of a process that died from those of one that lives, hence:
//
// One consumer for each portal, application and connector. Two at a time lose nothing, but handle records twice and at the same time. Give those
// that may overlap, as in a deployment, a [Leaser] that they share, see [WithLeaser]: then one works, and the others wait.
//
// # Identity
//
// A queue belongs to an application, on a portal, for a connector. The names of leases and of spool
// folders hold all three, so that several applications may share a [Leaser] and a folder, and never
// take each other's records. A [Consumer] learns the application and the portal from its caller,
// when that has methods ClientID() string and MemberID() string as the clients of package rest do,
// or else from [WithClientID] and [WithMemberID]. With [WithLeaser] or [WithSpool] it must know
// both; a [Fleet] then needs [WithClientID].
//
// The deliveries that handlers get carry the proof [event.ProofCall] with the application and the
// portal.
//
// # Failures
//
// A handler's error is retried after 1, 2, 4 … seconds or when [event.Retry] says, at most [WithMaxAttempts] times. Other records of the
// object wait for it; records of other objects do not. After that, and at once after [event.Drop], a panic, a payload that does not fit its
// type or a record that cannot be read, the record is parked with event.offline.error. Before it parks a record the consumer makes
// sure that the reservation still holds it.
//
// A record that no handler takes ([event.ErrUnhandled]) is parked as well, at once: after a
// deployment that binds a new event, the old program may meet the first records of it.
// [Stats].Unhandled counts them, and the log names each such event once, as an error. Register a
// handler with [event.Mux.Unhandled] to clear them instead.
//
// A handler's error that wraps [event.ErrGone] ends a record for good: there is nothing left to do.
// So does, with a warning, the error of [event.Fetch] for a comment of the new task card, which no
// method reads.
//
// Parked records are read again at each start and every ten minutes ([WithParkedInterval]), tried once, and cleared where the handler succeeds.
// This is not for the sake of that record alone. To park one deletes the newer record of the same change, if there is one, and as long
// as it is parked, the portal merges later changes of the same kind of the same object into it, where no reservation sees them: see
// [Queue.Park]. So the parked record stands for all of them, and a handler that reads the object's present state misses none. A record that
// fails for months is tried until the portal purges it.
//
// # Plans that cannot reserve
//
// To reserve, the portal's plan needs the feature rest_offline_extended. Without it a consumer with [WithSpool] says so once and reads with deletion,
// which works on every plan: each answer is written to the spool and synced before a record of it is handled, and removed from
// there when that is done. What the portal deleted and whose answer was lost is lost. Whether the plan has changed is looked at each hour.
// A consumer without a spool ends with [ErrExtendedModeRequired], after it has finished what was reserved before.
//
// # Loops
//
// An application that writes to what it listens to hears its own writes, and may answer them with others, forever. For offline events the portal
// hides from a binding what the application itself writes under the binding's connector:
//
//   - A write without auth_connector makes no record for a binding without a connector, and one for each binding with a connector.
//   - A write with auth_connector A makes no record for the binding with connector A, and one for bindings with another or none.
//   - Writes of people, of robots, imports and other applications, and through webhooks always make records.
//
// So an application with one integration needs no connector, and its own changes stay hidden. One with several gives each a connector
// ([WithConnector], and auth_connector with its writes), where the plan has the feature rest_auth_connector. What is written in another way, with a
// webhook for one, comes back: write with the application's token, compare what is there before you write, or let the writes come from a user of
// their own and name it in [WithIgnoredUsers]. Online events are not hidden at all.
//
// # Requests
//
// The portal allows 2 requests a second, shared by all applications at one address. What was finished is cleared in the same request that
// reserves the next records, and looks for what is abandoned, parked or waiting join it too, as one batch: each reservation costs one request,
// plus one each five seconds that it takes, and two where records are parked. Where no batch can be made, the calls are made one by one.
// Reservations begin with 50 records and grow to [WithBatchSize] while they come back full. With 500 records, this is a hundredth of a
// request for each; with their objects, fetched through rest.Coalescer, three hundredths.
//
// An empty queue is asked after 2 seconds, and then less and less often, up to once a minute ([WithInterval]).
//
// # Many portals
//
// [Fleet] works the queues of many portals in a bounded number of turns, and keeps portals that are
// slow, fail or have much to do from delaying others. An empty queue is asked after 10 seconds, and
// then less and less often, up to once in five minutes: bind [event.OnOfflineEvent], and call
// [Fleet.WakeFor] from its handler, where that is too rare. Processes that share a [Leaser] divide
// the portals among themselves, hand them over as processes come and go, and take over from one
// that dies within twenty seconds or so. Package offlinetest has the tests that a leaser of one's
// own must pass.
//
// # Observation
//
// [Consumer.Stats] counts, and tells the lag and what waits; [WithHooks] reports the same as it happens. A portal that goes on failing, or
// a queue that stays empty for longer than it should, is a [Silence]: see [WithSilence].
//
// # What can be lost
//
// Records that are older than about 34 days, which the portal purges, reserved or not; records of a portal whose application is not installed
// completely or not paid for, since none are written; the application's own changes, as said above; records of ignored users, and what was
// merged into them; on a plan that cannot reserve, an answer that does not arrive; and what [Queue.Take] read and the program then dropped.
//
// [Queue] is safe for concurrent use where its caller is, [Consumer] and [Fleet] always. Their zero values are not usable. Nothing of a payload,
// and no address, gets into errors or logs of this package; what a handler's own error says is logged.
//
// # Errors
//
//	ErrExtendedModeRequired  the plan cannot reserve records
//	ErrConnectorRefused      the plan has no connectors
//	ErrAccessDenied          the token is not an administrator's
//	ErrWrongAuthType         the call came through an incoming webhook
//	ErrBadAnswer             the portal, or the caller, does not do what the method's documentation says
//	ErrProcessID             refused before calling: no reservation is named
//	ErrNothingNamed          refused before calling: no record is named
//	ErrMessageID             refused before calling: not 32 characters
//	ErrRecordID              refused before calling: not positive
//	ErrLimit                 refused before calling: less than one record asked for
//	ErrFilter                refused before calling: the portal would refuse the filter or misread it
//	ErrMemberID              no portal was named to a fleet
//	ErrRunning               the consumer, or the fleet, is at work already
//	ErrStopped               cause of a handler's context that ended with the grace period
//	ErrLeaseHeld             another process works the queue
//	ErrLeaseLost             cause of contexts that ended because the lease did
//	ErrSpool                 the spool's folder cannot be used, or records were lost because it could not be written
//	ErrSpoolOwner            the spool's folder is another queue's, or an older version's
//	ErrIdentity              the caller belongs to another application or portal
//	ErrSpoolInUse            another process works with the spool
//	others                   the caller's errors, wrapped
package offline
