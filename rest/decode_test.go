package rest_test

import (
	"encoding/json"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/rest"
)

// crmDeal is the struct that a reader of the method's page writes.
type crmDeal struct {
	ID          int64 `json:"ID"`
	Title       string
	Opportunity float64           `json:"OPPORTUNITY"`
	Closed      bool              `json:"CLOSED"`
	DateCreate  time.Time         `json:"DATE_CREATE"`
	BeginDate   *time.Time        `json:"BEGINDATE"`
	CompanyID   *int64            `json:"COMPANY_ID"`
	Contacts    []int64           `json:"CONTACT_IDS"`
	Phones      []map[string]any  `json:"PHONE"`
	Fields      map[string]string `json:"FIELDS"`
	Big         big.Int           `json:"BIG"`
}

func TestResultsByTheRulesForPayloads(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 1, 15, 0, 0, 0, 0, time.UTC)
	company := int64(17)
	for name, tc := range map[string]struct {
		result string
		want   crmDeal
	}{
		"texts": {
			`{"ID":"7","TITLE":"t","OPPORTUNITY":"1250.50","CLOSED":"Y","DATE_CREATE":"2026-01-15T03:00:00+03:00","BEGINDATE":"15.01.2026",` +
				`"COMPANY_ID":"17","CONTACT_IDS":["1","2"],"PHONE":[{"VALUE":"+49","N":1}],"FIELDS":{"A":1},"BIG":"123456789012345678901234567890"}`,
			crmDeal{
				ID: 7, Title: "t", Opportunity: 1250.5, Closed: true, DateCreate: began, BeginDate: &began, CompanyID: &company,
				Contacts: []int64{1, 2}, Phones: []map[string]any{{"VALUE": "+49", "N": 1.0}}, Fields: map[string]string{"A": "1"},
				Big: *bigOf("123456789012345678901234567890"),
			},
		},
		"numbers": {
			`{"id":7,"title":5,"OPPORTUNITY":1250,"CLOSED":true,"CONTACT_IDS":5,"BIG":7}`,
			crmDeal{ID: 7, Title: "5", Opportunity: 1250, Closed: true, Contacts: []int64{5}, Big: *big.NewInt(7)},
		},
		"empty": {
			`{"ID":"","TITLE":null,"OPPORTUNITY":"","CLOSED":"","DATE_CREATE":"","BEGINDATE":false,"COMPANY_ID":"","CONTACT_IDS":false,` +
				`"PHONE":"","FIELDS":"","BIG":""}`,
			crmDeal{},
		},
		"lists with gaps": {
			`{"CONTACT_IDS":{"1":"5","4":"6"},"FIELDS":["a"]}`, crmDeal{Contacts: []int64{5, 6}, Fields: map[string]string{"0": "a"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, _ := clientOf(t, says(200, `{"result":`+tc.result+`}`))
			got, err := rest.Call[crmDeal](t.Context(), client, "crm.deal.get", nil)
			require.NoError(t, err)
			require.True(t, tc.want.DateCreate.Equal(got.DateCreate))
			got.DateCreate = tc.want.DateCreate
			require.Equal(t, tc.want, got)
		})
	}
}

func bigOf(text string) *big.Int {
	n, _ := new(big.Int).SetString(text, 10)
	return n
}

