package event_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/phpform"
)

var update = flag.Bool("update", false, "write the fixtures and golden files in testdata/events")

// fixture is one documented sample in the forms in which it can arrive.
type fixture struct {
	documented

	wire   string        // the event's name as it arrives
	file   string        // below testdata/events, without the ending
	sample phpform.Value // the whole delivery
	row    int64         // number of its offline record
}

// fixtures returns every documented sample: one for each entry, and more if the documentation shows
// more.
func fixtures(t *testing.T) []fixture {
	t.Helper()
	var all []fixture
	for _, e := range readCatalog(t) {
		first := sampleOf(t, e)
		name := strings.ToUpper(at(first, "event").Scalar())
		add := func(sample phpform.Value, suffix string) {
			all = append(all, fixture{documented: e, wire: name, file: name + suffix, sample: sample, row: int64(len(all) + 1)})
		}
		add(first, "")
		next := 2
		for _, v := range e.Variants {
			sample := first
			if len(v.Sample) > 0 {
				sample = tree(t, v.Sample)
			} else {
				sample = withEntry(sample, "data", tree(t, v.Data))
			}
			if phpform.Encode(sample) == phpform.Encode(first) {
				continue
			}
			add(sample, "."+strconv.Itoa(next))
			next++
		}
	}
	return all
}

// withEntry returns a copy of an array in which key has another value.
func withEntry(v phpform.Value, key string, value phpform.Value) phpform.Value {
	entries := append([]phpform.Entry(nil), v.Entries()...)
	for i := range entries {
		if entries[i].Key == key {
			entries[i].Value = value
		}
	}
	return phpform.Map(entries...)
}

// form is the body that a portal posts.
func (f fixture) form() []byte {
	body := []phpform.Entry{{Key: "event", Value: phpform.Text(f.wire)}}
	for _, key := range []string{"event_handler_id", "eventId", "data", "ts", "auth"} {
		if v, ok := f.sample.Get(key); ok {
			body = append(body, phpform.Entry{Key: key, Value: v})
		}
	}
	return []byte(phpform.Encode(phpform.Map(body...)))
}

// record is the row that event.offline.get returns for the event.
func (f fixture) record(t *testing.T) []byte {
	t.Helper()
	const moscow = 3 * 60 * 60 // samples of the documentation show this offset
	user, err := strconv.ParseInt(at(f.sample, "auth", "user_id").Scalar(), 10, 64)
	if err != nil {
		user = 1
	}
	data := f.asStored(at(f.sample, "data"), nil)
	if data.Kind() == phpform.Array && data.Len() == 0 {
		data = phpform.Boolean(false)
	}
	sum := sha256.Sum256([]byte(f.file))
	doc := phpform.Map(
		phpform.Entry{Key: "ID", Value: phpform.Int(f.row)},
		phpform.Entry{Key: "TIMESTAMP_X", Value: phpform.Text(f.fired(t).In(time.FixedZone("", moscow)).Format(time.RFC3339))},
		phpform.Entry{Key: "EVENT_NAME", Value: phpform.Text(f.wire)},
		phpform.Entry{Key: "EVENT_DATA", Value: data},
		phpform.Entry{Key: "EVENT_ADDITIONAL", Value: phpform.Map(phpform.Entry{Key: "user_id", Value: phpform.Int(user)})},
		phpform.Entry{Key: "MESSAGE_ID", Value: phpform.Text(hex.EncodeToString(sum[:16]))},
	).AppendJSON(nil)
	var pretty bytes.Buffer
	require.NoError(t, json.Indent(&pretty, doc, "", "  "))
	return append(pretty.Bytes(), '\n')
}

func (f fixture) fired(t *testing.T) time.Time {
	t.Helper()
	sec, err := strconv.ParseInt(at(f.sample, "ts").Scalar(), 10, 64)
	require.NoError(t, err)
	return time.Unix(sec, 0).UTC()
}

// asStored restores the type of integers: the queue stores PHP values, but the samples show the
// texts of a form.
func (f fixture) asStored(v phpform.Value, path []string) phpform.Value {
	if v.Kind() == phpform.Array {
		entries := make([]phpform.Entry, v.Len())
		for i, e := range v.Entries() {
			entries[i] = phpform.Entry{Key: e.Key, Value: f.asStored(e.Value, append(slices.Clip(path), e.Key))}
		}
		return phpform.Map(entries...)
	}
	n, err := strconv.ParseInt(v.Scalar(), 10, 64)
	if err != nil || v.Kind() != phpform.String || !f.isInteger(path) {
		return v
	}
	return phpform.Int(n)
}

func (f fixture) isInteger(path []string) bool {
	for _, field := range f.Fields {
		documented := segments(field.Path)
		if field.Type == "integer[]" {
			documented = append(documented, "[]")
		}
		if strings.HasPrefix(field.Type, "integer") && matches(documented, path) {
			return true
		}
	}
	return false
}

// matches reports whether a path of keys is one of those that a documented path stands for.
func matches(documented, path []string) bool {
	if len(documented) != len(path) {
		return false
	}
	for i, segment := range documented {
		if segment != path[i] && !dynamic(segment) {
			return false
		}
	}
	return true
}

