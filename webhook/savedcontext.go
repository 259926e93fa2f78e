package webhook

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
	"github.com/b24events/b24events/internal/typednil"
)

const (
	// MaxSavedContext is the longest text that [WithSavedContext] keeps, in bytes.
	MaxSavedContext = 1024
	// maxSavedKey is the longest key, in bytes.
	maxSavedKey = 32
	// maxSavedTexts is how many texts a record has at most.
	maxSavedTexts = 8
)

// savedContext is one use of WithSavedContext.
type savedContext struct {
	key     string
	save    func(context.Context, *http.Request) string
	restore func(context.Context, string) context.Context
}

// savedTexts are what a record keeps of its request, by key.
type savedTexts map[string]string

// WithSavedContext carries something of a request to the handlers of its delivery through any
// queue, also a [Store], for example the context of a trace.
//
// save runs within the request, after the delivery was verified, with the context of the request.
// It returns a text of up to [MaxSavedContext] bytes, which is stored with the delivery, encrypted
// if there is a key. If it returns an empty text, nothing is stored. If the text is longer, or save
// panics, the delivery goes on without it and the log says so.
//
// restore runs before each attempt, in any process that works the store. Without a store it runs
// once, within the request. It gets a context with the values of options before it, and the text.
// It returns a context with values for the handler. Its end and its deadline are not
// looked at. It is not called for a delivery that has no text under the key. A panic in it is
// logged, and the handler runs without the values. The text is as old as the delivery, so a later
// version of the program must be able to read what an earlier one saved.
//
// key names the text: up to 32 lower-case letters, digits and underscores. Each key may be used
// once, and there may be eight.
func WithSavedContext(
	key string, save func(ctx context.Context, r *http.Request) string, restore func(ctx context.Context, saved string) context.Context,
) Option {
	return func(c *config) error {
		switch {
		case save == nil || restore == nil:
			return misconfigured("WithSavedContext: a function is nil")
		case key == "" || len(key) > maxSavedKey || strings.Trim(key, "abcdefghijklmnopqrstuvwxyz0123456789_") != "":
			return misconfigured("WithSavedContext: the key must be 1 to %d lower-case letters, digits and underscores", maxSavedKey)
		case len(c.saved) == maxSavedTexts:
			return misconfigured("WithSavedContext: more than %d texts", maxSavedTexts)
		}
		for _, other := range c.saved {
			if other.key == key {
				return misconfigured("WithSavedContext: the key %s is used twice", key)
			}
		}
		c.saved = append(c.saved, savedContext{key, save, restore})
		return nil
	}
}

var errSavedTooLong = errors.New("webhook: the text to be stored is too long")

// saveContext returns what the options keep of a request.
func (h *Handler) saveContext(r *http.Request, d *event.Delivery) savedTexts {
	var all savedTexts
	for _, s := range h.cfg.saved {
		text := ""
		err := guardGoexit(func() error { //nolint:contextcheck // save gets the context of the request
			if text = s.save(r.Context(), r); len(text) > MaxSavedContext {
				return errSavedTooLong
			}
			return nil
		}, func() {})
		switch {
		case err != nil:
			h.log.emit(r.Context(), slog.LevelError, "webhook: the context of a request could not be saved",
				identity(d, slog.String(KeyError, errorText(nil, err)))...)
		case text != "":
			if all == nil {
				all = make(savedTexts, len(h.cfg.saved))
			}
			all[s.key] = strings.Clone(text) // a router may reuse the memory of its request
		}
	}
	return all
}

// restoredContext ends with one context, and has the values of another in addition.
type restoredContext struct {
	context.Context //nolint:containedctx // it is one

	values context.Context //nolint:containedctx // of restore functions
}

// Value returns a value of the attempt, or else one that was restored.
func (c restoredContext) Value(key any) any {
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.values.Value(key)
}

// restore returns the context of an attempt with what was saved of the request.
func (w *durable) restore(ctx context.Context, d *event.Delivery, saved savedTexts) context.Context {
	if len(saved) == 0 || len(w.cfg.saved) == 0 {
		return ctx
	}
	return restoredContext{ctx, restoreValues(context.Background(), w.log, w.cfg.saved, d, saved)}
}

// restoreValues returns values with what was saved of a request.
func (h *Handler) restoreValues(values context.Context, d *event.Delivery, saved savedTexts) context.Context {
	return restoreValues(values, h.log, h.cfg.saved, d, saved)
}

func restoreValues(values context.Context, log eventLog, options []savedContext, d *event.Delivery, saved savedTexts) context.Context {
	for _, s := range options {
		text, ok := saved[s.key]
		if !ok {
			continue
		}
		err := dispatch.Guard(func() error {
			if restored := s.restore(values, text); !typednil.Is(restored) {
				values = restored //nolint:fatcontext // each option adds to it
			}
			return nil
		})
		if err != nil {
			log.emit(context.Background(), slog.LevelError, "webhook: the saved context of a delivery could not be restored",
				identity(d, slog.String(KeyError, errorText(nil, err)))...)
		}
	}
	return values
}

// append appends the texts to dst: their number, and the key and the text of each, with lengths
// before them.
func (t savedTexts) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(t)))
	for key, text := range t {
		dst = append(binary.AppendUvarint(dst, uint64(len(key))), key...)
		dst = append(binary.AppendUvarint(dst, uint64(len(text))), text...)
	}
	return dst
}

// parseSaved reads what append wrote, and returns what follows it.
func parseSaved(doc []byte) (t savedTexts, rest []byte, ok bool) {
	n, rest, ok := cutNumber(doc, maxSavedTexts)
	if !ok {
		return nil, nil, false
	}
	t = make(savedTexts, n)
	for range n {
		var key, text string
		if key, rest, ok = cutText(rest, maxSavedKey); !ok {
			return nil, nil, false
		}
		if text, rest, ok = cutText(rest, MaxSavedContext); !ok {
			return nil, nil, false
		}
		t[key] = text
	}
	return t, rest, true
}

// cutNumber reads a number up to most.
func cutNumber(doc []byte, most int) (n int, rest []byte, ok bool) {
	v, size := binary.Uvarint(doc)
	if size <= 0 || v > uint64(most) { //nolint:gosec // most is not negative
		return 0, nil, false
	}
	return int(v), doc[size:], true //nolint:gosec // at most most
}

// cutText reads a text of up to most bytes.
func cutText(doc []byte, most int) (text string, rest []byte, ok bool) {
	n, rest, ok := cutNumber(doc, most)
	if !ok || n > len(rest) {
		return "", nil, false
	}
	return string(rest[:n]), rest[n:], true
}