func TestResultsThatDoNotFit(t *testing.T) {
	t.Parallel()
	type named struct {
		ID string `json:"ID"`
	}
	for name, tc := range map[string]struct {
		result      string
		into        any
		code        rest.ErrorCode
		description string
		hint        string
	}{
		"a fraction": {`{"ID":7.5}`, new(crmDeal), rest.ErrBadResult, "result.ID is not an integer of 64 bits", ""},
		"deep": {
			`[{"CONTACT_IDS":["1","planted-value"]}]`, new([]crmDeal), rest.ErrBadResult, "result.0.CONTACT_IDS.1 is not an integer of 64 bits", "",
		},
		"an object":    {`{"ID":{"planted-value":1}}`, new(named), rest.ErrBadResult, "result.ID is not a single value", ""},
		"another type": {`true`, new(named), rest.ErrBadResult, "result is not an object", ""},
		"around it": {
			`{"item":{"ID":1}}`, new(named), rest.ErrBadResult, "no field of rest_test.named stands in it",
			"the result has the member item: decode into a struct with that field",
		},
		"no identifier": {`{"planted-value":1}`, new(*named), rest.ErrBadResult, "no field of *rest_test.named stands in it", ""},
		"rows": {
			`[{"id_":1}]`, new([]named), rest.ErrBadResult, "no field of []rest_test.named stands in it",
			"the result has the member id_: decode into a struct with that field",
		},
		"list in object": {`{"tasks":[]}`, new([]named), rest.ErrBadResult, "result is not a list", ""},
		"channel": {
			`{"C":1}`, new(struct{ C chan int }), rest.ErrBadCall, "the method ran, but struct { C chan int }.C: no value fits a chan int", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := (&rest.Response{Result: json.RawMessage(tc.result)}).Decode(tc.into)
			var failure *rest.Error
			require.ErrorAs(t, err, &failure)
			require.Equal(t, tc.code, failure.Code)
			require.Equal(t, tc.description, failure.Description)
			require.Equal(t, tc.hint, failure.Hint)
			require.NotContains(t, err.Error(), "planted-value")

			client, _ := clientOf(t, says(200, `{"result":`+tc.result+`}`))
			err = client.Call(t.Context(), "crm.deal.get", nil, tc.into)
			require.ErrorIs(t, err, tc.code)
			require.ErrorAs(t, err, &failure)
			require.Equal(t, "crm.deal.get", failure.Method)
		})
	}
	got := []crmDeal{}
	require.Error(t, (&rest.Response{Result: json.RawMessage(`[{"ID":"x","TITLE":"t"},{"ID":2}]`)}).Decode(&got))
	require.Equal(t, []crmDeal{{Title: "t"}, {ID: 2}}, got, "what fits is there all the same")
}

func TestResultsThatAreNotBlank(t *testing.T) {
	t.Parallel()
	for result, into := range map[string]any{
		`{"x":1}`:            new(struct{}),
		`{"ID":1,"x":2}`:     new(crmDeal),
		`{"ID":null}`:        new(crmDeal),
		`{}`:                 new(crmDeal),
		`[]`:                 new([]crmDeal),
		`[{"x":1},{"ID":1}]`: new([]crmDeal),
		`{"a":{"x":1}}`:      new(map[string]any),
		`false`:              new(crmDeal),
		`{"ID":"7","n":1}`:   new(any),
	} {
		require.NoError(t, (&rest.Response{Result: json.RawMessage(result)}).Decode(into), result)
	}
	require.NoError(t, (&rest.Response{Result: json.RawMessage(`{"x":1}`)}).Decode(nil))
	require.ErrorIs(t, (&rest.Response{}).Decode(new(crmDeal)), rest.ErrBadResult)
}

func TestDataAsResult(t *testing.T) {
	t.Parallel()
	client, _ := clientOf(t, says(200, `{"result":{"item":{"id":7,"sum":1.50}}}`))
	data, err := rest.Call[event.Data](t.Context(), client, "crm.item.get", nil)
	require.NoError(t, err)
	require.Equal(t, `{"item":{"id":7,"sum":1.50}}`, string(data.JSON())) //nolint:testifylint // to the byte
}

// TestResultsOfEachKindOfCall: what comes as text is a number in all of them.
func TestResultsOfEachKindOfCall(t *testing.T) {
	t.Parallel()
	type row struct {
		ID     int64 `json:"ID"`
		Active bool  `json:"ACTIVE"`
	}
	want := row{ID: 7, Active: true}
	const result = `{"ID":"7","ACTIVE":"Y"}`

	client, _ := clientOf(t, says(200, `{"result":[`+result+`]}`))
	for got, err := range rest.All[row](t.Context(), client, "crm.deal.list", nil) {
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	client, _ = clientOf(t, says(200, `{"result":{"items":[{"NAME":"n"}]}}`))
	for _, err := range rest.All[row](t.Context(), client, "crm.item.list", nil) {
		require.ErrorIs(t, err, rest.ErrBadResult, "no row is blank")
	}

	client, _ = clientOf(t, says(200, `{"result":{"result":{"a":`+result+`,"b":{"NAME":"n"}}}}`))
	b := rest.NewBatch()
	good, blank := rest.Add[row](b, "a", "crm.deal.get", nil), rest.Add[row](b, "b", "crm.deal.get", nil)
	require.NoError(t, client.Batch(t.Context(), b))
	got, err := good.Result()
	require.NoError(t, err)
	require.Equal(t, want, got)
	_, err = blank.Result()
	require.ErrorIs(t, err, rest.ErrBadResult)

	client, _ = clientOf(t, says(200, `{"result":`+result+`}`))
	coalescer, err := rest.NewCoalescer(client)
	require.NoError(t, err)
	got, err = rest.Call[row](t.Context(), coalescer, "crm.deal.get", nil)
	require.NoError(t, err)
	require.Equal(t, want, got)
}