// same compares a committed file with what it must be, or writes it with -update.
func same(t *testing.T, name string, want []byte) {
	t.Helper()
	path := filepath.Join("testdata", "events", name)
	if *update {
		require.NoError(t, os.WriteFile(path, want, 0o600))
		return
	}
	got, err := os.ReadFile(path) //nolint:gosec // a fixture of this package
	require.NoError(t, err, "go test -run TestFixtures -update writes it")
	require.Equal(t, string(want), string(got))
}

// payloadJSON is the payload as examples/decode prints it.
func payloadJSON(t *testing.T, d *event.Delivery) []byte {
	t.Helper()
	info, ok := event.Lookup(d.Name)
	require.True(t, ok)
	payload, err := info.Payload(d)
	require.NoError(t, err)
	text, err := json.MarshalIndent(payload, "", "  ")
	require.NoError(t, err)
	return append(text, '\n')
}

func TestFixtures(t *testing.T) {
	t.Parallel()
	all := fixtures(t)
	require.Equal(t, 214+22, len(all), "documented samples") //nolint:testifylint // Len would print them all
	for _, f := range all {
		t.Run(f.file, func(t *testing.T) {
			t.Parallel()
			same(t, f.file+".form", f.form())
			same(t, f.file+".json", f.record(t))

			online, err := event.Parse("application/x-www-form-urlencoded", f.form())
			require.NoError(t, err)
			f.checkEnvelope(t, online)
			same(t, f.file+".golden.json", payloadJSON(t, online))

			offline, err := event.ParseRecord(f.record(t))
			require.NoError(t, err)
			require.Equal(t, f.wire, offline.Name)
			require.Equal(t, f.row, offline.ID)
			require.Equal(t, f.fired(t), offline.Time)
			require.Equal(t, event.SourceOffline, offline.Source)
			require.Equal(t, online.Entity(), offline.Entity())
			require.Equal(t, essence(t, online), essence(t, offline), "the form and the record are the same payload")

			for _, d := range []*event.Delivery{online, offline} {
				f.checkFields(t, d)
			}
		})
	}
}

func (f fixture) checkEnvelope(t *testing.T, d *event.Delivery) {
	t.Helper()
	require.Equal(t, event.KindEvent, d.Kind)
	require.Equal(t, f.wire, d.Name)
	require.Equal(t, f.fired(t), d.Time)
	require.Equal(t, at(f.sample, "auth", "member_id").Scalar(), d.Auth.MemberID)
	require.Equal(t, at(f.sample, "auth", "application_token").Scalar(), string(d.Auth.ApplicationToken))
	require.Equal(t, at(f.sample, "auth", "access_token").Scalar(), string(d.Auth.AccessToken))
	id := at(f.sample, "event_handler_id").Scalar() + at(f.sample, "eventId").Scalar()
	if id == "" {
		id = "0"
	}
	require.Equal(t, id, strconv.FormatInt(d.HandlerID, 10))
}

// TestNoFixtureIsLeftOver: every file belongs to a documented sample.
func TestNoFixtureIsLeftOver(t *testing.T) {
	t.Parallel()
	known := make(map[string]bool)
	for _, f := range fixtures(t) {
		for _, ending := range []string{".form", ".json", ".golden.json"} {
			known[f.file+ending] = true
		}
	}
	files, err := os.ReadDir(filepath.Join("testdata", "events"))
	require.NoError(t, err)
	for _, file := range files {
		require.True(t, known[file.Name()], file.Name())
	}
}

// TestFixturesShowNoToken: golden files are what programs print, so they hold no secrets of the
// samples.
func TestFixturesShowNoToken(t *testing.T) {
	t.Parallel()
	secrets := 0
	for _, f := range fixtures(t) {
		d, err := event.Parse("", f.form())
		require.NoError(t, err)
		info, _ := event.Lookup(d.Name)
		payload, err := info.Payload(d)
		require.NoError(t, err)
		for _, printed := range []string{string(payloadJSON(t, d)), fmt.Sprintf("%v %+v %#v", payload, payload, payload)} {
			for _, secret := range tokens(f.sample, "") {
				secrets++
				require.NotContains(t, printed, secret, f.file)
			}
		}
	}
	require.Greater(t, secrets, 1000)
}

// tokens returns the values in a tree that stand under the name of a token.
func tokens(v phpform.Value, key string) []string {
	var all []string
	for _, e := range v.Entries() {
		all = append(all, tokens(e.Value, e.Key)...)
	}
	if strings.Contains(strings.ToLower(key), "token") && v.Scalar() != "" {
		all = append(all, v.Scalar())
	}
	return all
}

// TestPayloadsSurviveTheirOwnEncoding: what eventtest builds from a payload decodes to that
// payload.
func TestPayloadsSurviveTheirOwnEncoding(t *testing.T) {
	t.Parallel()
	for _, f := range fixtures(t) {
		t.Run(f.file, func(t *testing.T) {
			t.Parallel()
			d, err := event.Parse("", f.form())
			require.NoError(t, err)
			info, _ := event.Lookup(d.Name)
			payload, err := info.Payload(d)
			require.NoError(t, err)
			again := *d
			again.Data, err = event.NewData(payload)
			require.NoError(t, err)
			require.Equal(t, essence(t, d), essence(t, &again))
			require.Equal(t, d.Entity(), again.Entity())
		})
	}
}
