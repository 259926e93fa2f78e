package webhook

import "fmt"

// Health returns nil if the Handler can accept deliveries and handle them. Otherwise it returns
// [ErrShutdown], or an error that matches [ErrNotStored] if the last commit of the store failed or
// is slow, or the error of a feed. A failure counts for ten seconds if nothing is committed after
// it. Health makes no calls and returns at once, so a load balancer's health check can use it.
func (h *Handler) Health() error {
	if h.intake.Err() != nil {
		return ErrShutdown
	}
	if h.durable == nil {
		return nil
	}
	return h.durable.health()
}

// health returns an error if the store does not work, or if no partition can be had.
func (w *durable) health() error {
	if err := w.journal.health(); err != nil {
		return err
	}
	if err := w.loader.health(); err != nil {
		return fmt.Errorf("webhook: load: %w", err)
	}
	w.mu.Lock()
	shares, owns := w.shares, false
	for i := range w.partitions {
		owns = owns || w.partitions[i].tenure != nil
	}
	w.mu.Unlock()
	if shares != nil && !owns && shares.Failing() {
		return errNoLeases
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.partitions {
		if t := w.partitions[i].tenure; t != nil && t.failed != nil {
			return fmt.Errorf("webhook: feed of partition %d: %w", i, t.failed)
		}
	}
	return nil
}
