package event_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
)

// TestAllocations: the tape of a usual body is on the stack, so Parse allocates only the delivery
// and its text.
//
//nolint:paralleltest // AllocsPerRun counts those of all goroutines
func TestAllocations(t *testing.T) {
	bodies := benchBodies()
	for name, most := range map[string]struct{ parse, typed float64 }{"deal": {2, 6}, "bot": {2, 20}} {
		body := bodies[name]
		require.LessOrEqual(t, testing.AllocsPerRun(100, func() {
			if _, err := event.Parse(formType, body); err != nil {
				t.Error(err)
			}
		}), most.parse, name)
		require.LessOrEqual(t, testing.AllocsPerRun(100, func() { decodeTyped(t, name, body) }), most.typed, name)
	}
}

// retainedBodies returns bodies that are made to take much memory, and usual ones.
func retainedBodies() map[string]string {
	fill := func(size int, pair func(i int) string) string {
		var b strings.Builder
		for i := 0; b.Len() < size; i++ {
			b.WriteString(pair(i))
		}
		return b.String()
	}
	same := func(size int, pair string) string { return fill(size, func(int) string { return pair }) }
	const head, bot = "event=ONX&", "event=ONIMBOTMESSAGEADD&"
	bodies := map[string]string{
		"shortest":   "event=X",
		"small":      "event=ONCRMDEALUPDATE&data[FIELDS][ID]=42&auth[member_id]=m&auth[application_token]=t",
		"small bot":  bot + "data[BOT][7][client_endpoint]=x&data[BOT][7][domain]=y",
		"small JSON": `{"event":"ONX","data":[[[[[[1]]]]]]}`,
	}
	for name, body := range benchBodies() {
		bodies[name] = string(body)
	}
	for _, size := range []int{100, 1 << 10, 8 << 10, 60 << 10} {
		for name, body := range map[string]string{
			"nested appends":     head + same(size, "data"+strings.Repeat("[]", 64)+"&"),
			"two appends":        head + same(size, "data[][]&"),
			"appends":            head + same(size, "data[]&"),
			"replaced":           head + same(size, "a=&a[]=&"),
			"replaced in data":   head + same(size, "data[a]=&data[a][b]=&"),
			"distinct":           head + fill(size, func(i int) string { return fmt.Sprintf("%x&", i) }),
			"distinct in data":   head + fill(size, func(i int) string { return fmt.Sprintf("data[%x]&", i) }),
			"arrays":             head + fill(size, func(i int) string { return fmt.Sprintf("%x[]&", i) }),
			"escaped":            head + "data=" + same(size, "%41"),
			"one token":          head + "auth[access_token]=" + same(size, "x"),
			"token and appends":  head + "auth[access_token]=" + same(size/2, "x") + same(size/2, "&data[][]"),
			"JSON list":          `{"event":"ONX","data":[` + same(size, "0,") + `0]}`,
			"JSON empty lists":   `{"event":"ONX","data":[` + same(size, "[],") + `0]}`,
			"JSON nested":        `{"event":"ONX","data":[` + same(size, strings.Repeat("[", 60)+strings.Repeat("]", 60)+",") + `0]}`,
			"JSON objects":       `{"event":"ONX","data":[` + same(size, `{"":0},`) + `0]}`,
			"JSON not UTF-8":     `{"event":"ONX","data":"` + same(size, "\xff ") + `"}`,
			"inner domains":      bot + fill(size, func(i int) string { return fmt.Sprintf("data[BOT][%d][domain]=&", i) }),
			"inner domains JSON": `{"event":"ONIMBOTMESSAGEADD","data":{"BOT":[` + same(size, `{"domain":1},`) + `0]}}`,
			"inner endpoints":    `{"event":"ONX","auth":{"application_token":"` + strings.Repeat("t", 40) + `","x":[` + same(size/2, "[],") + `0]},"data":[` + same(size/2, `{"auth":{"application_token":1}},`) + `0]}`,
			"record":             `{"EVENT_NAME":"ONX","MESSAGE_ID":"m","x":[` + same(size/2, "[],") + `0],"EVENT_DATA":[` + same(size/2, "[],") + `0]}`,
		} {
			bodies[fmt.Sprintf("%s of %d", name, size)] = body
		}
	}
	return bodies
}

// TestRetainedHeap: a waiting delivery takes less memory than twice its body plus 512 bytes, for
// any body, also after it was verified. Size returns about that.
//
//nolint:paralleltest // it measures the heap
func TestRetainedHeap(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	for name, body := range retainedBodies() {
		t.Run(name, func(t *testing.T) {
			if _, err := event.Parse("", []byte(body)); err != nil {
				require.ErrorIs(t, err, event.ErrTooLarge)
				return
			}
			kept := make([]*event.Delivery, max(50, min(2000, 1<<20/len(body))))
			before := heap()
			for i := range kept {
				d, err := event.Parse("", []byte(body))
				require.NoError(t, err)
				d.SetProof(proof())
				_ = d.Entity()
				_ = d.Data.Get("FIELDS", "ID")
				kept[i] = d
			}
			each := (heap() - before) / int64(len(kept))
			require.LessOrEqual(t, each, int64(2*len(body)+512))
			t.Logf("%d bytes for %d, %.2f", each, len(body), float64(each)/float64(len(body)))
			size := kept[0].Size()
			require.LessOrEqual(t, size, each+32)
			require.GreaterOrEqual(t, size*4/3+64, each)
			runtime.KeepAlive(kept)
		})
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) //nolint:gosec // it fits
}

// TestSizeOfAHandMadeDelivery counts its texts and its tree.
func TestSizeOfAHandMadeDelivery(t *testing.T) {
	t.Parallel()
	empty := new(event.Delivery).Size()
	data, err := event.NewData(map[string]string{"a": strings.Repeat("x", 1000)})
	require.NoError(t, err)
	d := event.Delivery{Name: "ONX", Auth: event.Auth{AccessToken: "12345"}, Data: data}
	require.Greater(t, d.Size(), empty+1000)
	require.Less(t, d.Size(), empty+1200)
}
