package eventtest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// fact is one known behaviour of the platform. Tests cite it by its section and some words.
type fact struct {
	id   string // how the citation begins: the number of the section, and words that identify the fact
	test string // the test that cites it; empty if it is not emulated
	says string // the fact; if it is not emulated, what happens instead
}

// protocolFacts are the facts of the platform's protocol: 1 calls, batches and limits, 2 the event
// methods, 3 the offline queue, 4 deliveries, 5 OAuth and installation, 6 security, 10 what was
// added later. A test cites a fact at the start of a subtest's name or of an assertion's message,
// or after the word PROTOCOL in a comment.
func protocolFacts() []fact {
	return []fact{
		// 1.1 URLs, methods, bodies
		{"1.1 any case", "TestMethodLookup", "method names are found in any case"},
		{"1.1 plain", "TestMethodLookup", "the suffixes .json and .xml and a slash are stripped off a method's name"},
		{"1.1 json", "TestMethodLookup", "both at once too"},
		{"1.1 slash", "TestMethodLookup", "the slash alone too"},
		{"1.1 another tail", "TestMethodLookup", "any other tail is part of the name, so that there is no such method"},
		{"1.1 upper-case suffix", "TestMethodLookup", "the suffixes are stripped in lower case only"},
		{"1.1 slash before", "TestMethodLookup", "a slash too many is part of the name"},
		{"1.1 dot", "TestMethodLookup", "and so are dots; nothing is cleaned or redirected"},
		{"1.1 slash after the secret", "TestPathsAreNotCleaned", "in the addresses of webhooks too"},
		{"1.1 unknown", "TestMethodLookup", "an unknown method is 404 ERROR_METHOD_NOT_FOUND"},
		{"1.1 GET", "TestBodies", "GET and POST are equal"},
		{"1.1 form", "TestBodies", "forms are read, with a charset too"},
		{"1.1 multipart", "TestBodies", "multipart forms are read"},
		{"1.1 JSON", "TestBodies", "JSON is read by its content type"},
		{"1.1 +json", "TestBodies", "so are the types that end in +json"},
		{"1.1 body wins", "TestBodies", "of a key in both, the body wins over the query"},
		{"1.1 bad JSON", "TestBodies", "bad JSON is dropped without a word"},
		{"1.1 the query of a bad body", "TestBodies", "and leaves the query standing"},
		{"1.1 no content type", "TestBodies", "a body without content type is not read"},
		{"1.1 keys of any case", "TestBindIdentity", "top-level keys of event.* fold case"},
		{"1.1: UTF-8", "TestWrongEncoding", "an answer that is no UTF-8 is WRONG_ENCODING"},
		{"1.1 answers in XML", "", "the suffix .xml is taken, the answer is JSON"},
		{"1.1 positional arguments", "TestCommentsByPosition", "task.* methods take arguments in the order in which they are sent"},

		// 1.2 authorization
		{"1.2 header", "TestCredentials", "the header Authorization: Bearer comes first, a dead one too"},
		{"1.2 dead header", "TestCredentials", "a dead header is not made good by a live parameter"},
		{"1.2 auth", "TestCredentials", "then the parameter auth"},
		{"1.2 access_token", "TestCredentials", "then the parameter access_token"},
		{"1.2 the outer auth", "TestBatch", "items of a batch cannot bring their own"},
		{"1.2 the method is looked for", "TestCredentials", "the method is looked for before the token"},
		{"1.2 browser sessions", "", "no sessionauth"},

		// 1.3 and 1.4 envelopes
		{"1.3 only lists", "TestEnvelope", "total and next come with lists only"},
		{"1.3 start is whole", "TestEnvelope", "time.start may be a whole number"},
		{"1.3 nothing is counted", "TestLists", "start=-1 skips counting"},
		{"1.3 start=-1 is not special", "TestOfflineList", "but not in event.offline.list"},
		{"1.3 errors have no time", "TestCredentials", "error answers have no member time"},
		{"1.4 none", "TestCredentials", "401 NO_AUTH_FOUND without a credential"},
		{"1.4 another scheme", "TestCredentials", "and with one of another scheme"},
		{"1.4 unknown", "TestCredentials", "401 invalid_token for an unknown one"},
		{"1.4 scope errors", "TestBatch", "insufficient_scope of a batch's item has no text"},
		{"1.4: webhooks want https", "TestRenameOnANetwork", "401 INVALID_REQUEST for a webhook over plain http, on a Network"},
		{"1.4: authorization_error", "TestDismissedUser", "401 authorization_error for the tokens of a dismissed user"},
		{"1.4 blocks and confirmations", "", "OVERLOAD_LIMIT, PORTAL_DELETED, METHOD_CONFIRM_* and the like come from Once with Fail"},
		{"1.4 the cached token check", "", "tokens are checked anew each time"},

		// 1.5 batch
		{"1.5 named keys", "TestBatch", "named items give objects, an empty section is []"},
		{"1.5 contiguous numbers", "TestBatch", "keys 0..n-1 give a list, numbers with gaps an object"},
		{"1.5 fifty items", "TestBatch", "items beyond 50 fail one by one, an item that is no text is skipped and counted"},
		{"1.5 no batch in a batch", "TestBatch", "ERROR_BATCH_METHOD_NOT_ALLOWED stands in result_error, with HTTP 200"},
		{"1.5 halt", "TestBatch", "halt stops at the first error"},
		{"1.5 references", "TestBatch", "$result, $total and so on are replaced"},
		{"1.5 next and total", "TestBatch", "result_next and result_total have those items that returned them"},
		{"1.5 only successful", "TestBatch", "result_time has successful items only"},
		{"1.5 event methods", "TestBatch", "event.* work in a batch, arguments of errors are named"},
		{"1.5 webhooks", "TestBatch", "webhooks may send batches"},
		{"1.5 cmd by form", "TestBatch", "commands may come in a form"},

		// 1.6 to 1.8
		{"1.6 the frontend", "TestRateLimit", "503 QUERY_LIMIT_EXCEEDED before a method is looked at; a batch is one request"},
		{"1.6 more than a tenth", "TestOperatingLimit", "operating sums the time of a method, application by application"},
		{"1.6 short runs", "TestOperatingLimit", "calls of a tenth of a second or less do not count"},
		{"1.6.", "TestOperatingLimit", "429 OPERATION_TIME_LIMIT until the minutes are past"},
		{"1.7 the old host", "TestRename", "a renamed portal's old host answers 302"},
		{"1.8 REST 3.0", "TestMethodLookup", "REST 3.0 is another API, which is not there"},

		// 2 event methods
		{"2 every application", "TestBindAllows", "event.* needs no permission"},
		{"2 webhooks may call", "TestBindAllows", "feature.get, method.get, app.info and server.time take webhooks"},
		{"2 webhooks may ask", "TestFeatureGet", "feature.get answers them as it does applications"},
		{
			"2 an empty one counts", "TestConnectorLicense",
			"403 WRONG_LICENSE for any call with auth_connector, the empty one too, where the plan has none",
		},
		{"2 webhook calls", "TestConnectorLicense", "webhooks are not asked for that"},

		// 2.1 event.bind
		{"2.1 #1 ", "TestBindRefuses", "403 WRONG_AUTH_TYPE for webhooks, by every event.* method"},
		{"2.1 #2 ", "TestBindRefuses", "403 ACCESS_DENIED where a plain user gives the AUTH_TYPE of another, before anything else is looked at"},
		{"2.1 #3 ", "TestBindRefuses", "ERROR_ARGUMENT with argument EVENT where there is none"},
		{"2.1 #4 ", "TestBindRefuses", "ERROR_ARGUMENT with argument EVENT_TYPE, before rights"},
		{"2.1 #5 ", "TestBindRefuses", "403 ACCESS_DENIED where a plain user binds offline"},
		{"2.1 #6 ", "TestBindRefuses", "ERROR_ARGUMENT with argument HANDLER where an online one has none"},
		{"2.1 #7 ", "TestBindRefuses", "ERROR_WRONG_HANDLER_URL for a host without a dot, or with one in front"},
		{"2.1 #8 ", "TestBindRefuses", "ERROR_UNSUPPORTED_PROTOCOL for all but http and https in lower case"},
		{"2.1 #9 ", "TestBindRefuses", "ERROR_EVENT_NOT_FOUND for an unknown event and for one of a permission that is not granted"},
		{"2.1 #10 ", "TestBindRefuses", "ERROR_ARGUMENT without argument for ONOFFLINEEVENT offline"},
		{"2.1 #11 ", "TestBindIdentity", "ERROR_CORE … Handler already binded for the same handler"},
		{"2.1 #12", "TestRacingBinds", "ERROR_CORE … Process of binding the handler has already started, for the same bind at the same time"},
		{"2.1 longer than the column", "TestBindRefuses", "500 SQL query error! for an address of more than 255 characters"},
		{"2.1 another", "TestBindIdentity", "application, event, address, user and connector make a handler"},
		{"2.1 offline", "TestBindIdentity", "and so does online or offline"},
		{"2.1 URLs that differ", "TestBindIdentity", "of an address, 180 characters count"},
		{"2.1 a plain user", "TestBindIdentity", "a plain user's AUTH_TYPE is forced to the own number"},
		{"2.1 AUTH_TYPE is forced", "TestBindIdentity", "offline it is forced to 0, and HANDLER is ignored"},
		{"2.1 smart processes", "TestBindIdentity", "smart processes have events of their own once they are there"},
		{"2.1 IPv4", "TestBindAllows", "IPv4, private networks, any port and path pass, and nothing is called"},
		{"2.1 a host that", "TestBindAllows", "the address need not be the application's"},
		{"2.1 EVENT_TYPE in any case", "TestBindAllows", "EVENT_TYPE folds case and is online where absent"},
		{"2.1 EVENT is upper-cased", "TestBindAllows", "EVENT is stored in upper case"},
		{"2.1 offline without", "TestBindAllows", "offline handlers can be bound on any plan"},
		{"2.1 options", "TestBindAllows", "options that the event does not know are ignored"},
		{"2.1 two handlers", "TestDeliveryAuth", "two handlers of one address get two deliveries"},
		{"2.1 handlers vanish", "TestUninstall", "uninstallation takes the handlers along"},
		{"2.1: handlers stay", "TestUpdate", "an update leaves them"},

		// 2.2 event.unbind
		{
			"2.2 administrator", "TestUnbind",
			"without AUTH_TYPE an administrator unbinds all users' handlers of an address, whatever their connector",
		},
		{"2.2 AUTH_TYPE", "TestUnbind", "with it only that user's; the empty one is 0"},
		{"2.2 plain user: own", "TestUnbind", "a plain user only own ones"},
		{"2.2 plain user with", "TestUnbind", "the own identifier is taken as a number"},
		{"2.2 plain user, own id", "TestUnbind", "and refused as a text, as forms send it"},
		{"2.2 plain user, foreign", "TestUnbind", "as any other one is"},
		{"2.2 plain user offline", "TestUnbind", "403 ACCESS_DENIED offline"},
		{"2.2 another URL", "TestUnbind", "where nothing matches the count is 0, and there is no error"},
		{"2.2 offline", "TestUnbind", "offline ones go by their exact connector"},
		{"2.2 no ", "TestUnbind", "EVENT is required, and HANDLER online"},
		{"2.2 bad EVENT_TYPE", "TestUnbind", "EVENT_TYPE is checked as in event.bind"},

		// 2.3 to 2.5
		{
			"2.3 rows of both kinds", "TestEventGet",
			"online rows have handler and auth_type, offline ones connector_id; no numbers, in the order of binding",
		},
		{"2.3 a plain user", "TestEventGet", "a plain user sees own rows, and so no offline ones"},
		{"2.3 the platform's own", "TestEventGet", "the handler of ONAPPINSTALL that the platform bound is listed"},
		{"2.4 the token's scopes", "TestEvents", "events lists those of the token's permissions and the basic ones"},
		{"2.4 an event without", "TestEvents", "ONSUBSCRIPTIONRENEW is listed, though it has no page"},
		{"2.4 dynamic", "TestEvents", "with those of each smart process"},
		{"2.4 FULL", "TestEvents", "SCOPE overrides FULL"},
		{"2.4 scope is case-sensitive", "TestEvents", "and is exact"},
		{"2.4 empty scope", "TestEvents", "the empty one means the basic events"},
		{`2.4 "N"`, "TestEvents", `FULL is true as in PHP: "N" is`},
		{`2.4 "0"`, "TestEvents", `and "0" is not`},
		{"2.5 the integer 1", "TestEventTest", "event.test answers 1 and fires ONAPPTEST with the parameters, auth and start left out"},
		{"2.5 only", "TestEventTest", "for the application's own handlers"},

		// 2.6 event.offline.get
		{"2.6 clear=1", "TestOfflineGet", "clear=1 without process_id: null, rows read and deleted"},
		{"2.6 any clear", "TestOfflineGet", "clear is cast to a number"},
		{"2.6 clear null", "TestOfflineGet", "null and absent are 1, as a null process_id is none"},
		{"2.6 clear=0 reserves", "TestOfflineGet", "clear=0 reserves under 32 characters of 0-9 and a-z, and hides"},
		{"2.6 a process_id even", "TestOfflineGet", "there is one even when there is nothing"},
		{"2.6 process_id with clear=0", "TestOfflineGet", "with a process_id, trimmed, clear=0 reads the batch again"},
		{"2.6 process_id with the default", "TestOfflineGet", "clear=1 reads, then deletes the whole batch, whatever limit and filter left out"},
		{"2.6 but nothing", "TestOfflineGet", "unless no row was returned"},
		{"2.6 the empty process_id", "TestOfflineGet", "the empty process_id reads unreserved rows and wipes all of them, errored ones too"},
		{"2.6 error=1", "TestOfflineGet", "error=1, exactly, selects the errored rows"},
		{"2.6 limit, no maximum", "TestOfflineGet", "the limit is 50 where absent and has no maximum"},
		{"2.6 order", "TestOfflineGet", "order folds case, a list of names is taken"},
		{"2.6 rows", "TestOfflineGet", "rows: ISO time with offset, stored types (numbers are numbers), user_id, 32 hexadecimal digits"},
		{"2.6 nobody", "TestOfflineQueues", "user_id is 0 where nobody acted, EVENT_DATA null where there is none"},
		{"2.6 auth_connector", "TestOfflineQueues", "auth_connector selects the queue, exactly"},
		{
			"2.6 clear=0 on a plan", "TestOfflineGetRefuses",
			"403 WRONG_LICENSE for clear=0 without the extended mode, before other checks; clear=1 is free",
		},
		{"2.6 limit 0", "TestOfflineGetRefuses", "ERROR_ARGUMENT with argument LIMIT for a limit below 1"},
		{"2.6 filter", "TestOfflineGetRefuses", "a filter that is no array, unknown operators and fields: ERROR_ARGUMENT without argument"},
		{"2.6 substring on", "TestOfflineGetRefuses", "% fails on a fresh reservation"},
		{"2.6 IN on", "TestOfflineGetRefuses", "so does @"},
		{"2.6 array on", "TestOfflineGetRefuses", "and so do arrays"},
		{"2.6 order", "TestOfflineGetRefuses", "an order that is no array, unknown fields and directions; a list is exact"},
		{"2.6 equality", "TestOfflineFilter", "= compares"},
		{"2.6 keys fold", "TestOfflineFilter", "keys of a filter fold case"},
		{"2.6 greater", "TestOfflineFilter", "> compares"},
		{"2.6 range", "TestOfflineFilter", ">= and < make a range"},
		{"2.6 at most", "TestOfflineFilter", "<= compares"},
		{"2.6 event name", "TestOfflineFilter", "values compare without regard to case"},
		{"2.6 bare key is equality", "TestOfflineFilter", "a key without operator is equality when reserving"},
		{"2.6 bare key is a pattern", "TestOfflineFilter", "and a pattern when reading"},
		{"2.6 IN when reading", "TestOfflineFilter", "@ works when reading"},
		{"2.6 arrays when reading", "TestOfflineFilter", "so do arrays"},
		{"2.6 substring when reading", "TestOfflineFilter", "and so does %"},
		{"2.6 time", "TestOfflineFilter", "times are read as ISO 8601"},
		{"2.6-2.9 only administrators", "TestOfflineGetRefuses", "403 Access denied! for plain users, by every event.offline.* method"},
		{
			"2.6: current builds select", "TestRacingReservations",
			"reservations at the same time can hand out the same rows, the last one owns them",
		},
		{"2.6, 2.10: a box", "TestQuirksOfThePlan", "a box without plans passes, its features have the value <lang>_selfhosted"},

		// 2.7 to 2.9
		{"2.7 reserved rows", "TestOfflineList", "event.offline.list shows reserved and errored rows, with PROCESS_ID and ERROR, 50 a page"},
		{"2.7 no next", "TestOfflineList", "next is absent on the last page"},
		{"2.7 one connector's", "TestOfflineList", "one connector's queue only"},
		{"2.7 list filters", "TestOfflineFilter", "it filters by PROCESS_ID and ERROR too"},
		{"2.7 list, clear and error", "TestOfflineGetRefuses", "list, clear and error need no extended mode"},
		{"2.8 by ", "TestOfflineClear", "event.offline.clear deletes by message_id or id"},
		{"2.8 message_id wins", "TestOfflineClear", "of both, message_id wins and id is not even checked"},
		{"2.8 no list", "TestOfflineClear", "without either, the whole batch"},
		{"2.8 empty", "TestOfflineClear", "and so with an empty one"},
		{"2.8 another", "TestOfflineClear", "another process or connector deletes nothing, and is true"},
		{"2.8 the empty process", "TestOfflineClear", "the empty process_id means unreserved rows"},
		{"2.8 no process_id", "TestOfflineClear", "ERROR_ARGUMENT with argument PROCESS_ID where there is none"},
		{"2.8 message_id", "TestOfflineClear", "arguments message_id and, for a bad item, messsage_id"},
		{"2.8 id ", "TestOfflineClear", "argument id for what is no list of positive numbers"},
		{"2.8 rows of another batch", "TestOfflineClear", "rows of another batch with the same MESSAGE_ID are safe"},
		{"2.9 marks", "TestOfflineError", "event.offline.error marks rows of the batch and releases them"},
		{"2.9 destroys", "TestOfflineError", "and deletes the newer row of the same message"},
		{"2.9 rows that another", "TestOfflineQueues", "reserved in another batch or not"},
		{"2.9 a wrong process_id", "TestOfflineError", "with a wrong process_id the notification is gone for good"},
		{"2.9 an empty list", "TestOfflineError", "an empty list does nothing"},
		{"2.9 errored rows", "TestOfflineError", "rows that are errored already stay reserved"},
		{"2.8 process_id in", "TestOfflineClear", "a process_id in an array is an error and deletes nothing"},
		{"2.9 process_id in", "TestOfflineClear", "here too"},
		{"2.6 process_id in", "TestOfflineClear", "and in event.offline.get"},
		{"2.9 spaces", "TestOfflineError", "message_id is taken as it is; event.offline.clear trims it"},
		{"2.9 no ", "TestOfflineClear", "process_id and message_id are required"},

		// 2.10 and 2.11
		{"2.10 extended", "TestFeatureGet", "Y or N by the plan, CODE in any case of the key; CODE_EMPTY without"},
		{"2.10 connector", "TestFeatureGet", "rest_auth_connector as well"},
		{"2.10 no ", "TestFeatureGet", "N where the plan lacks it"},
		{"2.10 unknown", "TestFeatureGet", "N for an unknown code"},
		{"2.11 webhook", "TestAppInfo", "app.info of a webhook: scope and licence only"},
		{"2.11 available", "TestMethodGetAndScope", "method.get: there, and allowed"},
		{"2.11 scope missing", "TestMethodGetAndScope", "there, and not allowed"},
		{"2.11 unknown", "TestMethodGetAndScope", "neither"},
		{"2.11 empty", "TestMethodGetAndScope", "neither for an empty name"},

		// 3 the offline queue
		{"3.1 deal", "TestMessageIDVectors", "MESSAGE_ID is the MD5 of name, bar and JSON as PHP writes it"},
		{"3.1 task", "TestMessageIDVectors", "of tasks too"},
		{"3.1 escapes", "TestMessageIDVectors", "with <>&'\" and slashes escaped and other characters as they are"},
		{"3.1 objects", "TestMessageIDVectors", "objects of the portal give the same"},
		{"3.2 unreserved", "TestOfflineStates", "an unreserved row is updated in place: same ID, last user"},
		{"3.2 ID order", "TestOfflineStates", "so that the order of IDs is not that of changes"},
		{"3.2 reserved", "TestOfflineStates", "a reserved row is left alone, a second one stored"},
		{"3.2 errored: updated", "TestOfflineStates", "an errored row is updated in place and stays errored, unseen"},
		{"3.2 errored and re-read", "TestOfflineStates", "one that is read again is left alone"},
		{"3.2 add, update and delete", "TestOfflineStates", "add, update and delete are three rows, ten updates one"},
		{"3.2 one object in two", "TestOfflineQueues", "one object can be in two batches"},
		{"3.2 reserving", "TestOfflineQueues", "reserving changes neither time nor ID"},
		{"3.2: rows are written", "TestOfflineLag", "rows may come some hundred milliseconds after the call that caused them"},
		{"3.3 the purge", "TestOfflineStates", "rows are deleted after 2,952,000 seconds, reserved or not"},
		{"3.3 uninstallation", "TestOfflineStates", "and on uninstallation"},
		{"3.4 write", "TestOwnChanges", "an application's own change is hidden from its queue of the same connector, the default one included"},
		{"3.4 any other", "TestOwnChanges", "changes of other applications, webhooks and people are stored"},
		{"3.4 online", "TestOwnChanges", "online handlers get own changes"},
		{"3.4 the connector of a batch", "TestOwnChanges", "items of a batch have the connector of the whole"},
		{"3.5 after rows", "TestOfflineNotice", "ONOFFLINEEVENT comes after rows were saved, without the section data, with a refresh token"},
		{"3.5 throttled", "TestOfflineNotice", "once a second at most, a row inside the second causes none later, minTimeout is ignored"},
		{"3.5 minTimeout", "TestOfflineNotice", "and honoured by old builds"},
		{"3.5 one notice", "TestOfflineNotice", "once for a hit"},
		{"3.5 none", "TestOfflineNotice", "not where nothing was stored"},
		{"3.5 on the bubble's clock", "TestOfflineQueueInABubble", "by the clock of a bubble too"},
		{"3.5 the Pull command", "", "there is no browser to tell"},
		{"3.6 the safe loop", "", "is the consumer's, in package offline"},

		// 4 deliveries
		{"4.1 no retry", "TestDeliveryOutcomes", "a delivery is tried once, whatever the answer"},
		{"4.1: slow handlers", "TestSlowHandlers", "slow handlers are called less often, with growing gaps"},
		{"4.1: the gaps", "TestSlowHandlerInABubble", "up to a bound, and shrinking again"},
		{"4.1 identical items", "TestDeliveryAuth", "identical events of one hit are sent once"},
		{"4.1 identical items of one application", "TestDeliveryAuth", "also those that only one application gets"},
		{"4.1: there is no order", "TestJitterInABubble", "no order is promised: Quirks.DeliveryJitter"},
		{"4.1 lanes", "", "there is one lane for each address, and no categories"},
		{"4.2 the captured order", "TestDeliveryBody", "event, event_handler_id, data, ts, auth, as a form with its content type"},
		{"4.2 ts", "TestDeliveryTime", "ts is when the event fired"},
		{"4.2 no data", "TestDeliveryEncoding", "data is absent where there is none"},
		{"4.2 empty data", "TestDeliveryEncoding", "and where it is empty"},
		{"4.3 booleans", "TestDeliveryEncoding", "true is 1, false is 0"},
		{"4.3 numbers", "TestDeliveryEncoding", "numbers and texts as they are"},
		{"4.3 null", "TestDeliveryEncoding", "null and empty arrays vanish"},
		{"4.3 lists", "TestDeliveryEncoding", "lists have their indices"},
		{"4.3 a list that began", "TestDeliveryEncoding", "with a gap where null stood"},
		{"4.3 nested", "TestDeliveryEncoding", "brackets nest"},
		{"4.3 spaces", "TestDeliveryEncoding", "spaces are plus signs"},
		{"4.3 commas", "TestDeliveryBody", "commas and brackets are escaped"},
		{"4.3, 4.4: byte", "TestRequestBodiesLikePHP", "all of it byte for byte as PHP's http_build_query"},
		{"4.4 user", "TestDeliveryAuth", "eleven keys where the user is known"},
		{"4.4 no user", "TestDeliveryAuth", "five without a user"},
		{"4.4 AUTH_TYPE", "TestDeliveryAuth", "the handler's AUTH_TYPE comes before the user who acted"},
		{"4.4 tasks", "TestDeliveryAuth", "CRM and tasks get no refresh token"},
		{"4.4 refresh", "TestDeliveryAuth", "applications, calendars and bots do"},
		{"4.4 never", "TestDeliveryAuth", "uninstallation and confirmations never carry tokens, not even those of AUTH_TYPE"},
		{"4.4 events that never", "TestDeliveryTokens", "of all events of the catalogue"},
		{"4.4 events that carry", "TestDeliveryTokens", "of all events of the catalogue"},
		{"4.4 everything else", "TestDeliveryTokens", "all others have an access token"},
		{"4.4 valid", "TestDeliveryTokens", "which lives an hour"},
		{"4.4 a refresh token", "TestInstallWithoutPages", "ONAPPINSTALL brings a refresh token"},
		{"4.4 the portal's host", "TestInstallWithoutPages", "domain is the portal's"},
		{"4.4: ONIMCOMMANDADD", "TestCommands", "ONIMCOMMANDADD has one"},
		{"4.4: joining", "TestChatMessages", "ONIMBOTJOINCHAT has none"},
		{"4.4: ONCALENDAR", "TestCalendarEntries", "ONCALENDAR* do"},
		{"4.4 direct calls", "", "robots and activities do not run here; NewActivityRequest with Direct builds their three keys"},
		{"4.5 ", "TestObjectsRaiseEvents", "the data of CRM objects, tasks, calendar entries and smart processes"},
		{"4.5 smart processes", "TestObjectsRaiseEvents", "which raise the common event and the process's own"},
		{"4.5 scalar", "TestDeliveryEncoding", "data that is one value"},
		{"4.5 ONAPPINSTALL", "TestInstallData", "VERSION, ACTIVE, INSTALLED, LANGUAGE_ID"},
		{"4.5 keep", "TestUninstall", "ONAPPUNINSTALL: CLEAN is 0"},
		{"4.5 wipe", "TestUninstall", "or 1"},
		{"4.5: the install event", "TestUpdate", "ONAPPUPDATE: VERSION, PREVIOUS_VERSION"},
		{"4.5 other events", "", "Raise has them by name, with the data that is given"},
		{"4.6 bound, and silent", "TestInstallWithPages", "no events before installFinish"},
		{"4.6 not active", "TestDeliveryGates", "none for an application that is switched off"},
		{"4.6 payment", "TestDeliveryGates", "none while its payment is out"},
		{"4.6 REST works", "TestDeliveryGates", "though REST works"},
		{
			"4.6 a chain", "TestDeliveryGates",
			"a chain of event-issued tokens ends after seven links, for all applications; stored tokens are not worn",
		},
		{"4.7 outgoing", "TestDeliveryAuth", "outgoing webhooks: own token, five keys, no handler"},

		// 5 OAuth and installation
		{"5.1 codes", "TestTokenEndpoint", "codes live 30 seconds and work once"},
		{"5.1: codes", "TestTokensInABubble", "on the bubble's clock too"},
		{"5.1 errors", "TestAuthorize", "errors are shown on the page, not sent to the redirect"},
		{"5.2 refresh: every", "TestTokenEndpoint", "the members of an answer; domain is the OAuth host"},
		{"5.2 refresh tokens rotate", "TestTokenEndpoint", "a refresh token dies when it is used"},
		{"5.2 GET", "TestTokenEndpoint", "GET works as POST does"},
		{"5.2 refresh tokens live", "TestTokenEndpoint", "180 days"},
		{"5.2 access tokens", "TestTokenEndpoint", "an hour"},
		{"5.3 errors", "TestTokenEndpoint", "invalid_request, invalid_client, invalid_grant"},
		{"5.3 application", "TestTokenEndpoint", "invalid_client where the application is not installed"},
		{"5.4 there is none", "TestInstallWithPages", "the frame's POST has no client_endpoint"},
		{"5.4: https", "TestPagesOnANetwork", "PROTOCOL=1 means https"},
		{"5.5 installed at once", "TestInstallWithoutPages", "an application without pages is installed at once"},
		{"5.5 only installFinish", "TestInstallWithPages", "one with pages by installFinish"},
		{"5.5: ONAPPINSTALL", "TestQuirksOfInstallation", "ONAPPINSTALL may be late or missing"},
		{"5.6: the OAuth server's", "TestOAuthAppInfo", "app.info of the OAuth server answers for a live token, and names the portal"},

		// 6 security
		{"6 the token is", "TestInstallWithoutPages", "the application token is 32 hexadecimal digits"},
		{"6 APP_SID", "TestInstallWithPages", "APP_SID is another thing"},
		{"6 the only proof", "TestUninstall", "ONAPPUNINSTALL has no other proof"},
		{"6 REST is dead", "TestUninstall", "since its tokens are dead"},
		{"5.3 application not installed", "TestRemovedApplication", "invalid_client for the refresh tokens of a removed application"},
		{"6 the token is the application's own", "TestTwoApplications", "two applications of a portal have two tokens"},
		{"6 everybody", "TestEmployeeOpensAPage", "every user who opens a page can read it"},
		{"6: another botToken", "TestBotTokenRotation", "another botToken links a bot's ONIMBOTV2* events to a new application token"},
		{"6 rotating", "TestBotTokenRotation", "which is 32 hexadecimal digits too"},
		{"6 those of other bots", "TestBotTokenRotation", "other bots keep theirs"},
		{"6 and so do", "TestBotTokenRotation", "and other events do"},
		{"6 addresses of queue servers", "", "the list of source addresses is not served; deliveries come from loopback"},

		// 10 what was added later
		{"10.1 the mode", "TestBotV2Subscriptions", "bots of imbot.v2 are in fetch mode unless it is said otherwise"},
		{"10.1 no offset", "TestPollBot", "imbot.v2.Event.get without an offset returns all that has piled up"},
		{"10.1 typed JSON", "TestPollBot", "data is that of the deliveries, with numbers and booleans"},
		{"10.1 no auth", "TestPollBot", "and without data.bot.auth"},
		{"10.1 an offset", "TestPollBot", "acknowledges every event below it"},
		{"10.1 hasMore", "TestPollLimits", "the limit is 100 if absent, and hasMore says that there are others"},
		{"10.1 both kinds", "TestPollUserEvents", "withUserEvents adds the user's events, and one offset acknowledges both"},
		{"10.1 it needs a", "TestPollUserEvents", "which needs a subscription"},
		{"10.1 it needs im", "TestPollRefuses", "and the scope im"},
		{"10.1 a botToken", "TestPollRefuses", "an incoming webhook names the botToken"},
		{"10.1 one application", "TestPollRefuses", "only the one that registered the bot polls it"},
		{"10.1 the rate", "", "2 requests a second for each application are not enforced; use Fail with 429"},
		{"10.2 nothing is logged", "TestPollUserEvents", "without im.v2.Event.subscribe"},
		{"10.2 subscribe is idempotent", "TestPollUserEvents", "for each user and application"},
		{"10.2 five events", "TestPollUserEvents", "messages and reactions come by themselves, joins by RaiseForUser"},
		{"10.2 not by event.bind", "TestPollUserEvents", "ONIMV2* are not bound"},
		{"10.3 the system user's tokens", "TestUserReady", "ONAPPUSERREADY: tokens of the application's system user inside data"},
		{"10.3 the refresh token", "TestUserReady", "which live long"},
		{"10.3 the platform registers", "TestUserReady", "its handler is the platform's, at the installer's URL, and event.get lists it"},
		{"10.3: it is sent once", "TestUserReadyOnce", "once for each installation"},
		{"10.3 it is sent once", "TestUserReadyOnce", "not at updates; before ONAPPINSTALL or after, by Quirks.UserReady"},
		{"10.4 the documented envelope", "TestBotV2Deliveries", "domain and application_token stand at the top of auth"},
		{"10.4 an envelope like", "TestBotV2Deliveries", "or, by Quirks.WholeBotAuth, what other events have"},
		{"10.4 member_id", "TestBotV2Deliveries", "member_id stands in data.bot.auth"},
		{"10.5 names do not count", "TestCommentsByPosition", "TASKID, then ITEMID, whatever the names are"},
		{"10.5 a violated order", "TestCommentsByPosition", "is ERROR_CORE with ITEM_NOT_FOUND_OR_NOT_ACCESSIBLE"},
		{"10.5 inside a batch", "TestCommentsByPosition", "the order of a command's parameters counts likewise"},
		{"10.5: comments of the new", "TestCommentsOfTheNewTaskCard", "they come with ID 0 and the ID of a chat message"},
		{"10.5 no method of the task scope", "TestCommentsOfTheNewTaskCard", "im.dialog.messages.get reads them, task.commentitem.get does not"},
		{"10.6 empty is not gone", "TestWorkgroupsAreFiltered", "sonet_group.get lists no group that the token's user may not see"},
		{"10.6 IS_ADMIN", "TestWorkgroupsAreFiltered", "Y lists all to administrators, and is ignored for others"},
		{"10.6 ORDER", "TestWorkgroupsAreFiltered", "descending by ID by default; order in lower case is not known"},
		{"10.6 posts", "TestPostsAreFiltered", "log.blogpost.get answers [] for a post for others"},
		{"10.6 users", "TestUsersAreFiltered", "user.get answers [] for users of other kinds, and has ADMIN_MODE"},
		{"10.6 other lists", "", "voximplant.statistic.get and crm.address.list are not there"},
		{"10.7 the system user", "TestUserReady", "user.admin is false for the system user"},
		{"10.7 user.admin of an employee", "TestEmployeeOpensAPage", "false for employees, whose pairs are good"},
		{"10.7 user.admin of an administrator", "TestEmployeeOpensAPage", "true for administrators"},
		{"10.8 files in chats", "", "messages hold text only; Raise and NewRequest take any data"},
	}
}

