package webhook

// These mutants of the durable queue were tried. The list names the tests that fail for each: at
// most two unit tests, and TestStoreModel if it fails within 400 schedules, or within 1,500 if no
// other test failed. If you add a rule, see its mutant caught and add it here. The hostile and
// guard tests do not run with the race detector.
//
//   - acknowledged before the commit: TestGuardRequestsAtTheEnd, TestHostileCommitThatExits,
//     TestStoreModel
//   - marks are settled before the commit: TestHostileRemovalOfAPostponedDelivery, TestStoreModel
//   - marks are settled although the commit failed: TestStoreModel
//   - stale marks are committed: TestGuardCountersNeverFall
//   - that a record was handled is stale, too: TestDoneAfterTheLease
//   - marks that failed are tried again all together: TestHostileHealthWhenOutcomesAreNotStored
//   - marks stay few after one was stored: TestMarksAfterAFailure
//   - a mark that failed replaces a newer one: TestMarkThatIsOutOfDate
//   - one mark that fails does not rest: TestGuardLastMarks, TestMarkThatFailsRests
//   - marks that failed have as long as deliveries: TestHostileMarkThatHangs
//   - what the store rejected is acknowledged: TestRejectedRecord
//   - a closed journal ends at once: TestGuardLastMarks
//   - marks under way do not count as left: TestMarkUnderWayAtTheEnd
//   - marks that failed with records count as failing alone: TestMarkBesidesADelivery
//   - a record that is in memory is taken again: TestGuardStaleRecord,
//     TestHostileOrderAfterTakeBack, TestStoreModel
//   - what was left in the store is not remembered: TestHostilePortalThatFoundNoRoom,
//     TestStoreModel
//   - records are taken although one before was left: TestStoreModel
//   - an attempt that this process ended counts as interrupted: TestHostileLostLeasesAreNoCrashes
//   - suspects are not alone: TestPoison
//   - parked after six interruptions: TestHostileInterruptedIsReported, TestPoison
//   - a removal does not count for what is fed later: TestHostileRemovalOfWhatIsNotInMemory,
//     TestRemovalKeepsWhatIsNotInMemoryAndNewer
//   - a removal counts for what was fired later: TestRemovalKeepsWhatIsNotInMemoryAndNewer
//   - new records do not wait for handlers of an earlier tenure:
//     TestRemovalKeepsApplicationEventsThatWait
//   - what waits has the order in which it came: TestHostileOrderAfterTakeBack,
//     TestHostileOrderAfterALostLease
//   - application events have no more room than others: TestRoomBesidesAFullMemory
//   - a removal drops application events that wait: TestRemovalKeepsApplicationEventsThatWait
//   - what ends of an earlier tenure is not counted down: TestHostileWaitingIsFlushedAfterARemoval,
//     TestHostileOrderAfterALostLease, TestStoreModel
//   - a record that was cut is not handed on: TestHostileOrderAfterTakeBack,
//     TestHostileOrderAfterALostLease
//   - what is handed on has no attempts: TestWhatEndsAfterTheNextFeedPassedIt
//   - what was settled is not remembered: TestGuardStaleRecord, TestHostileBacklogIsReadAgain
//   - a record that was forgotten after its pass is not fed again:
//     TestWhatEndsAfterTheNextFeedPassedIt
//   - nothing of the store is marked before a recovered record begins:
//     TestGuardCountersOfAnAttempt, TestHostileRemovalOfAPostponedDelivery
//   - an attempt that begins is not counted: TestGuardCountersOfAnAttempt, TestPoison
//   - a suspect that hangs holds up the others for ever: TestHostileSuspectThatHangs
//   - two suspects at a time: TestSuspectsOneByOne
//   - a handler begins without a lease: TestStoreModel
//   - a handler begins after its context ended: TestHostileHandlerBeginsAfterShutdown
//   - a cut gives up the lock in between: TestHostileOrderAfterALostLease
//   - what runs at the end of a tenure is not counted: TestHostileRemovalBehindAHandler,
//     TestHostileOrderAfterALostLease
//   - room in memory restarts the feed of its own partition only: TestRoomFromAnotherPartition
//   - what was left is not forgotten when the feed begins anew: TestHostilePortalThatFoundNoRoom,
//     TestStoreModel
//   - an envelope is not bound to the partition: TestSealedRecordIsBound
//   - an envelope is not bound to the name: TestSealedRecordIsBound
//   - an envelope is not bound to the portal: TestHostileSwappedData
//
// These were tried with unit tests only:
//
//   - an envelope is not bound to the time: TestSealedRecordIsBound
//   - an unknown version is read: TestUnknownRecordsAreParked
//   - an unknown form is read: TestUnknownRecordsAreParked
//   - a removal is not remembered: TestHostileRemovalOfWhatIsNotInMemory,
//     TestRemovalKeepsWhatIsNotInMemoryAndNewer
//   - a removal counts for a new installation: TestHostileInstalledAgain
//   - unreadable records have no more room than others: TestRoomBesidesAFullMemory
//   - application events have room without a bound: TestRoomBesidesAFullMemory
//   - nothing is fed anew when a portal has nothing left: TestPortalGoesOnThoughMarksFail
//   - a transaction is not finished if the handler does not begin:
//     TestTransactionOfAHandlerThatDoesNotBegin
//   - a feed that only waits for new records is left alone: TestNewRecordsThatFoundNoRoom
//   - a feed that works again is not noticed: TestHealthOfAFeed
//   - a record that comes does not mean that the feed works: TestHealthOfAFeed
