package offline

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/batch"
	"github.com/b24events/b24events/internal/typednil"
)

const (
	methodGet   = "event.offline.get"
	methodList  = "event.offline.list"
	methodClear = "event.offline.clear"
	methodError = "event.offline.error"
)

const (
	// pageSize is the page of event.offline.list, which cannot be changed.
	pageSize = 50
	// maxNamed is how many records one call names. PHP ignores form fields after the 1,000th, without
	// an error.
	maxNamed = 500
	// messageIDLength is the length that the portal demands of a message ID, in characters.
	messageIDLength = 32
)

// Queue is the queue of offline events of one application on one portal, without a connector or for
// one connector. Its methods are those of the portal, but refuse calls that would destroy records
// by accident. Most programs need a [Consumer] instead.
//
// Every method calls the portal, once unless its comment says otherwise, and needs the token of an
// administrator. Queue has no state and is safe for concurrent use if its caller is. Still, only
// one process should reserve from a queue at a time, because on current portals two reservations
// can race for a record.
type Queue struct {
	call      callFunc
	connector string
	proof     *event.Proof // of the deliveries in records
}

// callFunc is the method of an [event.Caller]. As a function it hides the caller, and the
// credentials in it, from fmt.
type callFunc func(ctx context.Context, method string, params, result any) error

// NewQueue returns the queue that c's application has on c's portal. Its options are
// [WithConnector], [WithClientID] and [WithMemberID]. The latter two are for a caller that does not
// say what it belongs to. The deliveries in records carry the proof [event.ProofCall]. An error
// matches [ErrConfig], and also [ErrIdentity] if c belongs to another application or portal.
func NewQueue(c event.Caller, opts ...QueueOption) (*Queue, error) {
	if typednil.Is(c) {
		return nil, misconfigured("NewQueue with a nil caller")
	}
	cfg, err := configure(config{}, opts, QueueOption.applyToQueue)
	if err != nil {
		return nil, err
	}
	app, portal, err := identify(c, cfg.clientID, cfg.memberID)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return &Queue{call: c.Call, connector: cfg.connector, proof: &event.Proof{By: event.ProofCall, ClientID: app, MemberID: portal}}, nil
}

// do calls a method with the connector added.
func (q *Queue) do(ctx context.Context, method string, params map[string]any, result any) error {
	if err := q.call(ctx, method, q.withConnector(params), result); err != nil {
		return explain(method, params, err)
	}
	return nil
}

// withConnector adds the connector.
func (q *Queue) withConnector(params map[string]any) map[string]any {
	if q.connector != "" { // even an empty one is refused on plans without the feature
		params[batch.Connector] = q.connector
	}
	return params
}

// Reserve reserves up to limit records and returns them. Those that have waited longest come first.
// They stay in the queue, hidden from later reservations, until [Queue.Clear] removes them or the
// portal purges them after a month. [Queue.List] finds a reservation whose response was lost. The
// portal sets no bound on limit.
//
// It returns [ErrLimit], [ErrFilter] or, if the plan cannot reserve, [ErrExtendedModeRequired].
//
// Source: https://apidocs.bitrix24.com/api-reference/events/event-offline-get.html
func (q *Queue) Reserve(ctx context.Context, limit int, filters ...Filter) (Batch, error) {
	return q.get(ctx, filters, getParams{limit: limit})
}

// ReserveParked reserves up to limit parked records; see [Queue.Park]. Those that have waited
// longest come first. Finish them with [Queue.Clear]: they cannot be parked a second time, and one
// that is left reserved stays so until the portal purges it. Errors are those of [Queue.Reserve].
func (q *Queue) ReserveParked(ctx context.Context, limit int, filters ...Filter) (Batch, error) {
	return q.get(ctx, filters, getParams{limit: limit, parked: true})
}

// Resume reads up to limit records of a reservation again. It changes nothing, and finds no records
// in a reservation that was cleared or never made. It returns [ErrLimit], [ErrProcessID] or
// [ErrExtendedModeRequired].
func (q *Queue) Resume(ctx context.Context, processID string, limit int) (Batch, error) {
	return q.resume(ctx, processID, limit, false)
}

// ResumeParked reads a reservation again that [Queue.ReserveParked] made, as [Queue.Resume] does
// for those of [Queue.Reserve].
func (q *Queue) ResumeParked(ctx context.Context, processID string, limit int) (Batch, error) {
	return q.resume(ctx, processID, limit, true)
}

