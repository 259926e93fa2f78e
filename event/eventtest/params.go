package eventtest

import (
	"bytes"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/b24events/b24events/internal/phpform"
)

// maxBody limits the body of a request to the portal.
const maxBody = 32 << 20

func formLimits() phpform.Limits { return phpform.Limits{Bytes: maxBody, Keys: 1_000_000} }

// readParams reads the parameters of a request from query and body. The body takes precedence. What
// cannot be parsed is dropped, as in PHP.
func readParams(r *http.Request) phpform.Value {
	kept, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		kept = nil
	}
	r.Body = &body{bytes.NewReader(kept)}
	query, err := phpform.Decode(r.URL.RawQuery, formLimits())
	if err != nil {
		query = phpform.Map()
	}
	return merge(query, readBody(r))
}

// body is a request body that can be read again.
type body struct{ *bytes.Reader }

func (*body) Close() error { return nil }

// readBody reads the parameters in the body of a request, by its Content-Type.
func readBody(r *http.Request) phpform.Value {
	kind, args, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return phpform.Map()
	}
	if kind == "multipart/form-data" {
		return readMultipart(r, args["boundary"] != "")
	}
	doc, err := io.ReadAll(r.Body)
	if err != nil {
		return phpform.Map()
	}
	var v phpform.Value
	switch {
	case kind == "application/json" || strings.HasSuffix(kind, "+json"):
		v, err = phpform.DecodeJSON(doc, formLimits())
	case kind == "application/x-www-form-urlencoded":
		v, err = phpform.Decode(string(doc), formLimits())
	}
	if err != nil || v.Kind() != phpform.Array {
		return phpform.Map()
	}
	return v
}

// readMultipart reads the fields that are not files. bounded reports whether there is a boundary.
func readMultipart(r *http.Request, bounded bool) phpform.Value {
	if !bounded {
		return phpform.Map()
	}
	parts, err := r.MultipartReader()
	if err != nil {
		return phpform.Map()
	}
	var form strings.Builder
	for form.Len() <= maxBody {
		part, err := parts.NextPart()
		if err != nil {
			break
		}
		if part.FormName() == "" || part.FileName() != "" {
			continue
		}
		value, err := io.ReadAll(io.LimitReader(part, maxBody))
		if err != nil {
			break
		}
		form.WriteString("&" + url.QueryEscape(part.FormName()) + "=" + url.QueryEscape(string(value)))
	}
	v, err := phpform.Decode(strings.TrimPrefix(form.String(), "&"), formLimits())
	if err != nil {
		return phpform.Map()
	}
	return v
}

// merge returns base with the keys of top added or replaced.
func merge(base, top phpform.Value) phpform.Value {
	if top.Len() == 0 {
		return base
	}
	entries := make([]phpform.Entry, 0, base.Len()+top.Len())
	for _, e := range base.Entries() {
		if v, ok := top.Get(e.Key); ok {
			e.Value = v
		}
		entries = append(entries, e)
	}
	for _, e := range top.Entries() {
		if _, ok := base.Get(e.Key); !ok {
			entries = append(entries, e)
		}
	}
	return phpform.Map(entries...)
}

// take removes keys from a tree. It returns the rest and what it removed.
func take(v phpform.Value, keys ...string) (rest phpform.Value, taken map[string]phpform.Value) {
	taken = map[string]phpform.Value{}
	var entries []phpform.Entry
outer:
	for _, e := range v.Entries() {
		for _, key := range keys {
			if e.Key == key {
				taken[key] = e.Value
				continue outer
			}
		}
		entries = append(entries, e)
	}
	return phpform.Map(entries...), taken
}

// param returns a parameter by its name, without regard to case. Null counts as absent.
func (c *call) param(name string) (phpform.Value, bool) {
	var found phpform.Value
	for _, e := range c.params.Entries() {
		if strings.EqualFold(e.Key, name) {
			found = e.Value
		}
	}
	return found, found.Kind() != phpform.Null
}

// str returns a scalar parameter, or "" if it is absent.
func (c *call) str(name string) string {
	v, _ := c.param(name)
	return v.Scalar()
}

// splitPath splits a path below /rest/ into the method in lower case, and the ID of the user and
// the secret of an incoming webhook. One slash at the end does not count. All others do, so a path
// with a slash too many names no method.
func splitPath(path string) (method, user, secret string) {
	method = strings.TrimSuffix(strings.TrimPrefix(path, "/rest/"), "/")
	if parts := strings.Split(method, "/"); len(parts) == 3 && strings.Trim(parts[0], "0123456789") == "" && parts[0] != "" && parts[1] != "" {
		user, secret, method = parts[0], parts[1], parts[2]
	}
	return lowerMethod(method), user, secret
}

// lowerMethod returns a method name in lower case, without its format. The format is in lower case;
// anything else is part of the name.
func lowerMethod(name string) string {
	for _, suffix := range []string{".json", ".xml"} {
		if cut, ok := strings.CutSuffix(name, suffix); ok {
			return strings.ToLower(cut)
		}
	}
	return strings.ToLower(name)
}
