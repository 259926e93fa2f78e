package rest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/b24events/b24events/internal/batch"
)

// maxName bounds the names of commands, in bytes.
const maxName = 64

// Batch collects calls of several methods, and [Client.Batch] sends 50 of them with each request.
// [Add] adds a command:
//
//	b := rest.NewBatch()
//	deal := rest.Add[Deal](b, "deal", "crm.deal.get", map[string]any{"id": 42})
//	contact := rest.Add[Contact](b, "contact", "crm.contact.get", map[string]any{"id": deal.Ref("CONTACT_ID")})
//	if err := client.Batch(ctx, b); err != nil {
//		return err // the request failed, and nothing is known about its commands
//	}
//	c, err := contact.Result()
//
// A Batch is for one goroutine. The zero value is an empty batch.
//
// Source: https://apidocs.bitrix24.com/settings/how-to-call-rest-api/batch.html
type Batch struct {
	halt  bool
	items []*item
	names map[string]int // by name, the position in items
	err   error          // of the first command that cannot be sent
}

// item is one command and its outcome.
type item struct {
	name, method, form string
	refs               []int // the positions of the commands that it refers to
	response           *Response
	err                *Error
	requestErr         error // of the request that held the command
}

// NewBatch returns an empty batch.
func NewBatch() *Batch { return &Batch{} }

// Halt makes the portal stop at the first command that fails. Those after it get [ErrNotRun].
func (b *Batch) Halt() { b.halt = true }

// Len returns the number of commands.
func (b *Batch) Len() int { return len(b.items) }

// Err returns the failures of all commands, joined, or nil if each succeeded. Its method NotRun
// returns true only if none of the commands ran: otherwise sending the batch again would run some
// of them twice.
func (b *Batch) Err() error {
	var errs batchError
	for _, i := range b.items {
		if _, err := i.outcome(); err != nil {
			errs.failures = append(errs.failures, err)
		} else {
			errs.ran = true
		}
	}
	if len(errs.failures) == 0 {
		return nil
	}
	return &errs
}

// batchError is the failures of the commands of a batch.
type batchError struct {
	failures []error
	ran      bool // one command at least succeeded
}

func (e *batchError) Error() string   { return errors.Join(e.failures...).Error() }
func (e *batchError) Unwrap() []error { return e.failures }

// NotRun reports whether no command ran.
func (e *batchError) NotRun() bool {
	return !e.ran && !slices.ContainsFunc(e.failures, func(err error) bool { return !surelyNotRun(err) })
}

// Format prints the number of commands and not their parameters.
func (b *Batch) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "rest.Batch(%d commands)", len(b.items))
}

// Command is a call in a [Batch], whose result is a T.
type Command[T any] struct {
	batch *Batch
	item  *item
	at    int // its position in the batch
}

// Add adds a command to a batch. The name consists of letters, digits and underscores, starts with
// a letter, and is unique in the batch. Parameters are as in [Client.Call] and are encoded here, so
// you may change them afterwards. If the name, the method, the parameters or the result type are
// not usable, [Client.Batch] returns the error. Portals refuse the methods batch, upload and
// download in a batch, and so does Add. It also refuses the parameter auth_connector, which applies
// to whole requests.
//
// Only a [Ref] refers to the result of an earlier command. Add refuses a text or key that reads
// like a reference, for example $result[name], because the portal would replace it and it cannot be
// escaped. So if a batch copies the titles of deals, anyone who can write such a title can make it
// fail. Send texts of strangers by [Client.Call], or through a [Coalescer], which sends such a call
// by itself.
func Add[T any](b *Batch, name, method string, params any) *Command[T] {
	i := &item{name: name, method: method}
	if b.names == nil {
		b.names = make(map[string]int)
	}
	if err := b.encode(i, params); err != nil {
		b.refuse(method, err)
	} else if err := rules.Check(reflect.TypeFor[T]()); err != nil {
		b.refuse(method, fmt.Errorf("a result cannot go into a %s: %w", reflect.TypeFor[T](), err))
	}
	c := &Command[T]{batch: b, item: i, at: len(b.items)}
	b.names[name] = c.at
	b.items = append(b.items, i)
	return c
}

func (b *Batch) refuse(method string, err error) {
	if b.err != nil {
		return
	}
	if !validMethod(method) {
		method = ""
	}
	b.err = &Error{Method: method, Code: ErrBadCall, Description: err.Error()}
}