func (q *Queue) resume(ctx context.Context, processID string, limit int, parked bool) (Batch, error) {
	if strings.TrimSpace(processID) == "" {
		return Batch{}, ErrProcessID
	}
	return q.get(ctx, nil, getParams{limit: limit, parked: parked, process: processID})
}

// Pop removes up to limit records from the queue and returns them. Those that have waited longest
// come first. It works on every plan. From then on the records exist nowhere else: if the response
// is lost, or the program crashes, they are gone. Records that could not be read are among them,
// with Err set and [Record.Raw] as all that is left. It returns [ErrLimit] or [ErrFilter].
//
// Source: https://apidocs.bitrix24.com/api-reference/events/event-offline-get.html
func (q *Queue) Pop(ctx context.Context, limit int, filters ...Filter) ([]Record, error) {
	b, err := q.get(ctx, filters, getParams{limit: limit, remove: true})
	return b.Records, err
}

// get calls event.offline.get.
func (q *Queue) get(ctx context.Context, filters []Filter, r getParams) (Batch, error) {
	if r.limit < 1 {
		return Batch{}, ErrLimit
	}
	filter, err := joinFilters(filters, false)
	if err != nil {
		return Batch{}, err
	}
	params := r.params()
	if len(filter) > 0 {
		params["filter"] = map[string]any(filter)
	}
	var response json.RawMessage
	if err := q.do(ctx, methodGet, params, &response); err != nil {
		return Batch{}, err
	}
	b, err := readBatch(params, response)
	return b.withProof(*q.proof), err
}

// getParams are the parameters of event.offline.get. There is no order among them: by default the
// portal returns what has waited longest first, and a map cannot order two fields.
type getParams struct {
	limit   int
	parked  bool   // only parked records, otherwise only others
	process string // the reservation to read again; empty for a new one
	remove  bool   // the portal deletes the records as it reads them, and reserves none
}

func (r getParams) params() map[string]any {
	params := map[string]any{"clear": 0, "limit": r.limit} // the portal's default for clear is 1
	if r.remove {
		params["clear"] = 1
	}
	if r.parked {
		params["error"] = 1
	}
	if r.process != "" {
		params["process_id"] = r.process
	}
	return params
}

// readBatch reads the response of event.offline.get to a call with these parameters.
func readBatch(params map[string]any, doc json.RawMessage) (Batch, error) {
	var response struct {
		ProcessID text `json:"process_id"`
		Events    rows `json:"events"`
	}
	if err := json.Unmarshal(doc, &response); err != nil {
		return Batch{}, fmt.Errorf("%w: %s", ErrBadResponse, methodGet)
	}
	processID := string(response.ProcessID)
	if params["clear"] == 0 && processID == "" {
		// Without a reservation the portal has deleted what it returned: the caller did not send clear=0.
		return Batch{}, fmt.Errorf(
			"%w: %s with clear=0 named no reservation; does the caller drop parameters that are 0?",
			ErrBadResponse,
			methodGet,
		)
	}
	return Batch{ProcessID: processID, Records: newRecords(response.Events, processID, params["error"] == 1)}, nil
}

// List yields all records in the order of their IDs: waiting, reserved and parked ones. It changes
// nothing and works on every plan. It reads a page of 50 at a time, by the last ID seen, so it
// skips and repeats nothing while records come and go. An error ends it. A record that could not be
// read has Err set, and does not end it. It yields [ErrFilter] without calling.
//
// Source: https://apidocs.bitrix24.com/api-reference/events/event-offline-list.html
func (q *Queue) List(ctx context.Context, filters ...Filter) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		filter, err := joinFilters(filters, true)
		if err != nil {
			yield(Record{}, err)
			return
		}
		for last := int64(0); ; {
			params := map[string]any{"order": map[string]any{"ID": "ASC"}}
			if len(filter) > 0 {
				params["filter"] = map[string]any(maps.Clone(filter))
			}
			page, err := q.page(ctx, params)
			if err != nil {
				yield(Record{}, err)
				return
			}
			for _, r := range page {
				if !yield(r, nil) {
					return
				}
			}
			if len(page) < pageSize {
				return
			}
			next := page[len(page)-1].ID
			if next <= last {
				yield(Record{}, fmt.Errorf("%w: %s does not go on by record numbers", ErrBadResponse, methodList))
				return
			}
			last = next
			filter[">ID"] = next // beyond the caller's own ">ID", if any
		}
	}
}

// page reads one page of event.offline.list.
func (q *Queue) page(ctx context.Context, params map[string]any) ([]Record, error) {
	var response json.RawMessage
	if err := q.do(ctx, methodList, params, &response); err != nil {
		return nil, err
	}
	page, err := readPage(response)
	return Batch{Records: page}.withProof(*q.proof).Records, err
}

