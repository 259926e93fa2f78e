package natsstore

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/webhook"
)

func TestIDs(t *testing.T) {
	t.Parallel()
	for _, id := range []recordID{{0, 1, ""}, {3, 57, "ABC234"}, {MaxPartitions - 1, 1<<64 - 1, strings.Repeat("Z", maxUID)}} {
		s := id.String()
		require.LessOrEqual(t, len(s), 64)
		got, ok := parseID(s)
		require.True(t, ok, s)
		require.Equal(t, id, got)
	}
	for _, s := range []string{
		"", "-", "--", "1", "1-", "1-1", "1--A", "-1-A", "0-0-A", "00-1-A", "0-01-A", "+0-1-A", "0-+1-A", "0-1-a", "0-1-A ", "0-1-A-B", "0-1-é", "0-1-.", "0-1-*",
		"65536-1-A", "0-18446744073709551616-A", "0-1-" + strings.Repeat("A", maxUID+1), strings.Repeat("0", 100), "0-1-\x00",
	} {
		_, ok := parseID(s)
		require.False(t, ok, "%q", s)
	}
	one, two := newUID(), newUID()
	require.NotEqual(t, one, two)
	require.True(t, validUID(newUID()))
	require.True(t, validUID(replayUID("0-1-A", 5)))
	one, two = replayUID("0-1-A", 5), replayUID("0-1-A", 5)
	require.Equal(t, one, two)
	require.NotEqual(t, one, replayUID("0-1-A", 6))
}

func FuzzParseID(f *testing.F) {
	for _, s := range []string{"0-1-A", "3-57-ABC234", "1-1", "0-01-A", "é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, ok := parseID(s)
		if ok && id.String() != s {
			t.Fatalf("%q is read as %q", s, id)
		}
	})
}

// TestHeaders sends the text of records and marks through headers.
func TestHeaders(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", " ", "  a  ", "a\r\nb: c", "%", "%20", "é 名", "\x00\x7f", strings.Repeat("é", 256), `"\`, "a:b", "NATS/1.0",
	} {
		name := text[:min(len(text), 128)]
		r := &webhook.Record{Part: 2, Name: name, MemberID: name, Received: time.UnixMicro(1700000000123456).UTC()}
		mark := webhook.Mark{
			State: webhook.StateParked, Attempts: 3, Interrupted: 2, Due: time.UnixMicro(1800000000123456).UTC(),
			Err: text,
		}
		pending := passed(t, recordHeader(r, "UID"))
		archived := passed(t, archiveHeader(pending, mark))
		m := message{header: archived, data: []byte("data"), seq: 5, time: time.Unix(1, 1500)}
		got := m.archived(recordID{2, 7, "UID"})
		require.Equal(t, &webhook.Record{
			ID: "2-7-UID", Part: 2, Name: name, MemberID: name, Received: r.Received, Data: []byte("data"), Attempts: 3, Interrupted: 2, Due: mark.Due, Err: text,
			Settled: time.Unix(1, 1000).UTC(),
		}, got)
		replayed := passed(t, replayHeader(archived, "NEW"))
		require.Equal(t, "NEW", first(replayed, headerMsgID))
		require.Equal(t, name, (&message{header: replayed}).record("", 0).Name)
		require.Empty(t, first(replayed, headerError))
		size := 0
		for key, values := range archived {
			size += len(key) + len(values[0]) + 4
		}
		require.Less(t, size+100, headerRoom)
	}
}

// passed is headers as they arrive.
func passed(t *testing.T, h nats.Header) nats.Header {
	t.Helper()
	var b strings.Builder
	b.WriteString("NATS/1.0\r\n")
	for key, values := range h {
		for _, v := range values {
			b.WriteString(key + ": " + v + "\r\n")
		}
	}
	b.WriteString("\r\n")
	out, err := nats.DecodeHeadersMsg([]byte(b.String()))
	require.NoError(t, err)
	return out
}

func TestRecentIDs(t *testing.T) {
	t.Parallel()
	r := newRecentIDs(3)
	for i, id := range []string{"a", "b", "c", "d", "e", "f"} {
		r.add(id, uint64(i))
		require.True(t, r.has(id))
	}
	for _, id := range []string{"d", "e", "f"} {
		require.True(t, r.has(id))
	}
	require.True(t, r.has("a"))
	r.add("g", 9)
	require.False(t, r.has("a"))
	seq, ok := r.seq("f")
	require.True(t, ok)
	require.Equal(t, uint64(5), seq)
	require.LessOrEqual(t, len(r.now)+len(r.old), 2*3)
}

// TestOrderOfAcknowledgements checks what Commit makes of the sequences that the server replies.
func TestOrderOfAcknowledgements(t *testing.T) {
	t.Parallel()
	full := &apiError{ErrCode: codeStoreFailed, Description: "maximum messages exceeded"}
	for _, c := range []struct {
		name    string
		parts   []int
		replies []reply
		want    string
		full    bool
	}{
		{"in order", []int{0, 0, 1}, []reply{{Seq: 5}, {Seq: 6}, {Seq: 7}}, "", false},
		{"partitions apart", []int{0, 1, 0}, []reply{{Seq: 5}, {Seq: 2}, {Seq: 7}}, "", false},
		{"some were there", []int{0, 0, 0}, []reply{{Seq: 5, Duplicate: true}, {Seq: 6, Duplicate: true}, {Seq: 9}}, "", false},
		{"the first was lost", []int{0, 0, 0}, []reply{{Seq: 9}, {Seq: 6, Duplicate: true}, {Seq: 10}}, "not stored in their order", false},
		{"full", []int{0, 0}, []reply{{Seq: 9}, {Error: full}}, "maximum messages", true},
		{
			"full, and another error",
			[]int{0, 0},
			[]reply{{Error: full}, {Error: &apiError{ErrCode: codeStoreFailed, Description: "disk failure"}}},
			"disk failure", false,
		},
		{"another stream", []int{0}, []reply{{Stream: "OTHER", Seq: 5}}, "not JetStream's", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := &Store{layout: layout{"NAME", 4}}
			k := commit{s: s}
			for i, part := range c.parts {
				r := s.publish(s.pending(), s.in(part), nil, nil)
				r.reply, r.replied = c.replies[i], true
				if r.reply.Stream == "" {
					r.reply.Stream = "NAME"
				}
				k.adds = append(k.adds, adding{r, &webhook.Record{Part: part}, "UID"})
			}
			err := k.afterAdds()
			require.Equal(t, c.full, err != nil && strings.Contains(err.Error(), string(webhook.ErrQueueFull)))
			if c.want == "" {
				require.NoError(t, err)
				for i, a := range k.adds {
					require.Equal(t, recordID{c.parts[i], c.replies[i].Seq, "UID"}.String(), a.rec.ID)
				}
				return
			}
			require.ErrorContains(t, err, c.want)
		})
	}
}
