package rest

import (
	"context"
	"encoding/json"
	"errors"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Upload uploads a file in the two steps that some methods offer: the method is called without the
// content and returns an address, and the file goes there as multipart/form-data, without base64.
// It returns the response of the second step, whose result is mostly the file's object:
//
//	answer, err := client.Upload(ctx, "disk.folder.uploadfile",
//		map[string]any{"id": folderID, "generateUniqueName": true}, rest.NewFile("report.pdf", f, info.Size()))
//	if err != nil {
//		return err
//	}
//	var object struct{ ID int }
//	err = answer.Decode(&object)
//
// Methods that do so are disk.folder.uploadfile, disk.storage.uploadfile, disk.file.uploadversion
// and telephony.externalCall.attachRecord (with FILENAME). If the result holds no address, because
// the method knows only one way or the parameters hold the content, the error matches
// [ErrBadResult], and its text says that the method ran.
//
// The address carries a token. The file goes there only if it leads to the portal's own host, by
// https ([WithInsecureHTTP] is for tests), and no redirect is followed: a portal that is renamed
// between the steps is [ErrMoved], and the next upload finds it. The address does not appear in
// errors or log lines.
//
// Each step is a request as far as the portal's limits are concerned, and is repeated as other calls
// are, with the file from its beginning: only if it surely did not run, unless the client is
// [Idempotent]. A token that expires between the two steps begins the whole once more. Errors of the
// second step name the method upload. [File] says how the file is read, what bounds the time, and
// what portals take: requests of up to 2 GB in the cloud.
//
// Source: https://apidocs.bitrix24.com/api-reference/disk/folder/disk-folder-upload-file.html
func (c *Client) Upload(ctx context.Context, method string, params any, file File) (*Response, error) {
	if err := c.refused(method); err != nil {
		return nil, err
	}
	if err := file.checkUpload(); err != nil {
		return nil, &Error{Method: method, Code: ErrBadCall, Description: err.Error()}
	}
	ctx, cancel := c.opts.within(ctx)
	defer cancel()
	for renewed := false; ; renewed = true {
		offer, err := c.newCall(method, params)
		if err != nil {
			return nil, err
		}
		answer, err := c.run(ctx, offer)
		if err != nil {
			return nil, err
		}
		to, err := uploadPlace(method, answer.Result)
		if err != nil {
			return nil, err
		}
		answer, err = c.run(ctx, c.uploadCall(to, file))
		if hasCode(err, ErrExpiredToken) && !renewed && c.portals.hook == nil {
			continue // the portal checks the token before it takes the file
		}
		if moved, ok := err.(*Error); ok && moved.Is(ErrMoved) { //nolint:errorlint // of this package, not wrapped
			moved.Hint = "the file was not taken; if the portal was renamed just now, upload it once more: the first step finds the new address"
		}
		return answer, err
	}
}

const (
	uploadMethod = "upload"
	// maxPlace bounds the address of an upload or a download, and maxField the name of its field.
	maxPlace = 16 << 10
	maxField = 128
)

// checkUpload reports that a file cannot be uploaded.
func (f File) checkUpload() error {
	if err := f.file.check(); err != nil {
		return err
	}
	name := f.file.name
	if name == "" || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return errors.New("a file to upload needs a name, in UTF-8 and without control characters")
	}
	return nil
}

// destination is where a file is to be uploaded.
type destination struct {
	UploadURL string `json:"uploadUrl"`
	Field     string `json:"field"`
	FieldName string `json:"fieldName"` // of telephony.externalCall.attachRecord
}

// uploadPlace reads the result of the first step.
func uploadPlace(method string, result json.RawMessage) (destination, error) {
	var p destination
	bad := func(why string) (destination, error) {
		return p, &Error{Method: method, Status: http.StatusOK, Code: ErrBadResult, Description: why}
	}
	if json.Unmarshal(result, &p) != nil || p.UploadURL == "" {
		return bad("the method ran, and its result holds no uploadUrl: it may know no upload in two steps, or have the content already")
	}
	if p.Field == "" {
		p.Field = p.FieldName
	}
	if p.Field == "" || len(p.Field) > maxField || strings.ContainsFunc(p.Field, unicode.IsControl) {
		return bad("the result holds an uploadUrl without the name of a field")
	}
	return p, nil
}

// uploadCall returns the call of the second step.
func (c *Client) uploadCall(p destination, file File) *call {
	call := &call{
		method: uploadMethod, idempotent: c.opts.idempotent, retries: c.retries(),
		renewed: true, moved: true, // the token is in the address, and the address is for one host
	}
	call.out = func(base *url.URL, token string) (*outgoing, error) {
		target, err := portalAddress(base, p.UploadURL)
		if err != nil {
			return nil, &Error{
				Method: uploadMethod, Code: ErrBadEndpoint,
				Description: "the uploadUrl that the portal returned does not lead to the portal's own host by https; the file was not sent",
			}
		}
		if failed := file.file.probe(); failed != nil {
			return nil, fileFailed(uploadMethod, failed, false)
		}
		body, kind := file.multipart(p.Field)
		return &outgoing{
			url: target.String(), header: http.Header{"Content-Type": {kind}}, body: body,
			secrets: c.portals.secretsOf(target, token),
		}, nil
	}
	return call
}

// portalAddress checks an address that a method returned. One without a host begins at the root of
// the portal: below the endpoint of a webhook it would be a call with the webhook's secret.
func portalAddress(base *url.URL, address string) (*url.URL, error) {
	if address == "" {
		return nil, errors.New("the address is empty")
	}
	return ownAddress(&url.URL{Scheme: base.Scheme, Host: base.Host, Path: "/"}, address)
}

// ownAddress checks an address that a portal returned. It must lead to the host of the base, no less
// secure than that.
func ownAddress(base *url.URL, address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || len(address) > maxPlace {
		return nil, errForeignAddress
	}
	u = base.ResolveReference(u)
	if u.Scheme != base.Scheme || !strings.EqualFold(hostOf(u), hostOf(base)) || portOf(u) != portOf(base) || u.User != nil || u.Opaque != "" {
		return nil, errForeignAddress
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

var errForeignAddress = errors.New("the address does not lead to the portal's own host by https")

// portOf returns the port of an address, also if it is that of the scheme.
func portOf(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return port
}

// secretsOf returns what errors must not show of a request to an address of the portal.
func (p *Clients) secretsOf(u *url.URL, token string) []string {
	secrets := []string{token}
	if p.hook != nil {
		secrets[0] = p.hook.secret
	}
	const minToken = 16 // shorter values are numbers and words
	for _, values := range u.Query() {
		secrets = append(secrets, slices.DeleteFunc(values, func(v string) bool { return len(v) < minToken })...)
	}
	return secrets
}

// multipart returns the body of an upload and its Content-Type.
func (f File) multipart(field string) (b body, kind string) {
	var text strings.Builder
	form := multipart.NewWriter(&text)
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	_, _ = form.CreatePart(textproto.MIMEHeader{ // a Builder takes everything
		"Content-Disposition": {`form-data; name="` + escape.Replace(field) + `"; filename="` + escape.Replace(f.file.name) + `"`},
		"Content-Type":        {"application/octet-stream"},
	})
	at := text.Len()
	_ = form.Close()
	b = body{text: text.String(), gaps: []gap{{at: at, file: f.file, raw: true, length: f.file.size}}}
	return b, form.FormDataContentType()
}
