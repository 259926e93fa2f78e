package natsstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/b24events/b24events/internal/timing"
)

const (
	// minRetry and maxRetry bound the wait before requests without a reply are sent again.
	minRetry = 20 * time.Millisecond
	maxRetry = time.Second
)

// execute sends requests until all have a reply, ctx ends, or a retry cannot help. It repeats
// requests without a reply after the connection broke, or while JetStream is starting. That stores
// nothing twice: the server remembers the IDs of records for some time, it refuses second copies in
// the archive, and a second delete finds nothing. execute returns an error if requests have no
// reply.
func (s *Store) execute(ctx context.Context, requests []*request) error {
	return s.executeOn(ctx, "", requests)
}

// executeOn is execute for deletes of records. It sends them only to the server on which the
// records were read, and only until that restarts. Otherwise another record may have the sequence;
// see [Store.readLink]. An empty server means any server.
func (s *Store) executeOn(ctx context.Context, server string, requests []*request) error {
	for began, wait := time.Now(), minRetry; ; wait = min(2*wait, maxRetry) {
		if err := s.online(ctx); err != nil {
			return err
		}
		if server != "" && server != s.linkNow().server {
			return errOtherServer
		}
		err := s.pipe.do(ctx, requests)
		if err == nil {
			if err = busy(requests); err == nil {
				return nil
			}
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errNoReply):
			if gone := s.missing(ctx, requests); gone != nil {
				return gone
			}
		case !isTemporary(err):
			return err
		}
		if time.Since(began) > time.Duration(s.window.Load())/2 {
			return err // soon the server will not know the IDs of records any more
		}
		if timing.Sleep(ctx, wait) != nil {
			return context.Cause(ctx)
		}
	}
}

// busy returns an error if the server was too busy for some requests, and prepares these to be sent
// again.
func busy(requests []*request) error {
	var err error
	for _, r := range requests {
		if e := r.reply.Error; e != nil && e.isTemporary() {
			err = e
			r.again()
		}
	}
	return err
}

// isTemporary reports whether a retry may succeed.
func isTemporary(err error) bool {
	if api, ok := errors.AsType[*apiError](err); ok {
		return api.isTemporary()
	}
	return errors.Is(err, ErrDisconnected) || errors.Is(err, errSlow) || errors.Is(err, nats.ErrConnectionReconnecting) ||
		errors.Is(err, nats.ErrReconnectBufExceeded)
}

// missing returns an error if the stream of a request without a reply does not exist.
func (s *Store) missing(ctx context.Context, requests []*request) error {
	looked := make(map[string]bool)
	for _, r := range requests {
		if r.replied || looked[r.stream] {
			continue
		}
		looked[r.stream] = true
		info := s.apiRequest(r.stream, "STREAM.INFO", "")
		if s.pipe.do(ctx, []*request{info}) == nil && errors.Is(info.refused(), ErrNoStream) {
			return info.refused()
		}
	}
	return nil
}

func (s *Store) publish(stream, subject string, header nats.Header, data []byte) *request {
	return &request{stream: stream, subject: subject, header: header, data: data}
}

func (s *Store) apiRequest(stream, operation, body string) *request {
	return &request{stream: stream, subject: s.api + operation + "." + stream, data: []byte(body), api: true}
}

// deleteMessage deletes a message of a stream.
func (s *Store) deleteMessage(stream string, seq uint64) *request {
	return s.apiRequest(stream, "STREAM.MSG.DELETE", `{"no_erase":true,"seq":`+strconv.FormatUint(seq, 10)+`}`)
}

// getMessage reads a message of a stream by its sequence, from the leader of the stream.
func (s *Store) getMessage(stream string, seq uint64) *request {
	return s.apiRequest(stream, "STREAM.MSG.GET", `{"seq":`+strconv.FormatUint(seq, 10)+`}`)
}

// getLast reads the last message of a subject, from the leader of the stream.
func (s *Store) getLast(stream, subject string) *request {
	return s.apiRequest(stream, "STREAM.MSG.GET", `{"last_by_subj":"`+subject+`"}`) // of letters, digits and dashes
}

// streamInfo is the server's description of a stream.
type streamInfo struct {
	Created time.Time              `json:"created"`
	State   jetstream.StreamState  `json:"state"`
	Config  jetstream.StreamConfig `json:"config"`
}

// info returns the server's description of a stream.
func (s *Store) info(ctx context.Context, stream string) (*streamInfo, error) {
	r := s.apiRequest(stream, "STREAM.INFO", "")
	if err := s.execute(ctx, []*request{r}); err != nil {
		return nil, err
	}
	if err := r.refused(); err != nil {
		return nil, err
	}
	var info streamInfo
	if json.Unmarshal(r.reply.raw, &info) != nil {
		return nil, errBadReply
	}
	return &info, nil
}

// subjects returns the subjects of a stream that match a filter.
func (s *Store) subjects(ctx context.Context, stream, filter string) ([]string, error) {
	var all []string
	for {
		r := s.apiRequest(stream, "STREAM.INFO", fmt.Sprintf(`{"subjects_filter":"%s","offset":%d}`, filter, len(all)))
		if err := s.execute(ctx, []*request{r}); err != nil {
			return nil, err
		}
		if err := r.refused(); err != nil {
			return nil, err
		}
		var page struct {
			Total int `json:"total"`
			State struct {
				Subjects map[string]uint64 `json:"subjects"`
			} `json:"state"`
		}
		if json.Unmarshal(r.reply.raw, &page) != nil {
			return nil, errBadReply
		}
		all = slices.AppendSeq(all, maps.Keys(page.State.Subjects))
		if len(page.State.Subjects) == 0 || len(all) >= page.Total {
			return all, nil
		}
	}
}

// refused returns the error in JetStream's reply, or nil.
func (r *request) refused() error {
	switch e := r.reply.Error; {
	case e == nil:
		return nil
	case e.ErrCode == codeStreamNotFound:
		return fmt.Errorf("%w: %s: %w", ErrNoStream, r.stream, e)
	default:
		return e
	}
}

// found returns the message in a reply to getMessage or getLast, or nil if there is none.
func (r *request) found() (*message, error) {
	if e := r.reply.Error; e != nil && e.isGone() {
		return nil, nil //nolint:nilnil // there is none
	}
	if err := r.refused(); err != nil {
		return nil, err
	}
	return r.stored()
}

// deleted returns whether a reply to deleteMessage says that the message was there.
func (r *request) deleted() (bool, error) {
	if e := r.reply.Error; e != nil && e.isGone() {
		return false, nil
	}
	return r.reply.Success, r.refused()
}

// written returns the sequence of a message that was stored.
func (r *request) written() (uint64, error) {
	switch err := r.refused(); {
	case err != nil:
		return 0, err
	case r.reply.Stream != r.stream || r.reply.Seq == 0:
		return 0, errBadReply
	default:
		return r.reply.Seq, nil
	}
}
