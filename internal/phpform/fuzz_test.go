package phpform_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/phpform"
)

// roomy allows everything that the fuzzer makes, and its escapes.
var roomy = phpform.Limits{Bytes: 1 << 26, Keys: 1 << 24, Depth: 1 << 12}

func FuzzDecode(f *testing.F) {
	for _, body := range realBodies(f) {
		f.Add(body)
	}
	for _, body := range oddBodies() {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		tight := phpform.Limits{Bytes: 4096, Keys: 20, Depth: 3}
		v, err := phpform.Decode(body, tight)
		require.Equal(t, phpform.Array, v.Kind())
		checkLimitError(t, err)
		require.Equal(t, len(body) > tight.Bytes, errors.Is(err, phpform.ErrTooLarge))
		keys, depth := size(v)
		require.LessOrEqual(t, keys, tight.Keys)
		require.LessOrEqual(t, depth-1, tight.Depth)

		v, err = phpform.Decode(body, roomy)
		if err != nil {
			require.ErrorIs(t, err, phpform.ErrTooDeep)
			return
		}
		again, err := phpform.Decode(phpform.Encode(v), roomy)
		require.NoError(t, err)
		require.Equal(t, describe(treeOf(v)), describe(treeOf(again)))
		checkJSON(t, v)
	})
}

func FuzzDecodeJSON(f *testing.F) {
	for _, body := range realBodies(f) {
		v, err := phpform.Decode(body, phpform.Limits{})
		require.NoError(f, err)
		f.Add(v.AppendJSON(nil))
	}
	for _, c := range jsonCases() {
		f.Add([]byte(c.doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		tight := phpform.Limits{Bytes: 4096, Keys: 20, Depth: 3}
		v, err := phpform.DecodeJSON(doc, tight)
		if !errors.Is(err, phpform.ErrSyntax) {
			checkLimitError(t, err)
		}
		keys, depth := size(v)
		require.LessOrEqual(t, keys, tight.Keys)
		require.LessOrEqual(t, depth-1, tight.Depth)

		v, err = phpform.DecodeJSON(doc, roomy)
		if errors.Is(err, phpform.ErrTooDeep) {
			return
		}
		require.Equal(t, json.Valid(doc), err == nil)
		if err != nil {
			require.ErrorIs(t, err, phpform.ErrSyntax)
			return
		}
		if utf8.Valid(doc) { // encoding/json replaces each bad byte, this package each run of them
			numbers := json.NewDecoder(bytes.NewReader(doc))
			numbers.UseNumber()
			var want any
			require.NoError(t, numbers.Decode(&want))
			require.Equal(t, asMaps(want), asMaps(mapsOf(v)))
		}
		checkJSON(t, v)
	})
}

// checkLimitError accepts nil and a LimitError that matches exactly one sentinel.
func checkLimitError(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	var limit *phpform.LimitError
	require.ErrorAs(t, err, &limit)
	matches := 0
	for _, sentinel := range []error{phpform.ErrTooLarge, phpform.ErrTooManyKeys, phpform.ErrTooDeep} {
		if errors.Is(err, sentinel) {
			matches++
		}
	}
	require.Equal(t, 1, matches)
}

// checkJSON checks that the JSON text of v is valid and decodes to v.
func checkJSON(t *testing.T, v phpform.Value) {
	t.Helper()
	doc := v.AppendJSON([]byte("x"))[1:]
	require.True(t, json.Valid(doc))
	require.True(t, utf8.Valid(doc))
	again, err := phpform.DecodeJSON(doc, roomy)
	require.NoError(t, err)
	if keysAreUTF8(v) { // keys that are not may become equal
		require.Equal(t, doc, again.AppendJSON(nil))
	}
}

func keysAreUTF8(v phpform.Value) bool {
	for _, e := range v.Entries() {
		if !utf8.ValidString(e.Key) || !keysAreUTF8(e.Value) {
			return false
		}
	}
	return true
}

// size counts the elements of a tree and the levels of arrays in it.
func size(v phpform.Value) (keys, depth int) {
	if v.Kind() != phpform.Array {
		return 0, 0
	}
	for _, e := range v.Entries() {
		k, d := size(e.Value)
		keys += k + 1
		depth = max(depth, d)
	}
	return keys, depth + 1
}

// mapsOf is Any without lists.
func mapsOf(v phpform.Value) any {
	if v.Kind() != phpform.Array {
		return v.Any()
	}
	m := map[string]any{}
	for _, e := range v.Entries() {
		m[e.Key] = mapsOf(e.Value)
	}
	return m
}

// asMaps turns the slices of a tree into maps.
func asMaps(v any) any {
	m := map[string]any{}
	switch v := v.(type) {
	case []any:
		for i, item := range v {
			m[strconv.Itoa(i)] = asMaps(item)
		}
	case map[string]any:
		for key, item := range v {
			m[key] = asMaps(item)
		}
	default:
		return v
	}
	return m
}
