// Package offline works the queue of offline events: changes that a Bitrix24 portal keeps until an application fetches them. Online
// deliveries are sent once and never again; here nothing is lost while the application is down, and no public address is needed.
//
//	mux := event.NewMux()
//	event.On(mux, event.OnCrmDealUpdate, func(ctx context.Context, d *event.Delivery, e event.CRMEntity) error {
//		return sync(ctx, e.ID) // read the deal's present state and store it
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
// A handler of [event.OnOfflineEvent], online, may call [Consumer.Wake] to shorten the wait; the consumer does not rely on it. [Queue] is
// for programs that work the queue in another way.
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
// Recovery. At the start, and after a reservation whose answer did not arrive, the consumer looks for records that a reservation
// still holds and finishes them before it reserves others. Nothing is kept on disk for this. It cannot tell the reservations of a process
// that died from those of one that lives, hence:
//
// One consumer for each portal, application and connector. Two at a time lose nothing, but handle records twice and at the same time; keep
// their overlap in a deployment short.
//
// Failures. A handler's error is retried in place, after 1, 2, 4 … seconds or when [event.Retry] says, at most [WithMaxAttempts] times; its
// object and the rest of the reservation wait for it, and so does the next reservation, so ask for short delays. After that, and at once after
// [event.Drop], a panic, a payload that does not fit its type or a record that cannot be read, the record is parked with
// event.offline.error. Before it parks a record the consumer makes sure that the reservation still holds it.
//
// Parked records stay on the portal, where later changes of the same kind of the same object are merged into them unseen: see [Queue.Park].
// The consumer does not read them again; a program must, with [Queue.Failed], and finish them with [Queue.Clear].
//
// What can be lost: records that are older than about 34 days, which the portal purges, reserved or not; records of a portal whose
// application is not installed completely or not paid for, since none are written; the application's own changes, which the portal does not
// record for the connector that made them; and what [Queue.Take] read and the program then dropped.
//
// [Queue.Take] is the only way to read where the portal's plan cannot reserve records. The consumer then ends with [ErrExtendedModeRequired]
// and does not fall back to it, as a record that is deleted on reading has to be stored before it is handled.
//
// Requests. Each reservation costs two, its own and the clearing, plus one each five seconds that it takes; parking costs two more. A larger
// [WithBatchSize] spreads them over more records. The portal allows 2 requests a second, shared by all applications at one address.
//
// [Queue] is safe for concurrent use where its caller is, [Consumer] always. Their zero values are not usable. Nothing of a payload, and
// no address, gets into errors or logs of this package; what a handler's own error says is logged.
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
//	ErrRunning               the consumer is at work already
//	ErrStopped               cause of a handler's context that ended with the grace period
//	others                   the caller's errors, wrapped
package offline
