package rest

import (
	"context"
	"errors"
	"io"
	"strconv"

	"github.com/b24events/b24events/internal/params"
)

// File is the content of a file as a parameter. It is sent as a list of its name and its content in
// base64, as file fields and fileContent expect:
//
//	f, err := os.Open("report.pdf")
//	…
//	defer f.Close()
//	info, err := f.Stat()
//	…
//	err = client.Call(ctx, "crm.item.update", map[string]any{
//		"entityTypeId": 2, "id": 8017,
//		"fields": map[string]any{"ufCrm_1700000000": rest.NewFile("report.pdf", f, info.Size())},
//	}, nil)
//
// A File can be the value of a parameter anywhere in a map, a struct, an [Ordered] or a list. For
// example, fileData in fields of older CRM methods is map[string]any{"fileData": file}, and a field
// for several files takes a []rest.File. A parameter that takes only the base64, such as
// FILE_CONTENT of telephony.externalCall.attachRecord and content of im.v2.File.upload, takes
// [File.Content].
//
// The content is not held in memory. It is read twice for a call: once to find the length of the
// request, before anything is sent, and once while it is sent, in pieces of 12 KiB. A retry reads
// it again. The call fails if the reader fails, if it ends before its size, or if the length of the
// request changes in between. The error says whether a part of it was sent, and the call is not
// retried. Once the call has returned, nothing is read any more, so a call waits for a ReadAt that
// is running. The time limit of the HTTP client bounds how long the request may make no progress,
// and not how long the upload takes. [Timeout] and the context bound the whole.
//
// A File needs a request of its own: a [Coalescer] does not join it with others, and a [Batch] and
// [All] refuse it with [ErrBadCall].
//
// Portals in the cloud accept requests of up to 2 GB. Base64 takes a third more than the content,
// and escaping adds a few percent. They end a request after 60 seconds of work. Servers on premise
// have limits of their own, and single methods have lower ones: im.v2.File.upload accepts 100 MB.
// Portals hold the text in memory. For Drive, use [Client.Upload], which sends no base64.
//
// Source: https://apidocs.bitrix24.com/api-reference/files/how-to-upload-files.html
//
// Several calls may use a File at the same time, if its reader allows it. The zero File is refused
// with [ErrBadCall].
type File struct{ file *file }

// FileContent is the content of a [File] as a parameter, without the name. The zero FileContent is
// refused with [ErrBadCall].
type FileContent struct{ file *file }

type file struct {
	name    string
	content io.ReaderAt
	size    int64
}

// NewFile returns the first size bytes of content as a file, for example of an *os.File, a
// *bytes.Reader or a *strings.Reader. While calls use it, content must stay readable and must not
// change.
//
// The name may be empty only for [File.Content]. If content is nil or size is negative, the call
// returns [ErrBadCall].
func NewFile(name string, content io.ReaderAt, size int64) File {
	return File{&file{name: name, content: content, size: size}}
}

// Content returns the content as a parameter, which is its base64 and not a list.
func (f File) Content() FileContent { return FileContent(f) }

// streamOf returns the content of a File for the encoder of parameters.
func streamOf(v any) (s params.Stream, ok bool) {
	switch v := v.(type) {
	case File:
		s.Named = true
		if v.file != nil {
			s.Name, s.Content = v.file.name, v.file
		}
	case FileContent:
		if v.file != nil {
			s.Content = v.file
		}
	default:
		return s, false
	}
	return s, true
}

// maxFile is far above what any server takes, and keeps sums of sizes within an int64.
const maxFile = 1 << 48

// check returns an error if the file cannot be sent.
func (f *file) check() error {
	switch {
	case f == nil || f.content == nil:
		return errors.New("a file without content: make it by NewFile, with a reader")
	case f.size < 0 || f.size > maxFile:
		return errors.New("a file with an impossible size of " + strconv.FormatInt(f.size, 10) + " bytes")
	}
	return nil
}

// fileGaps returns the files of a form.
func fileGaps(form params.Form) ([]gap, error) {
	if len(form.Gaps) == 0 {
		return nil, nil
	}
	gaps := make([]gap, len(form.Gaps))
	for i, g := range form.Gaps {
		f, _ := g.Content.(*file) // streamOf makes no others
		if err := f.check(); err != nil {
			return nil, errors.New("parameters: " + err.Error())
		}
		gaps[i] = gap{at: g.At, file: f}
	}
	return gaps, nil
}

// fileError is the error of a file. Its text holds nothing of the reader's error, which may name
// paths and addresses.
type fileError struct {
	what  string
	cause error
}

func (e *fileError) Error() string { return e.what }
func (e *fileError) Unwrap() error { return e.cause }

// readPart reads a part of a file.
func (f *file) readPart(buf []byte, off int64) (err error) {
	defer func() {
		// It runs in a goroutine of the HTTP client, where a panic would end the process.
		if recover() != nil {
			err = &fileError{what: "the reader of the file panicked"}
		}
	}()
	n, err := f.content.ReadAt(buf, off)
	if n == len(buf) {
		return nil // with a full buffer, the error is io.EOF
	}
	at := strconv.FormatInt(off+int64(max(n, 0)), 10) + " of " + strconv.FormatInt(f.size, 10) + " bytes"
	if err == nil || errors.Is(err, io.EOF) {
		return &fileError{what: "the file ended after " + at, cause: io.ErrUnexpectedEOF}
	}
	return &fileError{what: "the file could not be read after " + at, cause: err}
}

// probe reads the last byte of a file, to find out that it is too short before half of it was sent.
func (f *file) probe() *fileError {
	if f.size == 0 {
		return nil
	}
	failed := (*fileError)(nil)
	if errors.As(f.readPart(make([]byte, 1), f.size-1), &failed) && errors.Is(failed, io.ErrUnexpectedEOF) {
		failed.what = "the file is shorter than its " + strconv.FormatInt(f.size, 10) + " bytes"
	}
	return failed
}

// measure finds the length of the request, which depends on the content.
func (call *call) measure(ctx context.Context) error {
	for i := range call.gaps {
		g := &call.gaps[i]
		if g.length > 0 {
			continue
		}
		for r := (&formReader{raw: rawReader{file: g.file}}); ; {
			n, err := r.skip()
			if ctx.Err() != nil {
				return contextError(ctx, call.method)
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if failed := (*fileError)(nil); errors.As(err, &failed) {
				return fileFailed(call.method, failed, false)
			}
			g.length += int64(n)
		}
	}
	return nil
}

// fileFailed is the error of a call whose file failed. sent says whether a part of the request may
// have reached the portal.
func fileFailed(method string, failed *fileError, sent bool) error {
	e := &callError{method: method, what: failed.what + "; nothing was sent", cause: failed.cause, executed: executedNever, file: true}
	if sent {
		e.what = failed.what + "; a part of the request was sent, so the call may have run"
		e.executed = executedMaybe
	}
	return e
}
