package values_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/phpform"
	"github.com/b24events/b24events/internal/values"
)

func TestText(t *testing.T) {
	t.Parallel()
	require.Equal(t, "a b", values.Text(phpform.Text(" a b\n")))
	require.Equal(t, "7", values.Text(phpform.Int(7)))
	for _, v := range []phpform.Value{{}, phpform.Text("undefined"), phpform.Text(" "), phpform.Boolean(false), phpform.List(phpform.Int(7))} {
		require.Empty(t, values.Text(v))
	}
}

func TestUnix(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		v    phpform.Value
		want time.Time
		ok   bool
	}{
		"seconds":         {phpform.Text(" 1700000000 "), time.Unix(1700000000, 0).UTC(), true},
		"zero":            {phpform.Int(0), time.Unix(0, 0).UTC(), true},
		"empty":           {phpform.Text(""), time.Time{}, true},
		"nothing":         {phpform.Value{}, time.Time{}, true},
		"a fraction":      {phpform.Text("1.5"), time.Time{}, false},
		"negative":        {phpform.Int(-1), time.Time{}, false},
		"beyond the year": {phpform.Int(253402300800), time.Time{}, false},
		"a list":          {phpform.List(phpform.Int(1)), time.Time{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := values.Unix(c.v)
			require.Equal(t, c.ok, ok)
			require.Equal(t, c.want, got)
		})
	}
}