func (b *Batch) encode(i *item, params any) error {
	_, taken := b.names[i.name]
	switch {
	case !consists(i.name, letters+digits+"_") || !strings.Contains(letters, i.name[:1]) || len(i.name) > maxName:
		return errors.New("the name of a batch's command must start with a letter, and hold only letters, digits and underscores")
	case taken:
		return fmt.Errorf("the batch has two commands with the name %s", i.name)
	case !validMethod(i.method):
		return errors.New("a method's name holds only letters, digits, underscores, and dots between them")
	case !batch.Takes(i.method):
		return errors.New("portals refuse this method in a batch; call it by itself")
	}
	form, err := encodeParams(params, b.refs(i))
	switch {
	case err != nil:
		return err
	case hasConnector(form.Text):
		return errors.New("auth_connector holds for a whole request; call this method by itself")
	case form.Suspect:
		return errors.New("parameters: the portal would take a text or key, such as $result[name], for a reference; " +
			"use Command.Ref for a reference, and call the method by itself for such a text")
	}
	i.form = form.Text
	return nil
}

// Result returns the command's result, decoded as by [Response.Decode], or its [*Error]. It returns
// [ErrNotRun] if the batch was not sent or stopped before the command. If the request failed, it
// returns that error with this method's name.
func (c *Command[T]) Result() (T, error) {
	var result T
	response, err := c.item.outcome()
	if err != nil {
		return result, err
	}
	err = response.decode(c.item.method, &result)
	return result, err
}

// Response returns the command's whole response, with the counts of list methods and the timing, or
// an error as Result does.
func (c *Command[T]) Response() (*Response, error) { return c.item.outcome() }

// Format prints the command's method and not its parameters.
func (c *Command[T]) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "rest.Command(%s)", c.item.method)
}

func (i *item) outcome() (*Response, error) {
	switch {
	case i.requestErr != nil:
		return nil, withMethod(i.requestErr, i.method)
	case i.err != nil:
		return nil, i.err
	case i.response == nil:
		return nil, &Error{Method: i.method, Code: ErrNotRun}
	default:
		return i.response, nil
	}
}

// Batch sends a batch. Its commands run in the order in which they were added, 50 with each
// request. A batch of more than 50 is split between commands that do not refer to each other.
//
// The error is the error of a request, or [ErrBadCall] if a command cannot be sent or references
// join more than 50 commands; then nothing was sent. It says nothing about commands that failed:
// ask each for its Result, or b for Err. After a failed request, earlier commands keep their
// results, and later ones are not sent.
//
// As for other calls, an expired token is renewed once, and a request that surely did not run is
// retried. A single command that fails is not retried, because later ones may have used its result.
// Sending a batch again replaces its results.
func (c *Client) Batch(ctx context.Context, b *Batch) error {
	switch {
	case c.opts.err != nil:
		return &Error{Method: batch.Method, Code: ErrBadCall, Description: c.opts.err.Error()}
	case b.err != nil:
		return b.err
	}
	ctx, cancel := c.opts.within(ctx)
	defer cancel()
	chunks, err := b.split()
	if err != nil {
		return err
	}
	for _, i := range b.items {
		i.response, i.err, i.requestErr = nil, nil, nil
	}
	for n, chunk := range chunks {
		if _, err := c.run(ctx, batchCall(chunk, batchOptions{halt: b.halt, idempotent: c.opts.idempotent, retries: c.retries()})); err != nil {
			whole := err
			if n > 0 && surelyNotRun(err) {
				whole = withMayHaveRun(err) // those before it ran
			}
			for _, i := range chunk {
				i.response, i.err, i.requestErr = nil, nil, err
			}
			return whole
		}
		if b.halt && slices.ContainsFunc(chunk, func(i *item) bool { return i.err != nil }) {
			return nil
		}
	}
	return nil
}

// split cuts the batch into requests, between commands that no reference joins.
func (b *Batch) split() ([][]*item, error) {
	n := len(b.items)
	first := make([]int, n+1) // the earliest command that i or a later one refers to
	first[n] = n
	for i := n - 1; i >= 0; i-- {
		first[i] = min(i, first[i+1])
		for _, ref := range b.items[i].refs {
			first[i] = min(first[i], ref)
		}
	}
	var chunks [][]*item
	for start := 0; start < n; {
		end := min(start+batch.Max, n)
		for end > start && first[end] < end {
			end--
		}
		if end == start {
			return nil, &Error{Method: batch.Method, Code: ErrBadCall, Description: "more than 50 commands hang together by references; " +
				"add commands that refer to each other one after the other, or read a result before the next batch"}
		}
		chunks = append(chunks, b.items[start:end])
		start = end
	}
	return chunks, nil
}
