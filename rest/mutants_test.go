package rest

// Mutants of the code that schedules and classifies calls, and the tests that catch each: at most
// two tests, and TestLimiterModel if it fails within 400 schedules. If you add a rule, add its
// mutant here, after you have seen a test catch it.
//
// The limiter:
//
//   - a call that leaves keeps its place: TestCancelledCrowd, TestLimitAndDeadline,
//     TestLimiterModel
//   - the place of a call that leaves late is lost: TestPlaceGoesToTheNextAtOnce,
//     TestPlaceOfOneThatLeavesLate
//   - a place that comes free wakes nobody: TestPlaceGoesToTheNextAtOnce
//   - a place that is given back wakes nobody: TestAllPausedInAGroup
//   - a place is not given back: TestAllPausedInAGroup
//   - a place of before a refusal is given back: TestPlaceOfOneThatLeavesLate
//   - a place that has drained is given back: TestLeaveGivesBackOnce,
//     TestPlaceOfOneThatLeavesLate
//   - a place that has partly drained is given back whole: TestPlaceThatHasPartlyDrained
//   - a call that was refused gets a new ticket: TestNobodyOvertakes, TestLimiterModel
//   - a call that was refused goes to the tail: TestNobodyOvertakes, TestLimiterModel
//   - deadlines are compared as if nobody was ahead: TestDeadlinesInALine, TestLimiterModel
//   - what is said of a turn ignores those ahead: TestGroupedCallBehindOthers
//   - a call that comes back postpones nobody: TestLimiterModel
//   - calls that are postponed have the same turn: TestLimiterModel
//   - calls with a deadline are not counted: TestDeadlinesInALine, TestLimiterModel
//   - later is not called when a turn is delayed: TestGroupedCallBehindARefusal
//   - each refusal of one moment counts: TestLimiterModel
//   - refusals are counted for ever: TestStrikes
//   - refusals in a row make no longer pauses: TestRefusalsWithoutEnd, TestStrikes
//   - pauses have no bound: TestStrikes
//   - a refusal leaves the bucket as it is: TestRefusalDrainsTheBucket,
//     TestRefusalHoldsAllCallsOfThePortal, TestLimiterModel
//   - a refusal fails nobody for whom it is too late: TestLimiterModel
//   - the next call is not woken: TestStatsOfThoseWhoWait
//   - a burst of one more: TestDeadlinesInALine, TestLimitAndDeadline
//   - idle time is saved up: TestLeaveGivesBackOnce, TestPlaceOfOneThatLeavesLate,
//     TestLimiterModel
//   - a call whose context ended at its turn is sent: TestTurnOfACallThatHasEnded
//   - a call whose context ended before it came takes a place: TestTurnOfACallThatHasEnded
//   - a call that is too late is sent: TestDeadlinesInALine, TestLimiterModel
//   - the timer of an empty line stays: TestLimiterModel
//   - buckets that drain slowly are forgotten: TestSlowBucketsAreRemembered
//   - refusals are forgotten with an idle line: TestIdlePortalsAreForgotten
//   - idle portals are kept: TestIdlePortalsAreForgotten
//   - refusals do not reach the limiter: TestRefusalDrainsTheBucket,
//     TestRefusalHoldsAllCallsOfThePortal
//
// Pauses of methods:
//
//   - the earlier end of two counts: TestLaterEndOfAPauseCounts, TestPauseThatGrows
//   - the last end of two counts: TestLaterEndOfAPauseCounts
//   - an end has no bound: TestOperatingTimeLimit
//   - an end that has passed counts: TestBlockedTwice, TestOperatingTimeLimit
//   - counts that are low are kept: TestPausesAreForgotten
//   - the reset of a response is not kept: TestOperatingTimeLimit, TestPausesAreForgotten
//   - the reset of a command's response is not kept: TestOperatingTimeInABatch
//   - a command that is blocked pauses nothing: TestOperatingTimeInABatch
//   - methods in another case are others: TestOperatingTimeLimit
//   - a pause is of all portals: TestOperatingTimeLimit
//   - a call does not wait for a pause that grew: TestPauseThatGrows
//   - pauses that go on are forgotten: TestPausesThatGoOnAreRemembered
//   - resets to come are forgotten: TestPausesThatGoOnAreRemembered
//   - pauses are kept for ever: TestPausesAreForgotten
//
// What errors say:
//
//   - NotRun forgets an attempt before: TestSecondAttemptNotSent,
//     TestSecondRequestOfABatch
//   - doubt ends with an attempt that did not run: TestSecondAttemptNotSent
//   - NotRun is false for 429: TestFrontEnds, TestRetryable
//   - NotRun is true for 503 without Retry-After: TestFrontEnds, TestRetryable
//   - NotRun is false for 503 with Retry-After: TestFrontEnds, TestForeignJSON
//   - codes are compared by case: TestRetryable
//   - any 503 asks to come later: TestRetryable
//   - a method that is blocked asks to come later: TestBlockedTwice, TestOperatingTimeLimit
//   - Retryable without NotRun: TestFrontEnds, TestRetryable
//   - Retryable after a request was written: TestFrontEnds, TestLostResponses
//   - Retryable after a permanent error of credentials: TestCredentialsFail
//   - Retryable has no bound: TestRetryableIsBounded
//   - Retryable is negative: TestRetryableIsBounded
//   - one of several errors is enough: TestFrontEnds, TestRetryableOfSeveral
//   - the wait of the last of several errors counts: TestRetryableOfSeveral
//   - a batch that partly ran is retryable: TestBatchThatPartlyRan,
//     TestSecondRequestOfABatch
//   - a batch that halted is not retryable: TestBatchThatDidNotRun
//   - Retry-After has no bound: TestRetryAfterOfHugeNumbers
//   - a Retry-After that is no int is ignored: TestRetryAfterOfHugeNumbers
//
// What is retried:
//
//   - calls that may have run: TestLostResponses, TestWhatIsRepeated
//   - calls that write, after any page of 503: TestFrontEnds, TestWhatIsRepeated
//   - calls that write, after failures of the portal: TestFrontEnds, TestWhatIsRepeated
//   - calls that are too late: TestLimitAndDeadline
//   - calls whose credentials fail: TestCredentialsFail
//   - calls that are blocked again after a pause: TestBlockedTwice, TestWhatIsRepeated
//   - not after CONNECTION_ERROR: TestLostResponses, TestWhatIsRepeated
//   - not within a batch, with a token that expired: TestRefusedInABatchAndMadeAgain
//   - the wait for a front end has no bound: TestFrontEnds, TestRetryAfterOfHugeNumbers
//   - the wait for a front end forgets those before: TestWaitsForFrontEndsAreBounded
//   - pages in a row cost the same wait: TestRefusalsWithoutEnd
//   - waits do not grow: TestBackoff
//   - a wait begins although the deadline is before its end: TestBackoff, TestOperatingTimeLimit
//   - a context that ended in a pause is a limit: TestPauseEndsWithTheContext
//
// The coalescer:
//
//   - a request outlives its callers: TestDeadlineOfAGroupedCall, TestGroupedCallThatMayHaveRun
//   - a request ends with its first caller: TestOneCallerLeaves, TestOneOfEqualReadsLeaves
//   - a group without callers takes calls: TestBatcherIsEmptyAfterwards
//   - a group that was not flushed takes calls: TestBatcherIsEmptyAfterwards, TestGoexit
//   - a caller leaves twice: TestCallerLeavesOnce
//   - a full group waits for its window: TestGroup
//   - methods that are paused join a group: TestPausedMethodsGoByThemselves
//   - methods that are paused are sent with others: TestAllPausedInAGroup,
//     TestPausedInAGroup
//   - calls join groups while batch is paused: TestBlockedBatch
//   - batches are sent while batch is paused: TestBlockedBatch
//   - a call that is left back waits for a second pause: TestWhatIsRepeated
//   - calls with retries of their own join a group: TestWhatIsRepeated
//   - large calls join a group: TestWhatGoesByItself
//   - texts that read like references join a group: TestTextsOfStrangersDoNotRefer,
//     TestWhatGoesByItself
//   - reads of a method are equal although their parameters differ: TestGroup
//   - a group holds one call more than a batch: TestGroup
//   - callers of equal reads share a response: TestResponsesOfEqualReadsAreApart
//   - a call that is refused within a batch for a reason that passes is final:
//     TestRefusedInABatchAndMadeAgain
//   - equal writes are made once: TestWritesAreNotJoinedIntoOne
//   - calls of callers that have left are sent: TestExpiredCallIsNotSent,
//     TestOneCallerLeaves
//   - the last call says whether a batch is idempotent: TestReadInAGroup
//   - writes are made again after a lost batch: TestFrontEnds, TestReadInAGroup
//   - a call that was retried in a batch is made again: TestErrorsOfTheWholeRequest
//   - a call that did not run is made again: TestNotMadeAgain
//   - a call that was sent alone is made again: TestTooLargeInAGroup
//   - a call without retries is made again: TestNotMadeAgain
//   - a response that is too large counts as a retry: TestTooLargeInAGroup
//   - a call that is made again forgets that it may have run: TestMadeAgainAndRefused
//   - a newcomer who is too late joins: TestDeadlineOfAGroupedCall
//   - callers who are too late wait: TestDeadlineOfAGroupedCall,
//     TestExpiredCallIsNotSent
//   - callers for whom a refusal makes it too late wait: TestGroupedCallBehindARefusal
//   - callers for whom a repetition comes too late wait: TestDeadlineAfterSending
//   - the turn of a request is not kept: TestDeadlineOfAGroupedCall
//   - the error of a caller who is too late does not say that the call may have run:
//     TestGroupedCallThatMayHaveRun
//   - the error of a caller who leaves says that a running call did not run: TestOneCallerLeaves
//   - the error of a caller who leaves says that a call that was not sent may have run:
//     TestLeftBackAndGone
//   - a panic after the request was written says that it did not run: TestGoexitAfterSending
//   - a group that sends nothing keeps its place: TestAllPausedInAGroup
