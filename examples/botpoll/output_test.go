package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/examples/internal/program"
)

// broken is an output whose reader has gone away.
type broken struct{}

var errBroken = errors.New("broken pipe")

func (broken) Write([]byte) (int, error) { return 0, errBroken }

// An error names what cannot be written, once.
func TestOutputErrors(t *testing.T) {
	t.Parallel()
	o, err := openOutput("-", broken{})
	require.NoError(t, err)
	err = o.append([]byte("{}\n"))
	require.ErrorIs(t, err, errBroken)
	require.ErrorAs(t, err, new(*program.OutputError))
	require.EqualError(t, err, "writing to stdout: broken pipe")

	o, err = openOutput(filepath.Join(t.TempDir(), "out"), broken{})
	require.NoError(t, err)
	require.NoError(t, o.append([]byte("{}\n")))
	require.NoError(t, o.close())
	err = o.append([]byte("{}\n"))
	require.ErrorIs(t, err, os.ErrClosed)
	require.ErrorContains(t, err, "OUT cannot be written")
	require.NotContains(t, err.Error(), "stdout")
}