// readPage reads the response of event.offline.list.
func readPage(doc json.RawMessage) ([]Record, error) {
	var response rows
	if err := json.Unmarshal(doc, &response); err != nil {
		return nil, fmt.Errorf("%w: %s", ErrBadResponse, methodList)
	}
	records := make([]Record, len(response))
	for i, row := range response {
		records[i] = newRecord(row, "", false)
	}
	return records, nil
}

// Clear removes records of the reservation processID from the queue, after they were handled. It
// does not touch records of other reservations, not even those of the same object. Records that are
// gone already do not matter. It names up to 500 records in one call, and makes several calls for
// more. After an error, call it again with all of them.
//
// It returns [ErrProcessID], [ErrNothingNamed] or [ErrMessageID] without calling. To the portal, an
// empty list names the whole reservation.
//
// Source: https://apidocs.bitrix24.com/api-reference/events/event-offline-clear.html
func (q *Queue) Clear(ctx context.Context, processID string, messageIDs ...string) error {
	if err := checkNamed(processID, messageIDs); err != nil {
		return err
	}
	for chunk := range slices.Chunk(messageIDs, maxNamed) {
		if err := q.doTrue(ctx, methodClear, map[string]any{"process_id": processID, "message_id": chunk}); err != nil {
			return err
		}
	}
	return nil
}

// ClearIDs is [Queue.Clear] by the IDs of the records. It returns [ErrProcessID], [ErrNothingNamed]
// or [ErrRecordID] without calling.
func (q *Queue) ClearIDs(ctx context.Context, processID string, ids ...int64) error {
	switch {
	case strings.TrimSpace(processID) == "":
		return ErrProcessID
	case len(ids) == 0:
		return ErrNothingNamed
	case slices.Min(ids) < 1:
		return ErrRecordID
	}
	for chunk := range slices.Chunk(ids, maxNamed) {
		if err := q.doTrue(ctx, methodClear, map[string]any{"process_id": processID, "id": chunk}); err != nil {
			return err
		}
	}
	return nil
}

// Park parks records of the reservation processID (dead letters). They no longer belong to the
// reservation, and only [Queue.ReserveParked] reads them. Calls and errors are those of
// [Queue.Clear].
//
// Parking has two side effects:
//
//   - It deletes every other record with the same message ID that is not parked: the newer change
//     of that object, whether it waits or is reserved. If the reservation does not hold the record,
//     nothing is parked, and the newer record is deleted nevertheless. Its change is lost.
//   - As long as a record is parked and not reserved, the same change of that object is merged into
//     it and stays parked. No reservation of [Queue.Reserve] sees it.
//
// So a program that parks must read [Queue.ReserveParked] now and then, fetch the present state of
// each object, and clear.
//
// Source: https://apidocs.bitrix24.com/api-reference/events/event-offline-error.html
func (q *Queue) Park(ctx context.Context, processID string, messageIDs ...string) error {
	if err := checkNamed(processID, messageIDs); err != nil {
		return err
	}
	for chunk := range slices.Chunk(messageIDs, maxNamed) {
		if err := q.doTrue(ctx, methodError, map[string]any{"process_id": processID, "message_id": chunk}); err != nil {
			return err
		}
	}
	return nil
}

// doTrue calls a method that returns true.
func (q *Queue) doTrue(ctx context.Context, method string, params map[string]any) error {
	var response json.RawMessage
	if err := q.do(ctx, method, params, &response); err != nil {
		return err
	}
	return readTrue(method, response)
}

// readTrue reads the response of a method that returns true.
func readTrue(method string, doc json.RawMessage) error {
	var done bool
	if err := json.Unmarshal(doc, &done); err != nil || !done {
		return fmt.Errorf("%w: %s did not return true", ErrBadResponse, method)
	}
	return nil
}

func checkNamed(processID string, messageIDs []string) error {
	switch {
	case strings.TrimSpace(processID) == "":
		return ErrProcessID
	case len(messageIDs) == 0:
		return ErrNothingNamed
	case !slices.ContainsFunc(messageIDs, func(id string) bool { return !isMessageID(id) }):
		return nil
	default:
		return ErrMessageID
	}
}

// isMessageID reports whether the portal accepts a message ID. Like the portal, it ignores spaces
// around it.
func isMessageID(id string) bool {
	return utf8.RuneCountInString(strings.TrimSpace(id)) == messageIDLength
}
