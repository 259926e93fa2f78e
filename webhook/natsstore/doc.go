// Package natsstore keeps the queue of package webhook in streams of NATS JetStream, for programs
// that run as several replicas. It needs nats-server 2.9 or later. 2.10 or later is better; see
// below.
//
//	nc, err := nats.Connect(url,
//		nats.MaxReconnects(-1), nats.ReconnectWait(250*time.Millisecond), nats.FlusherTimeout(5*time.Second),
//		nats.PingInterval(5*time.Second), nats.MaxPingsOutstanding(2))
//	if err != nil {
//		return err
//	}
//	store, err := natsstore.New(ctx, nc)
//	if err != nil {
//		return err
//	}
//	h, err := webhook.NewHandler(verifier, mux, webhook.WithStore(store))
//	if err != nil {
//		return err
//	}
//	…
//	err = errors.Join(server.Shutdown(ctx), h.Shutdown(ctx), store.Close()) // in this order
//	nc.Close()
//
// A connection gives up after two minutes without a server unless it has MaxReconnects(-1): then
// every method returns [ErrClosed] until the program is restarted. The ping options find a server
// that hangs within 15 seconds instead of 6 minutes.
//
// # What survives
//
// Commit returns when the server has acknowledged everything. By default a server acknowledges when
// the operating system has the data, and syncs its files every two minutes (sync_interval). So a
// delivery that was answered with 200 is there after this:
//
//	                                         sync_interval: 2m (default)  sync_interval: always
//	a replica is killed or crashes           yes                          yes
//	the server is killed (kill -9) or stops  yes                          yes
//	the power of the server fails            all but the last 2 minutes   yes
//	the disk of the server is lost           no                           no
//
// The last two lines of the table are what the server documents; the tests of this package cannot
// cut the power. Against a power failure, set this in the configuration of a server 2.10 or later:
//
//	jetstream { store_dir: "/var/lib/nats", sync_interval: always }
//
// That is about ten times slower, because each record and each delete is a sync of its own. A
// client cannot read this setting, so the package cannot check it. The monitoring port of the
// server shows it as sync_always under /jsz?config=1.
//
// With [WithReplicas](3) the servers of a cluster keep three copies, and one server may fail. Each
// server still syncs every two minutes, so a power failure of all of them at once loses as much.
// The tests kill the servers of a cluster one after the other. They do not partition its network.
//
// When the connection breaks, Commit waits until it is back and repeats what the server did not
// acknowledge. So a restart of the server loses no delivery, and refuses none if it is shorter than
// the enqueue timeout of the Handler. Feeds continue by themselves then.
//
// Servers before 2.10 lose deletes when they are killed, but not when they are stopped: up to 8 MiB
// of settled records come back. The process that settled them recognizes the last 16,000 of them,
// and deletes them again. Others are handled twice. On every version, a power failure has that
// effect for the last two minutes. Discarded parked records may come back in the same way.
//
// Servers before 2.10 also pass records over now and then, when they were asked for the records of
// a partition after many deletes. A Feed notices that within five seconds, and reads all partitions
// once.
//
// # Order
//
// The stream decides the order. Records of one Commit are published in their order without waiting
// for each other. If the connection broke in the middle, so that a later record was stored before
// an earlier one, Commit returns an error: the Handler refuses those deliveries.
//
// # The streams are tables
//
// Records that are done are deleted by their sequence. Nothing is acknowledged to a consumer, and
// nothing depends on one: a Feed reads through an ephemeral consumer from the beginning, and a
// process that takes over a partition makes its own. That takes about a second for 100,000 records.
//
//	stream            subjects                       holds
//	B24EVENTS         B24EVENTS.in.32.PARTITION      pending records
//	B24EVENTS-marks   B24EVENTS.mark.PARTITION.ID    counters of pending records
//	B24EVENTS-parked  B24EVENTS.parked.PARTITION.ID  parked records
//	B24EVENTS-done    B24EVENTS.done.PARTITION.ID    records that are done, with WithKeep
//	B24EVENTS-leases  B24EVENTS.lease.NAME and       leases of partitions, and
//	                  B24EVENTS.clock                the clock of the server
//
// New makes them. It refuses existing streams with a setting that would lose records or their
// order, for example another retention than limits, discard old, memory storage or max_age. It
// never changes such a setting. To look at the streams:
//
//	nats stream report
//	nats stream view B24EVENTS-parked
//
// 32 is the number of partitions. A store keeps the number that it was made with. To change it,
// wait until the store is empty, stop all processes and delete the streams.
//
// To archive a record, the store first writes it to the archive and then deletes it from the
// pending records. After a crash in between it is in both streams. It is not handled again: a Feed
// compares older records with the archive, and deletes those that are in it. The archive holds a
// record once.
//
// # Limits
//
// The server holds a message of at most max_payload, 1 MB by default. A record with more than that,
// less 4 KB for headers, is rejected; raise max_payload if your portals send more. [WithMaxPending]
// and [WithMaxBytes] bound the pending records. Only the disk and the limits of the account bound
// parked records, so alert on [webhook.Depth].
//
// The server keeps in memory the IDs of the records of the last 30 seconds, and the subject of each
// parked or kept record, about 150 bytes each.
//
// # Leases
//
// A Store is a [webhook.Leaser], so the Handlers of several processes share the partitions without
// another option. A lease uses the clock of the server, and begins when the server stores it. So a
// process with a wrong clock neither steals nor loses leases. In a cluster, the clocks of the
// servers must agree to a fraction of a lease, because another server may become the leader of the
// stream. [Store.Fence] returns a number that grows with each owner, so that handlers can fence
// their writes elsewhere.
//
// # Permissions
//
// The user of the connection needs these, with the name of the store in place of B24EVENTS. STREAM
// stands for each of the five streams.
//
//	publish: B24EVENTS.>
//	publish: $JS.API.STREAM.INFO.STREAM
//	publish: $JS.API.STREAM.MSG.GET.STREAM
//	publish: $JS.API.STREAM.MSG.DELETE.STREAM
//	publish: $JS.API.CONSUMER.CREATE.STREAM.>
//	publish: $JS.API.CONSUMER.INFO.STREAM.*
//	publish: $JS.API.CONSUMER.MSG.NEXT.STREAM.*
//	publish: $JS.API.CONSUMER.DELETE.STREAM.*
//	subscribe: _INBOX.>
//
// New also needs $JS.API.STREAM.CREATE.STREAM if a stream does not exist, and
// $JS.API.STREAM.UPDATE.STREAM if an option changes a limit. A server does not respond to a request
// that is not allowed; methods then fail with an error that mentions permissions. A user who may
// publish to B24EVENTS.in can make the program handle events that no portal sent.
//
// # Errors
//
//	ErrConfig        New and methods: arguments, options or a stream are invalid
//	ErrClosed        methods: the store or its connection was closed
//	ErrDisconnected  methods: the connection broke, or did not come back in time
//	ErrNoStream      methods: a stream was deleted; later Feeds use it if it was made again
//	ErrNotArchived   List: the record to list after is no longer archived
//	ErrNotHeld       Fence: the owner does not hold the lease
//
// Commit and Replay also return webhook.ErrQueueFull. Errors show codes and texts of the server,
// which name streams and limits, and nothing that is stored.
package natsstore
