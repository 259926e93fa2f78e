package dispatch

// These mutants of the package were tried. The list names the tests that fail for each: a unit
// test, and TestModel if it fails within 2,000 schedules. If you add a rule to the package, see its
// mutant caught and add it here.
//
//   - a portal that was limited does not line up again when an item ends: TestRefill, TestModel
//   - the limit of a portal is ignored: TestStuck, TestModel
//   - a portal keeps its place in the ring after an item began: TestBusyPortals, TestModel
//   - merging with the first item of the lane: TestAddNeedsNoRoom, TestModel
//   - merging without a look at when items were fired: TestMergingWithOneThatRests, TestModel
//   - merging with one that waits for room: TestMergeWhileWaitingForRoom, TestModel
//   - a finished item keeps its room: TestOrderWhenFull, TestModel
//   - a merged item keeps the room that it had besides: TestMerging, TestModel
//   - room is taken past its size: TestWaitingForRoom, TestModel
//   - no quota of a portal: TestMergeWhileWaitingForRoom, TestModel
//   - admitted out of order within a portal: TestModel
//   - no item is due: TestWaitingForRoom
//   - an admitted portal keeps its turn: TestModel
//   - one that gives up waiting lets no other in: TestWaitingForRoom, TestModel
//   - a refused item holds up its lane: TestModel
//   - a refused item keeps its lane: TestRefusedItem
//   - the error of an earlier refusal stays: TestRefusedItem
//   - a rest that was ended wakes again: TestModel
//   - a rest holds up nothing: the lane goes on: TestRest, TestModel
//   - an item that rests goes to the end of its lane: TestRest, TestModel
//   - attempts are kept when a newer item takes the place of one that rests:
//     TestMergingWithOneThatRests, TestModel
//   - attempts are kept when one that fails is merged: TestMergingWithOneThatRests, TestModel
//   - the count of merged ones is lost: TestMerging, TestModel
//   - merging with the one behind is skipped: TestMergingWithOneThatRests, TestModel
//   - waiting ones are not merged on admission: TestMergeWhileWaitingForRoom, TestModel
//   - stuck items are finished twice: TestModel
//   - stuck items: settle does not see that they were given up: TestShutdown, TestModel
//   - CutError counts what was done: TestShutdown, TestModel
//   - urgent items have no precedence: TestModel
//   - urgent items without a bound: TestUrgentBesidesHanging, TestModel
//   - overdue urgent items do not make way: TestUrgentBesidesHanging, TestModel
//   - nothing is kept free for slow portals: TestSlowPortals, TestModel
//   - hanging items use up what is kept free for slow portals: TestSlowPortals, TestModel
//   - slow portals without a share: TestStopOfASlowPortal, TestModel
//   - a slow portal stays slow: TestSlowAgain, TestModel
//   - a portal is ordinary again although an item hangs: TestModel
//   - overdue items keep their places: TestStopOfASlowPortal, TestModel
//   - overdue items without a bound: TestSlowPortals, TestModel
//   - the watch stops at the first overdue item: TestStuck, TestModel
//   - the watch waits for stuck items only: TestBusyPortals, TestModel
//   - stuck items are counted: TestStuck, TestModel
//   - a lane stays in the map: TestOrderAfterARemoval, TestModel
//   - a portal is forgotten while it has items at the front: TestOrderAfterARemoval
//   - OnSlack once for ever: TestModel
//   - OnSlack not when nothing is left: TestOnSlack, TestModel
//   - OnSlack while enough is ready: TestOnSlack, TestModel
//   - OnSlack of a stopped portal: TestStop, TestModel
//   - Done while reports are under way: TestDoneWaitsForReports
//   - Stop keeps what rests: TestOrderAfterARemoval, TestModel
//   - what fails of a stopped portal is retried: TestStop, TestModel
//   - a removal drops urgent items: TestRemoval, TestModel
//   - a removal drops what was fired later: TestRemoval, TestModel
//   - what runs is retried after a removal: TestRemoval, TestModel
//   - a removal forgets what waits for room: TestRemoval, TestModel
//   - a removal reorders the lanes: TestBusyPortals, TestModel
//   - Shutdown leaves resting items alone: TestShutdown, TestModel
//   - Shutdown leaves those who wait for room alone: TestWaitingForRoom, TestModel
//   - Shutdown forgets portals of Open: TestShutdownAndPortals, TestModel
//   - a cut does not end contexts: TestStopOfASlowPortal, TestModel
//   - reports one after the other: TestShutdown
//   - the place is given back before the report: TestSlowReports
//   - the item rests before Retrying: TestRetryingComesFirst
//   - MaxWait is ignored: TestRetries, TestModel
//   - a worker that died is reused: TestBreakage, TestModel
//   - the end of the goroutine is not survived: TestPanicIsAnError, TestModel
//   - no pump after a merger: TestRoomOfAMerger
//   - no pump when somebody gave up waiting: TestModel
//   - workers never end: TestWorkers
//   - a worker is idle after Shutdown: TestWorkers
//   - Idle waits for what runs only: TestErrorThatPanicsLater, TestModel
//   - Add takes room: TestAddNeedsNoRoom, TestModel
//   - the context does not end with the portal: TestContextEnds, TestModel
//   - the context knows no cause: TestContextEnds
//   - the removal reporter is for portals of Open as well: TestContextValues
//   - a slow portal is ordinary at once: TestTurnsOfSlowPortals, TestModel
//   - the last overdue item does not count: TestTurnsOfSlowPortals, TestModel
//   - busy portals have no quarter: TestBusyPortals, TestStorms, TestModel
//   - busy portals come before others always: TestBusyPortals, TestStorms, TestModel
//   - the quarter is one of all workers: TestBusyPortals, TestModel
//   - a quarter of three workers is none: TestBusyPortals, TestModel
//   - busy portals have no more than the quarter: TestBusyPortals, TestStorms, TestModel
//   - ordinary portals leave the quarter free: TestBusyPortals, TestModel
//   - the one worker that slow portals leave serves busy ones first: TestBusyPortals, TestModel
//   - the one worker that slow portals leave serves ordinary ones first: TestBusyPortals, TestModel
//   - it serves busy ones once: TestBusyPortals, TestModel
//   - items of busy portals are counted as ordinary ones: TestBusyPortals, TestStorms, TestModel
//   - items of ordinary portals are counted as busy ones: TestBusyPortals, TestStorms, TestModel
//   - items of busy portals are not counted among the workers: TestBusyPortals, TestModel
//   - busy and slow portals take turns item by item: TestBusyPortals, TestModel
//   - slow portals take turns item by item: TestTurnsOfSlowPortals, TestModel
//   - a busy or slow portal keeps its turn: TestBusyPortals, TestStorms, TestModel
//   - a turn is one item longer: TestBusyPortals, TestModel
//   - the turn of an ordinary portal is as long as that of others: TestBusyPortals, TestModel
//   - a portal whose turn is over stays the first: TestBusyPortals, TestStorms, TestModel
//   - a turn goes on behind other portals: TestBusyPortals, TestModel
//   - a turn outlives the place in the ring: TestBusyPortals, TestModel
//   - a turn outlives that the portal becomes slow: TestBusyPortals, TestModel
//   - a turn ends with the backlog: TestBusyPortals, TestModel
//   - one lane is a backlog: TestBusyPortals, TestModel
//   - a backlog is more than may run: TestBusyPortals, TestModel
//   - what runs is part of a backlog: TestBusyPortals, TestModel
//   - portals are busy although none is to be slow: TestBusyPortals, TestModel
//   - a slow portal with a backlog is busy: TestBusyPortals, TestModel
//   - a portal stays in its ring when it belongs to another: TestBusyPortals, TestModel
//   - the slow ring is left alone: TestBusyPortals, TestModel
//   - a removal leaves a backlog as it was: TestBusyPortals, TestModel
//   - a removal of everything leaves the portal in its ring: TestBusyPortals, TestModel
//   - a removal ends a turn: TestBusyPortals, TestModel
//   - lanes that a removal wakes line up one by one: TestBusyPortals
//   - a portal whose intake ended starts items: TestIntake, TestModel
//   - a portal whose intake ended holds up its ring: TestBusyPortals, TestModel
//   - an urgent portal keeps its turn: TestUrgentBesidesHanging, TestModel
//   - hanging items of busy portals keep their places: TestBusyPortals, TestModel
