package phpform_test

import (
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/phpform"
)

func TestScalars(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		v    phpform.Value
		kind phpform.Kind
		text string
	}{
		{"zero", phpform.Value{}, phpform.Null, ""},
		{"text", phpform.Text("a"), phpform.String, "a"},
		{"number", phpform.NumberText("1.50"), phpform.Number, "1.50"},
		{"int", phpform.Int(-7), phpform.Number, "-7"},
		{"true", phpform.Boolean(true), phpform.Bool, "1"},
		{"false", phpform.Boolean(false), phpform.Bool, ""},
		{"array", phpform.List(phpform.Int(1)), phpform.Array, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.kind, c.v.Kind())
			require.Equal(t, c.text, c.v.Scalar())
			if c.kind == phpform.Array {
				return
			}
			require.Zero(t, c.v.Len())
			require.Empty(t, c.v.Entries())
			_, ok := c.v.Get("")
			require.False(t, ok)
			_, ok = c.v.GetFold("")
			require.False(t, ok)
			_, ok = c.v.Items()
			require.False(t, ok)
		})
	}
}

func TestGetFold(t *testing.T) {
	t.Parallel()
	v := phpform.Map(
		phpform.Entry{Key: "Id", Value: phpform.Int(1)},
		phpform.Entry{Key: "ID", Value: phpform.Int(2)},
		phpform.Entry{Key: "имя", Value: phpform.Int(3)},
	)
	for key, want := range map[string]int64{"ID": 2, "Id": 1, "id": 1, "iD": 1, "ИМЯ": 3} {
		got, ok := v.GetFold(key)
		require.True(t, ok)
		require.Equal(t, phpform.Int(want), got)
	}
	_, ok := v.GetFold("I")
	require.False(t, ok)
	_, ok = v.Get("id")
	require.False(t, ok)
}

func TestItems(t *testing.T) {
	t.Parallel()
	entry := func(key string, n int64) phpform.Entry { return phpform.Entry{Key: key, Value: phpform.Int(n)} }
	for _, c := range []struct {
		name string
		v    phpform.Value
		want []phpform.Value // nil: no list
	}{
		{"empty", phpform.Map(), []phpform.Value{}},
		{"list", phpform.List(phpform.Int(5), phpform.Int(6)), []phpform.Value{phpform.Int(5), phpform.Int(6)}},
		{"out of order", phpform.Map(entry("1", 6), entry("0", 5)), []phpform.Value{phpform.Int(5), phpform.Int(6)}},
		{"gap", phpform.Map(entry("0", 5), entry("2", 6)), nil},
		{"from one", phpform.Map(entry("1", 5)), nil},
		{"negative", phpform.Map(entry("-1", 5), entry("0", 5)), nil},
		{"not canonical", phpform.Map(entry("0", 5), entry("01", 6)), nil},
		{"no digit", phpform.Map(entry("0", 5), entry("x", 6)), nil},
		{"empty key", phpform.Map(entry("", 5)), nil},
		{"long number", phpform.Map(entry("12345678901234567890", 5)), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, ok := c.v.Items()
			require.Equal(t, c.want != nil, ok)
			require.Equal(t, c.want, got)
		})
	}
}

func TestGetOfALargeArray(t *testing.T) {
	t.Parallel()
	const n = 20_000
	var entries []phpform.Entry
	for i := range n {
		entries = append(entries, phpform.Entry{Key: "k" + strconv.Itoa(i), Value: phpform.Int(int64(i))})
	}
	v := phpform.Map(entries...)
	var wg sync.WaitGroup
	for range 8 { // one of them makes the index
		wg.Go(func() {
			for i := range n {
				got, ok := v.Get("k" + strconv.Itoa(i))
				if !ok || got.Scalar() != strconv.Itoa(i) {
					t.Errorf("key %d is not found", i)
					return
				}
			}
			if _, ok := v.Get("5"); ok {
				t.Error("a key that is not there is found")
			}
		})
	}
	wg.Wait()
}

func TestGetOfALargeList(t *testing.T) {
	t.Parallel()
	v := phpform.List(make([]phpform.Value, 500)...)
	for key, want := range map[string]bool{"0": true, "499": true, "500": false, "01": false, "-1": false, "": false} {
		_, ok := v.Get(key)
		require.Equal(t, want, ok, key)
	}
}

func TestFormatShowsNoContent(t *testing.T) {
	t.Parallel()
	secret := phpform.Text("s3cr3t")
	type holder struct{ V phpform.Value }
	for _, v := range []phpform.Value{secret, phpform.NumberText("s3cr3t"), phpform.Map(phpform.Entry{Key: "s3cr3t", Value: secret})} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			for _, arg := range []any{v, &v, holder{v}, []phpform.Value{v}} {
				text := fmt.Sprintf(verb, arg)
				require.NotContains(t, text, "s3cr3t")
				require.NotContains(t, text, "733363723374")
			}
		}
	}
	require.Equal(t, "phpform.string(6)", fmt.Sprint(secret))
	require.Equal(t, "phpform.array(2)", fmt.Sprint(phpform.List(secret, secret)))
	require.Equal(t, "phpform.null(0)", fmt.Sprint(phpform.Value{}))
}

func TestCursor(t *testing.T) {
	t.Parallel()
	built := phpform.Map(
		phpform.Entry{Key: "a", Value: phpform.Text("1")},
		phpform.Entry{Key: "", Value: phpform.List(phpform.Int(2), phpform.Boolean(true))},
		phpform.Entry{Key: "c", Value: phpform.Value{}},
	)
	for name, v := range map[string]phpform.Value{
		"built": built, "packed": built.Pack(), "empty": phpform.Map(), "scalar": phpform.Text("text"), "null": {},
		"list": phpform.List(phpform.Int(2), phpform.Text("")).Pack(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var entries []phpform.Entry
			c := v.Cursor()
			for c.Next() {
				entries = append(entries, phpform.Entry{Key: c.Key, Value: c.Value})
				require.Equal(t, c.Value, v.At(c.Position()))
			}
			require.False(t, c.Next(), "there is no more")
			require.Equal(t, v.Entries(), entries)
		})
	}
}