var (
	citation = regexp.MustCompile(`^(10|[1-6])(\.\d+)?( |: |, |\.$|-\d\.\d)`)
	remark   = regexp.MustCompile(`PROTOCOL ((?:10|[1-6])[^\n]*)`)
)

// citations returns the citations of each test of the package, by the test's name.
func citations(t *testing.T) map[string][]string {
	t.Helper()
	files, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	cited := map[string][]string{}
	for _, name := range files {
		if name == "protocol_test.go" {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		require.NoError(t, err)
		for _, decl := range file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			from := fn.Pos()
			if fn.Doc != nil {
				from = fn.Doc.Pos()
			}
			add := func(text string) {
				if citation.MatchString(text) {
					cited[fn.Name.Name] = append(cited[fn.Name.Name], text)
				}
			}
			for _, group := range file.Comments {
				if group.Pos() >= from && group.End() <= fn.End() {
					for _, found := range remark.FindAllStringSubmatch(group.Text(), -1) {
						add(found[1])
					}
				}
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					if text, err := strconv.Unquote(lit.Value); err == nil {
						add(strings.TrimPrefix(text, "PROTOCOL "))
					}
				}
				return true
			})
			if strings.HasPrefix(fn.Name.Name, "Test") && cited[fn.Name.Name] == nil {
				cited[fn.Name.Name] = []string{}
			}
		}
	}
	return cited
}

