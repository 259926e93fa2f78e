package rest

// Mutants of what schedules and classifies calls that were tried, and what catches each: tests that
// fail, two of them if there are more, and whether TestLimiterModel fails within 400 schedules.
// Whoever adds a rule adds its mutant here, after having seen it caught.
//
// The limiter:
//
//   - a call that leaves keeps its place: TestCancelledCrowd, TestLimitAndDeadline,
//     TestLimiterModel
//   - the place of a call that leaves late is lost: TestPlaceGoesToTheNextAtOnce,
//     TestPlaceOfOneThatLeavesLate
//   - a place that comes free wakes nobody: TestPlaceGoesToTheNextAtOnce
//   - a place that is given back wakes nobody: TestHostileAllPausedInAGathering
//   - a place is not given back: TestHostileAllPausedInAGathering
//   - a place of before a refusal is given back: TestPlaceOfOneThatLeavesLate
//   - a place that has drained is given back: TestHostileLeaveGivesBackOnce,
//     TestPlaceOfOneThatLeavesLate
//   - a place that has partly drained is given back whole: TestPlaceThatHasPartlyDrained
//   - a call that was refused gets a new ticket: TestNobodyOvertakes, TestLimiterModel
//   - a call that was refused goes to the tail: TestNobodyOvertakes, TestLimiterModel
//   - deadlines are compared as if nobody was ahead: TestDeadlinesInALine, TestLimiterModel
//   - what is said of a turn ignores those ahead: TestGatheredCallBehindOthers
//   - a call that comes back postpones nobody: TestLimiterModel
//   - calls that are postponed have the same turn: TestLimiterModel
//   - calls with a deadline are not counted: TestDeadlinesInALine, TestLimiterModel
//   - those who want to know of later turns are not told: TestGatheredCallBehindARefusal
//   - each refusal of one moment counts: TestLimiterModel
//   - refusals are counted for ever: TestStrikes
//   - refusals in a row make no longer pauses: TestRefusalsWithoutEnd, TestStrikes
//   - pauses have no bound: TestStrikes
//   - a refusal leaves the bucket as it is: TestRefusalDrainsTheBucket,
//     TestRefusalHoldsAllCallsOfThePortal, TestLimiterModel
//   - a refusal fails nobody for whom it is too late: TestLimiterModel
//   - the next call is not woken: TestStatsOfThoseWhoWait
//   - a burst of one more: TestDeadlinesInALine, TestLimitAndDeadline
//   - idle time is saved up: TestHostileLeaveGivesBackOnce, TestPlaceOfOneThatLeavesLate,
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
//   - the reset of an answer is not kept: TestOperatingTimeLimit, TestPausesAreForgotten
//   - the reset of a command's answer is not kept: TestOperatingTimeInABatch
//   - a command that is blocked pauses nothing: TestOperatingTimeInABatch
//   - methods in another case are others: TestOperatingTimeLimit
//   - a pause is of all portals: TestOperatingTimeLimit
//   - a call does not wait for a pause that grew: TestPauseThatGrows
//   - pauses that go on are forgotten: TestPausesThatGoOnAreRemembered
//   - resets to come are forgotten: TestPausesThatGoOnAreRemembered
//   - pauses are kept for ever: TestPausesAreForgotten
//
// What errors are worth:
//
//   - NotRun forgets an attempt before: TestHostileSecondAttemptNotSent,
//     TestHostileSecondRequestOfABatch
//   - doubt ends with an attempt that did not run: TestHostileSecondAttemptNotSent
//   - NotRun is false for 429: TestFrontEnds, TestRetryable
//   - NotRun is true for 503 without Retry-After: TestFrontEnds, TestRetryable
//   - NotRun is false for 503 with Retry-After: TestFrontEnds, TestHostileForeignJSON
//   - codes are compared by case: TestRetryable
//   - any 503 asks to come later: TestRetryable
//   - a method that is blocked asks to come later: TestBlockedTwice, TestOperatingTimeLimit
//   - Retryable without NotRun: TestFrontEnds, TestRetryable
//   - Retryable after a request was written: TestFrontEnds, TestLostAnswers
//   - Retryable after a permanent error of credentials: TestCredentialsFail
//   - Retryable has no bound: TestRetryableIsBounded
//   - Retryable is negative: TestRetryableIsBounded
//   - one of several errors is enough: TestFrontEnds, TestRetryableOfSeveral
//   - the wait of the last of several errors counts: TestRetryableOfSeveral
//   - a batch that partly ran is retryable: TestBatchThatPartlyRan,
//     TestHostileSecondRequestOfABatch
//   - a batch that halted is not retryable: TestHostileBatchThatDidNotRun
//   - Retry-After has no bound: TestHostileRetryAfterOfHugeNumbers
//   - a Retry-After that is no int is ignored: TestHostileRetryAfterOfHugeNumbers
//
// What is repeated:
//
//   - calls that may have run: TestLostAnswers, TestWhatIsRepeated
//   - calls that write, after any page of 503: TestFrontEnds, TestWhatIsRepeated
//   - calls that write, after failures of the portal: TestFrontEnds, TestWhatIsRepeated
//   - calls that are too late: TestLimitAndDeadline
//   - calls whose credentials fail: TestCredentialsFail
//   - calls that are blocked again after a pause: TestBlockedTwice, TestWhatIsRepeated
//   - not after CONNECTION_ERROR: TestLostAnswers, TestWhatIsRepeated
//   - not within a batch, with a token that expired: TestRefusedInABatchAndMadeAgain
//   - the wait for a front end has no bound: TestFrontEnds, TestHostileRetryAfterOfHugeNumbers
//   - the wait for a front end forgets those before: TestWaitsForFrontEndsAreBounded
//   - pages in a row cost the same wait: TestRefusalsWithoutEnd
//   - waits do not grow: TestBackoff
//   - a wait begins although the deadline is before its end: TestBackoff, TestOperatingTimeLimit
//   - a context that ended in a pause is a limit: TestPauseEndsWithTheContext
//
// The coalescer:
//
//   - a request outlives its callers: TestDeadlineOfAGatheredCall, TestGatheredCallThatMayHaveRun
//   - a request ends with its first caller: TestOneCallerLeaves, TestOneOfEqualReadsLeaves
//   - a gathering that all have left takes calls: TestDeskIsEmptyAfterwards
//   - a gathering that did not depart takes calls: TestDeskIsEmptyAfterwards, TestHostileGoexit
//   - a caller leaves twice: TestCallerLeavesOnce
//   - a full gathering waits for its window: TestGathering
//   - methods that are paused gather: TestPausedMethodsGoByThemselves
//   - methods that are paused leave with others: TestHostileAllPausedInAGathering,
//     TestPausedInCompany
//   - calls gather while batch is paused: TestBlockedBatch
//   - batches leave while batch is paused: TestBlockedBatch
//   - a call that is left back waits for a second pause: TestWhatIsRepeated
//   - calls with retries of their own gather: TestWhatIsRepeated
//   - large calls gather: TestWhatGoesByItself
//   - texts that read like references gather: TestTextsOfStrangersDoNotRefer,
//     TestWhatGoesByItself
//   - reads of a method are equal whatever their parameters: TestGathering
//   - a gathering holds one call more than a batch: TestGathering
//   - callers of equal reads share an answer: TestAnswersOfEqualReadsAreApart
//   - a call that is refused within a batch for a reason that passes is final:
//     TestRefusedInABatchAndMadeAgain
//   - equal writes are made once: TestWritesAreNotJoinedIntoOne
//   - calls of callers that have left are sent: TestHostileDismissedCallIsNotSent,
//     TestOneCallerLeaves
//   - the last call says whether a batch is idempotent: TestReadInCompany
//   - writes are made again after a lost batch: TestFrontEnds, TestReadInCompany
//   - what was repeated in company is made again: TestErrorsOfTheWholeRequest
//   - what did not run is made again: TestNotMadeAgain
//   - what had no company is made again: TestTooLargeInCompany
//   - a call without retries is made again: TestNotMadeAgain
//   - an answer that is too large counts as a repetition: TestTooLargeInCompany
//   - a call that is made again forgets that it may have run: TestMadeAgainAndRefused
//   - a newcomer who is too late joins: TestDeadlineOfAGatheredCall
//   - callers who are too late wait: TestDeadlineOfAGatheredCall,
//     TestHostileDismissedCallIsNotSent
//   - callers for whom a refusal makes it too late wait: TestGatheredCallBehindARefusal
//   - callers for whom a repetition comes too late wait: TestHostileDeadlineAfterDeparture
//   - the turn of a request is not kept: TestDeadlineOfAGatheredCall
//   - a caller who is too late is not told that the call may have run:
//     TestGatheredCallThatMayHaveRun
//   - a caller who leaves is told that a call under way did not run: TestOneCallerLeaves
//   - a caller who leaves is told that a call that was left back may have run: TestLeftBackAndGone
//   - a panic after the request was written says that it did not run: TestHostileGoexitAfterSending
//   - a gathering that sends nothing keeps its place: TestHostileAllPausedInAGathering
