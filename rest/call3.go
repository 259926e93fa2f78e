package rest

import (
	"bytes"
	"context"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/b24events/b24events/internal/redact"
)

// Codes of REST 3.0. Compare other codes of methods as rest.ErrorCode("…"). The codes that this
// package gives, and those about tokens, are the same as elsewhere.
//
// Source: https://apidocs.bitrix24.com/api-reference/rest-v3.html
const (
	ErrV3Validation     ErrorCode = "BITRIX_REST_V3_EXCEPTION_VALIDATION_REQUESTVALIDATIONEXCEPTION" // see Error.Argument
	ErrV3AccessDenied   ErrorCode = "BITRIX_REST_V3_EXCEPTION_ACCESSDENIEDEXCEPTION"
	ErrV3Scope          ErrorCode = "BITRIX_REST_V3_EXCEPTION_INSUFFICIENTSCOPEEXCEPTION" // the application lacks a permission
	ErrV3NotFound       ErrorCode = "BITRIX_REST_V3_EXCEPTION_ENTITYNOTFOUNDEXCEPTION"
	ErrV3MethodNotFound ErrorCode = "BITRIX_REST_V3_EXCEPTION_METHODNOTFOUNDEXCEPTION"
	ErrV3KeyReused      ErrorCode = "BITRIX_REST_V3_EXCEPTION_IDEMPOTENCYKEYREUSEDEXCEPTION" // with other parameters
)

// Call3Option configures one call of REST 3.0.
type Call3Option func(*call3Options) error

type call3Options struct{ key string }

// IdempotencyKey names a call, so that it can be retried without running twice. For 24 hours, if
// the same application and user call the same method with the same key and parameters, the portal
// returns the response of the first call that succeeded. Other parameters with the same key are
// [ErrV3KeyReused]. The key is 1 to 255 printable ASCII characters without spaces, for example a
// UUID.
//
// Two calls with one key that run at the same time may both run. So the client does not retry a
// call that may still be running. Retry it yourself, after a response or a minute after it was
// sent: portals let a method run for a minute at most. A call that surely did not run is retried
// with its key, as other calls are.
func IdempotencyKey(key string) Call3Option {
	return func(o *call3Options) error {
		const maxKey = 255
		printable := func(r rune) bool { return '!' <= r && r <= '~' }
		if key == "" || len(key) > maxKey || strings.ContainsFunc(key, func(r rune) bool { return !printable(r) }) {
			return errors.New("IdempotencyKey: the key must be 1 to 255 printable characters of ASCII without spaces")
		}
		o.key = key
		return nil
	}
}

// Call3 calls a method of REST 3.0, the newer API below /rest/api/, and stores its result in result
// as [Client.Call] does. The result is an object, with the member item, items or result:
//
//	var found struct{ Item Task }
//	err := client.Call3(ctx, "tasks.task.get", map[string]any{"id": 51, "select": []string{"id", "title"}}, &found)
//
// A method may exist in both APIs, with other parameters and results. The methods of events exist
// only in the older one, and so do [Batch], [All] and [Coalescer]: the newer API has its own batch,
// which this package does not support, and no common way to page.
//
// Parameters are a map or a struct. They are sent as JSON by the rules of encoding/json, so null
// and empty lists are sent; nil is an empty object. A []byte is base64, and a [File] is refused.
// [ErrBadCall] also refuses types that print themselves by a method Format, as secrets and [Ref]
// do, [Ordered], and the parameters auth and access_token.
//
// Everything else is as for Client.Call: tokens and their renewal, limits, retries, redirects of a
// renamed portal, options of [Client.With], errors. The codes of errors begin with
// BITRIX_REST_V3_EXCEPTION_, so [ErrNotFound] and [ErrAccessDenied] do not match; compare with
// [ErrV3NotFound] and the others. If the portal refuses parameters, Argument is the first field
// refused, and Description says what is wrong with each.
//
// Source: https://apidocs.bitrix24.com/api-reference/rest-v3.html
func (c *Client) Call3(ctx context.Context, method string, params, result any, opts ...Call3Option) error {
	if err := checkTarget(method, result); err != nil {
		return err
	}
	response, err := c.do3(ctx, method, params, opts)
	if err != nil {
		return err
	}
	return response.decode(method, result)
}

// Call3 calls a method of REST 3.0 as [Client.Call3] does and returns its result as a T.
func Call3[T any](ctx context.Context, c *Client, method string, params any, opts ...Call3Option) (T, error) {
	var result T
	err := c.Call3(ctx, method, params, &result, opts...)
	return result, err
}

func (c *Client) do3(ctx context.Context, method string, params any, opts []Call3Option) (*Response, error) {
	if err := c.checkCall(method); err != nil {
		return nil, err
	}
	var o call3Options
	text, err := encodeJSON(params)
	for _, opt := range opts {
		if opt != nil && err == nil {
			err = opt(&o)
		}
	}
	if strings.EqualFold(method, "batch") {
		err = errors.New("the batch of REST 3.0 is not supported; make its calls one by one")
	}
	if err != nil {
		return nil, &Error{Method: method, Code: ErrBadCall, Description: err.Error()}
	}
	ctx, cancel := c.opts.within(ctx)
	defer cancel()
	return c.run(ctx, &call{
		method: method, path: "api/" + method, out: c.out3(method, text, o),
		idempotent: c.opts.idempotent || isRead(method), retries: c.retries(),
	})
}