// TestProtocolFacts checks that every fact is cited by the test that the index names, and that the
// index has every citation of sections 2 to 4 and 10.
func TestProtocolFacts(t *testing.T) {
	t.Parallel()
	cited, tested := citations(t), map[string]bool{}
	section := regexp.MustCompile(`^(10|[1-6])(\.\d+)?`)
	for i, f := range protocolFacts() {
		require.Regexp(t, citation, f.id)
		require.NotEmpty(t, f.says, f.id)
		for _, other := range protocolFacts()[:i] {
			require.False(t, other.id == f.id && other.test == f.test, "%s is there twice", f.id)
		}
		if f.test == "" {
			continue
		}
		require.Contains(t, cited, f.test, "%s names a test that is not there", f.id)
		require.True(t, slices.ContainsFunc(cited[f.test], func(text string) bool { return strings.HasPrefix(text, f.id) }),
			"%s does not cite %q any more", f.test, f.id)
		tested[section.FindString(f.id)], tested[strings.TrimSpace(f.id)] = true, true
	}
	for id := range strings.FieldsSeq("1.1 1.2 1.3 1.4 1.5 1.6 1.7 1.8 2 2.1 2.2 2.3 2.4 2.5 2.6 2.7 2.8 2.9 2.10 2.11 3.1 3.2 3.3 3.4 " +
		"3.5 4.1 4.2 4.3 4.4 4.5 4.6 4.7 5.1 5.2 5.3 5.4 5.5 5.6 6 10.1 10.3 10.4 10.7") {
		require.Contains(t, tested, id, "a section without a tested fact")
	}
	for n := range 12 { // the numbered checks of event.bind
		require.Contains(t, tested, "2.1 #"+strconv.Itoa(n+1))
	}
	for test, texts := range cited {
		for _, text := range texts {
			known := (strings.Trim(text[:1], "234") != "" && !strings.HasPrefix(text, "10")) || slices.ContainsFunc(protocolFacts(),
				func(f fact) bool {
					return f.test == test && strings.HasPrefix(text, f.id)
				})
			require.True(t, known, "%s cites %q: add the fact to protocolFacts", test, text)
		}
	}
}
