package rest

import (
	"context"
	"errors"
	"io"
	"strconv"

	"github.com/b24events/b24events/internal/params"
)

// File is the content of a file as a parameter. It goes out as the list of its name and its content
// in base64, as file fields and fileContent want it:
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
// A File stands for the value of a parameter anywhere in a map, a struct, an [Ordered] or a list:
// fileData in fields of older CRM methods is map[string]any{"fileData": file}, and a field for
// several files takes a []rest.File. A parameter that takes the base64 alone, such as FILE_CONTENT
// of telephony.externalCall.attachRecord and content of im.v2.File.upload, takes [File.Content].
//
// The content is not held in memory. It is read twice for a call: once to learn the length of the
// request, before anything is sent, and once while it is sent, in pieces of 12 KiB. It is read again
// if the request is repeated. The call fails if the reader fails, if it ends before its size, or if
// the length of the request changes in between; the error says whether a part of it was sent, and the
// request is not repeated. Nothing is read any more once the call has returned, which therefore
// waits for a ReadAt that is under way. The time limit of the HTTP client bounds how long the
// request may make no progress, and not how long the upload takes; [Timeout] and the context bound
// the whole.
//
// A request with a File stays by itself: a [Coalescer] does not join it with others, a [Batch]
// refuses it with [ErrBadCall], and so does [All].
//
// Portals in the cloud take requests of up to 2 GB, of which base64 takes a third more than the
// content has, and a few percent for escaping; they end a request after 60 seconds of work. Servers
// on premise have limits of their own, and single methods have lower ones: im.v2.File.upload takes
// 100 MB. Portals hold the text in memory. For Drive there is [Client.Upload], without base64.
//
// Source: https://apidocs.bitrix24.com/api-reference/files/how-to-upload-files.html
//
// A File may be used by several calls at the same time, as its reader may. The zero File is refused
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

// NewFile returns the first size bytes of content as a file. An *os.File, a *bytes.Reader and a
// *strings.Reader are such content. It must stay readable, and the same, while calls use it.
//
// A name is needed but for [File.Content]. A missing content and a negative size show at the call,
// as [ErrBadCall].
func NewFile(name string, content io.ReaderAt, size int64) File {
	return File{&file{name: name, content: content, size: size}}
}

// Content returns the content as a parameter of its own, which is its base64 and no list.
func (f File) Content() FileContent { return FileContent(f) }

// streamOf makes the files in parameters known to their encoder.
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

// check reports that a file cannot be sent.
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

// fileError is what went wrong with a file, in words that hold nothing of the reader's error: that
// may name paths and addresses.
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
		return nil // an error beside a full buffer is that of the end
	}
	at := strconv.FormatInt(off+int64(max(n, 0)), 10) + " of " + strconv.FormatInt(f.size, 10) + " bytes"
	if err == nil || errors.Is(err, io.EOF) {
		return &fileError{what: "the file ended after " + at, cause: io.ErrUnexpectedEOF}
	}
	return &fileError{what: "the file could not be read after " + at, cause: err}
}

// probe reads the last byte of a file: one that is too short is better found before a half of it
// was sent.
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

// measure learns the length of the request, which depends on the content.
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
	e := &callError{method: method, what: failed.what + "; nothing was sent", cause: failed.cause, ran: ranNever, file: true}
	if sent {
		e.what = failed.what + "; a part of the request was sent, and nobody knows whether the call ran"
		e.ran = ranMaybe
	}
	return e
}