// out3 returns a function that makes the requests of a call.
func (c *Client) out3(method, params string, o call3Options) func(*url.URL, string) (*outgoing, error) {
	return func(base *url.URL, token string) (*outgoing, error) {
		out := &outgoing{
			header: http.Header{"Content-Type": {"application/json"}}, body: body{text: params}, secrets: []string{token}, refine: refine3,
		}
		if o.key != "" {
			// In small letters, because net/http takes the key's usual spelling as its permission to send
			// the request once more.
			out.header["idempotency-key"] = []string{o.key}
		}
		if h := c.clients.hook; h != nil { // …/rest/<user>/<secret>/ becomes …/rest/api/<user>/<secret>/
			out.secrets = []string{h.secret}
			parts := strings.Split(base.Path, "/") // of which the last is empty
			u := *base
			u.Path = strings.Join(slices.Insert(parts, len(parts)-3, "api"), "/") + method
			out.url = u.String()
			return out, nil
		}
		doc, err := json.Marshal(token)
		if err != nil {
			return nil, &Error{Method: method, Code: ErrBadCall, Description: "the access token is not a text"}
		}
		comma := ","
		if params == "{}" {
			comma = ""
		}
		out.url = base.String() + "api/" + method
		out.body.text = strings.TrimSuffix(params, "}") + comma + `"auth":` + string(doc) + "}"
		return out, nil
	}
}

// refine3 adds to an error what REST 3.0 says about single parameters.
func refine3(err error, text []byte, secrets *redact.Set) {
	var response struct {
		Error struct {
			Validation []struct {
				Field   string `json:"field"`
				Message string `json:"message"`
			} `json:"validation"`
		} `json:"error"`
	}
	failure, ok := err.(*Error) //nolint:errorlint // of this package, not wrapped
	if !ok || json.Unmarshal(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")), &response) != nil {
		return
	}
	const most = 20 // complaints are enough to go on with
	for i, v := range response.Error.Validation[:min(len(response.Error.Validation), most)] {
		if i == 0 {
			failure.Argument = secrets.Plain(v.Field, maxShown)
			failure.Description += ":"
		}
		if v.Field != "" {
			v.Message = v.Field + ": " + v.Message
		}
		failure.Description = cut(failure.Description+" "+secrets.Plain(v.Message, maxDescription)+";", maxDescription)
	}
	failure.Description = strings.TrimRight(failure.Description, ";:")
}

// encodeJSON writes parameters as an object. Its errors name types, never values.
func encodeJSON(params any) (string, error) {
	if params == nil {
		return "{}", nil
	}
	doc, err := json.Marshal(params)
	var kind *json.UnsupportedTypeError
	switch {
	case errors.As(err, &kind):
		return "", fmt.Errorf("parameters: %s cannot be sent", kind.Type)
	case errors.As(err, new(*json.UnsupportedValueError)):
		return "", errors.New("parameters: a number is not finite, or a value holds itself")
	case err != nil:
		return "", errors.New("parameters: a value does not marshal itself as JSON")
	}
	if err := refuseHidden(reflect.ValueOf(params), 0); err != nil {
		return "", fmt.Errorf("parameters: %w", err)
	}
	var top map[string]json.RawMessage
	if string(doc) == "null" {
		return "{}", nil
	}
	if json.Unmarshal(doc, &top) != nil {
		return "", errors.New("parameters: they must be a map or a struct")
	}
	for name := range top {
		if name = strings.ToLower(name); name == "auth" || name == "access_token" {
			return "", errors.New("parameters: the client adds the token itself; leave auth and access_token out")
		}
	}
	return string(doc), nil
}

var (
	hiding = reflect.TypeFor[fmt.Formatter]()
	leaves = []reflect.Type{reflect.TypeFor[json.Marshaler](), reflect.TypeFor[encoding.TextMarshaler]()}
)

// maxLevels is how deep the values of a call may nest. Values that hold themselves have no end, and
// encoding/json finds them only in what it writes.
const maxLevels = 1000

// refuseHidden refuses values that JSON would show differently from what they mean. It also looks
// at fields that JSON leaves out, because they are empty or another field has their name.
func refuseHidden(v reflect.Value, level int) error {
	for ; v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface; level++ {
		v = v.Elem()
		if level > maxLevels {
			break
		}
	}
	switch {
	case level > maxLevels:
		return errors.New("values nest too deep, or hold themselves in a field that JSON leaves out")
	case !v.IsValid():
		return nil
	}
	has := func(method reflect.Type) bool {
		return v.Type().Implements(method) || reflect.PointerTo(v.Type()).Implements(method)
	}
	switch t := v.Type(); {
	case t == reflect.TypeFor[File](), t == reflect.TypeFor[FileContent]():
		return errors.New("a File cannot go out as JSON: send a []byte, or use a method of the older API")
	case t == reflect.TypeFor[Ordered]():
		return errors.New("an Ordered cannot go out as JSON, in which the order does not count; use a map")
	case has(hiding):
		return fmt.Errorf("%s prints itself in a form of its own, as redacted secrets do; make it a string", t)
	case slices.ContainsFunc(leaves, has):
		return nil
	}
	switch v.Kind() {
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if v.Type().Elem().Kind() == reflect.Uint8 {
				return nil
			}
			if err := refuseHidden(v.Index(i), level+1); err != nil {
				return err
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if err := refuseHidden(it.Key(), level+1); err != nil {
				return err
			}
			if err := refuseHidden(it.Value(), level+1); err != nil {
				return err
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() && !f.Anonymous || f.Tag.Get("json") == "-" {
				continue
			}
			if err := refuseHidden(v.Field(i), level+1); err != nil {
				return err
			}
		}
	default:
	}
	return nil
}
