package webhooktest

import (
	"context"
	"strings"
	"time"
)

type memoryLease struct {
	owner string
	until time.Time
}

// Acquire implements [webhook.Leaser].
func (m *MemoryStore) Acquire(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error) {
	if err := m.begin(ctx, Call{Op: OpAcquire, Owner: owner, Names: names}); err != nil {
		return nil, err
	}
	d := m.data
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	var held []string
	for _, name := range names {
		if l, taken := d.leases[name]; taken && l.owner != owner && l.until.After(now) {
			continue
		}
		d.leases[name] = memoryLease{owner, now.Add(ttl)}
		held = append(held, name)
	}
	return held, nil
}

// Release implements [webhook.Leaser].
func (m *MemoryStore) Release(ctx context.Context, owner string, names ...string) error {
	if err := m.begin(ctx, Call{Op: OpRelease, Owner: owner, Names: names}); err != nil {
		return err
	}
	d := m.data
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range names {
		if d.leases[name].owner == owner {
			delete(d.leases, name)
		}
	}
	return nil
}

// Held implements [webhook.Leaser].
func (m *MemoryStore) Held(ctx context.Context, prefix string) (map[string]string, error) {
	if err := m.begin(ctx, Call{Op: OpHeld}); err != nil {
		return nil, err
	}
	d := m.data
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	owners := make(map[string]string)
	for name, l := range d.leases {
		if l.until.After(now) && strings.HasPrefix(name, prefix) {
			owners[name] = l.owner
		}
	}
	return owners, nil
}
