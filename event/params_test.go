package event_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
)

func TestParamsKeepTheirOrder(t *testing.T) {
	t.Parallel()
	p := event.Params{
		{Name: "TASKID", Value: 8017},
		{Name: "ITEMID", Value: "3157"},
		{Name: "FILTER", Value: event.Params{{Name: ">Z", Value: true}, {Name: "A", Value: nil}}},
		{Name: "a\"b", Value: []int{1}},
	}
	doc, err := json.Marshal(p)
	require.NoError(t, err)
	require.Equal(t, `{"TASKID":8017,"ITEMID":"3157","FILTER":{"\u003eZ":true,"A":null},"a\"b":[1]}`, string(doc)) //nolint:testifylint // the order counts
	var names []string
	for name := range p.All() {
		names = append(names, name)
		if len(names) == 2 {
			break
		}
	}
	require.Equal(t, []string{"TASKID", "ITEMID"}, names)

	doc, err = json.Marshal(event.Params(nil))
	require.NoError(t, err)
	require.Equal(t, "{}", string(doc)) //nolint:testifylint // not only the same JSON
	_, err = json.Marshal(event.Params{{Name: "x", Value: func() {}}})
	require.Error(t, err)
}
