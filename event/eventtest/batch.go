package eventtest

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/b24events/b24events/internal/phpform"
)

// maxBatch is the number of items that one batch runs.
const maxBatch = 50

// batchSections are the parts of a batch's response. Later items may refer to them: $result[key],
// $error[key] and so on.
type batchSections struct {
	result, failure, total, next, time []phpform.Entry

	budget int // bytes that references may still put into parameters; negative once they exceed the limit
}

func (p *Portal) batch(c *call) (reply, *apiError) {
	halt, _ := c.param("HALT")
	cmd, _ := c.param("CMD")
	s := batchSections{budget: maxBody}
	for i, item := range cmd.Entries() {
		if i >= maxBatch {
			s.fail(item.Key, fail(400, "ERROR_BATCH_LENGTH_EXCEEDED", "Max batch length exceeded"))
			continue
		}
		if item.Value.Kind() != phpform.String {
			continue // skipped silently
		}
		if apiErr := p.batchItem(c, &s, item.Key, item.Value.Scalar()); apiErr != nil {
			s.fail(item.Key, apiErr)
			if truthy(halt) {
				break
			}
		}
	}
	return done(phpform.Map(
		kv("result", phpform.Map(s.result...)),
		kv("result_error", phpform.Map(s.failure...)),
		kv("result_total", phpform.Map(s.total...)),
		kv("result_next", phpform.Map(s.next...)),
		kv("result_time", phpform.Map(s.time...)),
	))
}

// batchItem runs one item with the caller and the connector of the batch.
func (p *Portal) batchItem(c *call, s *batchSections, key, command string) (apiErr *apiError) {
	name, query, _ := strings.Cut(command, "?")
	inner := &call{p: p, events: c.events, caller: c.caller, name: lowerMethod(strings.Trim(name, "/")), start: p.nowLocked()}
	params, err := phpform.Decode(query, formLimits())
	if err != nil {
		params = phpform.Map()
	}
	params, _ = take(s.resolve(params), "auth", "access_token", "auth_connector")
	inner.params = params
	defer func() { p.recordResult(inner, apiErr, true) }()

	m, ok := p.methods[inner.name]
	switch {
	case inner.name == "batch" || inner.name == "upload" || inner.name == "download":
		return fail(400, "ERROR_BATCH_METHOD_NOT_ALLOWED", "Method is not allowed for batch usage")
	case !ok:
		return fail(404, "ERROR_METHOD_NOT_FOUND", "Method not found!")
	case s.budget < 0: // references to references double with each item; PHP runs out of memory
		return fail(500, "INTERNAL_SERVER_ERROR", "Internal server error")
	}
	var rep reply
	if f, due := p.dueFaultLocked(Fault.fitsBatch, inner.name); due {
		rep, apiErr = f.batchReply()
	} else {
		if apiErr := inner.permitted(m, true); apiErr != nil {
			return apiErr
		}
		rep, apiErr = m.run(inner)
		p.addOperatingTime(inner, p.nowLocked().Sub(inner.start))
	}
	if apiErr != nil {
		return apiErr
	}
	inner.result = rep.result
	s.result = append(s.result, kv(key, rep.result))
	if rep.total != nil {
		s.total = append(s.total, number(key, *rep.total))
	}
	if rep.next != nil {
		s.next = append(s.next, number(key, *rep.next))
	}
	s.time = append(s.time, kv(key, p.timing(inner)))
	return nil
}

// recordedParams returns the parameters of a call as the records keep them. Items of a batch may
// carry credentials, which the platform ignores; they are removed.
func recordedParams(name string, params phpform.Value) phpform.Value {
	if name != "batch" {
		return params
	}
	entries := slices.Clone(params.Entries())
	for i, e := range entries {
		if !strings.EqualFold(e.Key, "cmd") || e.Value.Kind() != phpform.Array {
			continue
		}
		items := slices.Clone(e.Value.Entries())
		for k, item := range items {
			if method, query, ok := strings.Cut(item.Value.Scalar(), "?"); ok {
				items[k].Value = phpform.Text(method + "?" + withoutCredentials(query))
			}
		}
		entries[i].Value = phpform.Map(items...)
	}
	return phpform.Map(entries...)
}

// withoutCredentials removes auth and access_token from a query.
func withoutCredentials(query string) string {
	return strings.Join(slices.DeleteFunc(strings.Split(query, "&"), func(part string) bool {
		key, _, _ := strings.Cut(part, "=")
		key, err := url.QueryUnescape(key)
		return err != nil || key == "auth" || key == "access_token"
	}), "&")
}

func (s *batchSections) fail(key string, apiErr *apiError) {
	s.failure = append(s.failure, kv(key, apiErr.value()))
}

var (
	wholeReference = regexp.MustCompile(`^\$(result|error|total|next|time)((?:\[[^\[\]]*\])+)$`)
	anyReference   = regexp.MustCompile(`\$(result|error|total|next|time)((?:\[[^\[\]]*\])+)`)
)

// resolve replaces the references to results of earlier items in every value. A value that consists
// of one reference becomes the value it refers to; inside a longer text only scalars are inserted.
// A reference to nothing becomes empty.
func (s *batchSections) resolve(v phpform.Value) phpform.Value {
	switch v.Kind() {
	case phpform.Array:
		entries := make([]phpform.Entry, v.Len())
		for i, e := range v.Entries() {
			entries[i] = kv(e.Key, s.resolve(e.Value))
		}
		return phpform.Map(entries...)
	case phpform.String:
		if !strings.Contains(v.Scalar(), "$") {
			return v
		}
		if m := wholeReference.FindStringSubmatch(v.Scalar()); m != nil {
			return s.lookup(m[1], m[2])
		}
		return phpform.Text(anyReference.ReplaceAllStringFunc(v.Scalar(), func(ref string) string {
			m := anyReference.FindStringSubmatch(ref)
			return s.lookup(m[1], m[2]).Scalar()
		}))
	default:
		return v
	}
}

// lookup returns the value that a reference means and charges its size.
func (s *batchSections) lookup(section, path string) phpform.Value {
	v := phpform.Map(map[string][]phpform.Entry{
		"result": s.result, "error": s.failure, "total": s.total, "next": s.next, "time": s.time,
	}[section]...)
	for key := range strings.SplitSeq(strings.Trim(path, "[]"), "][") {
		v, _ = v.Get(key)
	}
	if s.spend(v); s.budget < 0 {
		return null()
	}
	return v
}

// spend subtracts the size of a value from left.
func (s *batchSections) spend(v phpform.Value) {
	const each = 8 // size of a value without its text
	s.budget -= each + len(v.Scalar())
	for _, e := range v.Entries() {
		if s.budget < 0 {
			return
		}
		s.budget -= len(e.Key)
		s.spend(e.Value)
	}
}
