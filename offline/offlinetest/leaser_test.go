package offlinetest_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/offline"
	"github.com/b24events/b24events/offline/offlinetest"
)

func TestMemoryLeaser(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	offlinetest.TestLeaser(t, func(*testing.T) offline.Leaser { return offline.NewMemoryLeaser() })
}

// faultEnv names the fault of the leaser that a process of its own runs the suite on.
const faultEnv = "OFFLINETEST_FAULT"

// broken is a good leaser, but for one fault.
type broken struct {
	*offline.MemoryLeaser
	fault string
}

func (b broken) Acquire(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error) {
	switch b.fault {
	case "gives to all":
		return names, nil
	case "all or nothing":
		held, err := b.MemoryLeaser.Acquire(ctx, owner, ttl, names...)
		if len(held) < len(names) {
			return nil, err
		}
		return held, err
	case "never ends":
		ttl = time.Hour
	case "ends early":
		ttl /= 3
	case "does not renew":
		held, err := b.Held(ctx, "")
		if err != nil {
			return nil, err
		}
		var mine []string
		for _, name := range names {
			if held[name] == owner {
				mine = append(mine, name)
				continue
			}
			got, err := b.MemoryLeaser.Acquire(ctx, owner, ttl, name)
			if err != nil {
				return nil, err
			}
			mine = append(mine, got...)
		}
		return mine, nil
	case "trims names":
		for i, name := range names {
			if held, err := b.MemoryLeaser.Acquire(ctx, owner, ttl, strings.TrimSpace(name)); err != nil || len(held) == 0 {
				return names[:i], err
			}
		}
		return names, nil
	case "takes few names":
		names = names[:min(len(names), 500)]
	case "ignores the context":
		ctx = context.WithoutCancel(ctx)
	}
	return b.MemoryLeaser.Acquire(ctx, owner, ttl, names...)
}

func (b broken) Release(ctx context.Context, owner string, names ...string) error {
	if b.fault == "releases others'" {
		held, err := b.MemoryLeaser.Held(ctx, "")
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := b.MemoryLeaser.Release(ctx, held[name], name); err != nil {
				return err
			}
		}
		return nil
	}
	return b.MemoryLeaser.Release(ctx, owner, names...)
}

func (b broken) Held(ctx context.Context, prefix string) (map[string]string, error) {
	held, err := b.MemoryLeaser.Held(ctx, "")
	for name := range held {
		match := strings.HasPrefix(name, prefix)
		switch b.fault {
		case "ignores case":
			match = strings.HasPrefix(strings.ToLower(name), strings.ToLower(prefix))
		case "takes prefixes for patterns":
			match = match || strings.HasPrefix(strings.ReplaceAll(name, "x", "_"), prefix)
		}
		if !match {
			delete(held, name)
		}
	}
	return held, err
}

// TestBrokenLeaser is what the processes of TestSuiteFindsFaults run.
func TestBrokenLeaser(t *testing.T) {
	t.Parallel()
	fault := os.Getenv(faultEnv)
	if fault == "" {
		t.Skip("for the processes of TestSuiteFindsFaults only")
	}
	offlinetest.TestLeaser(t, func(*testing.T) offline.Leaser { return broken{offline.NewMemoryLeaser(), fault} })
}

func TestSuiteFindsFaults(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	self, err := os.Executable()
	require.NoError(t, err)
	for fault, found := range map[string]string{
		"gives to all": "one owner", "all or nothing": "one owner", "never ends": "run out", "ends early": "run out", "does not renew": "renewed",
		"trims names": "names byte by byte", "takes few names": "very many", "ignores the context": "ended context", "releases others'": "released",
		"ignores case": "prefixes", "takes prefixes for patterns": "prefixes",
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			found = strings.ReplaceAll(found, " ", "_")
			waits := fault == "never ends" || fault == "does not renew" // half a minute, for what does not come
			args := []string{"-test.run=^TestBrokenLeaser$/^" + found + "$"}
			if waits {
				args = append(args, "-test.timeout=4s")
			}
			c := exec.CommandContext(t.Context(), self, args...) //nolint:gosec // the test binary itself
			c.Env = append(os.Environ(), faultEnv+"="+fault)
			out, err := c.CombinedOutput()
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit, "%s", out)
			if !waits {
				require.Contains(t, string(out), "--- FAIL: TestBrokenLeaser/"+found)
			}
		})
	}
}
