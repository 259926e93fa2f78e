package rest

import (
	"context"
	"encoding/json"
	"errors"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Upload uploads a file in the two steps that some methods offer: the method is called without the
// content and returns an address, and the file is sent there as multipart/form-data, without
// base64. Upload returns the response of the second step. Its result is usually the object of the
// file:
//
//	response, err := client.Upload(ctx, "disk.folder.uploadfile",
//		map[string]any{"id": folderID, "generateUniqueName": true}, rest.NewFile("report.pdf", f, info.Size()))
//	if err != nil {
//		return err
//	}
//	var object struct{ ID int }
//	err = response.Decode(&object)
//
// These methods are disk.folder.uploadfile, disk.storage.uploadfile, disk.file.uploadversion and
// telephony.externalCall.attachRecord (with FILENAME). If the result holds no address, because the
// method does not support two steps or the parameters hold the content, the error matches
// [ErrBadResult], and its text says that the method ran.
//
// The address holds a token. The file is sent only if the address leads to the portal's own host,
// by https ([WithInsecureHTTP] is for tests), and no redirect is followed: a portal that is renamed
// between the steps is [ErrMoved], and the next upload finds it. The address does not appear in
// errors or log lines.
//
// Each step counts as a request for the portal's limits. It is retried as other calls are, with the
// file from its beginning: only if it surely did not run, unless the client is [Idempotent]. If a
// token expires between the two steps, both are made once more. Errors of the second step name the
// method upload. [File] says how the file is read, what bounds the time, and what portals accept:
// requests of up to 2 GB in the cloud.
//
// Source: https://apidocs.bitrix24.com/api-reference/disk/folder/disk-folder-upload-file.html
func (c *Client) Upload(ctx context.Context, method string, params any, file File) (*Response, error) {
	if err := c.checkCall(method); err != nil {
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
		response, err := c.run(ctx, offer)
		if err != nil {
			return nil, err
		}
		to, err := uploadPlace(method, response.Result)
		if err != nil {
			return nil, err
		}
		response, err = c.run(ctx, c.uploadCall(to, file))
		if hasCode(err, ErrExpiredToken) && !renewed && c.clients.hook == nil {
			continue // the portal checks the token before it accepts the file
		}
		if moved, ok := err.(*Error); ok && moved.Is(ErrMoved) { //nolint:errorlint // of this package, not wrapped
			moved.Hint = "the file was not taken; if the portal was renamed just now, upload it once more: the first step finds the new address"
		}
		return response, err
	}
}

const (
	uploadMethod = "upload"
	// maxPlace bounds the address of an upload or a download, and maxField the name of its field.
	maxPlace = 16 << 10
	maxField = 128
)

// checkUpload returns an error if a file cannot be uploaded.
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

// destination is the place to which a file is uploaded.
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
			secrets: c.clients.secretsOf(target, token),
		}, nil
	}
	return call
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
