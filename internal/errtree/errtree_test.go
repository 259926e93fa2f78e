package errtree_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/errtree"
)

var (
	errGone  = errors.New("gone")
	errOther = errors.New("other")
)

// alike matches errGone by its method.
type alike struct{ error }

func (alike) Is(target error) bool { return target == errGone }

func TestEvery(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err  error
		want bool
	}{
		"nil":                     {nil, false},
		"the sentinel":            {errGone, true},
		"another":                 {errOther, false},
		"wrapped twice":           {fmt.Errorf("a: %w", fmt.Errorf("b: %w", errGone)), true},
		"by its own method":       {alike{errOther}, true},
		"joined with its like":    {errors.Join(errGone, fmt.Errorf("a: %w", errGone)), true},
		"joined with another":     {errors.Join(errGone, errOther), false},
		"another joined with it":  {errors.Join(errOther, errGone), false},
		"two in one format":       {fmt.Errorf("%w; %w", errGone, errOther), false},
		"a join in a join":        {errors.Join(errGone, errors.Join(errGone, errOther)), false},
		"a match above a mixture": {alike{errors.Join(errGone, errOther)}, true},
		"a wrapper of nothing":    {empty{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.want, errtree.Every(tt.err, errtree.Is(errGone)))
		})
	}
}

// empty unwraps to no error.
type empty struct{}

func (empty) Error() string   { return "empty" }
func (empty) Unwrap() []error { return nil }

func TestBranches(t *testing.T) {
	t.Parallel()
	matches := func(err error) bool { return err == errGone || err == errOther } //nolint:errorlint // Branches unwraps
	deep := fmt.Errorf("a: %w", errors.Join(errOther, fmt.Errorf("b: %w", errors.Join(errors.New("no match"), errGone))))
	var all []error
	for err := range errtree.Branches(deep, matches) {
		all = append(all, err)
	}
	require.Equal(t, []error{errOther, nil, errGone}, all)
	for err := range errtree.Branches(deep, matches) {
		require.Equal(t, errOther, err)
		break // the rest is not looked at
	}
}
