package event_test

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/b24events/b24events/event"
)

func BenchmarkParse(b *testing.B) {
	for _, name := range []string{"ONCRMDEALUPDATE", "ONTASKUPDATE", "ONIMBOTMESSAGEADD"} {
		body, err := os.ReadFile(filepath.Join("testdata", "events", name+".form")) //nolint:gosec // a constant name
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if _, err := event.Parse(formType, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// benchBodies returns the two bodies whose cost is compared with that of url.ParseQuery: the one
// that portals send most, and a message to a bot, which is the largest of the usual ones.
func benchBodies() map[string][]byte {
	auth := func(at string) string {
		return strings.ReplaceAll("&A%5Baccess_token%5D=6e6f6e7365637265746163636573736f6b656e30313233343536373839616263646566303132333435&A%5Bexpires%5D=1739052997"+
			"&A%5Bexpires_in%5D=3600&A%5Bscope%5D=crm%2Ctask&A%5Bdomain%5D=portal.bitrix24.com&A%5Bserver_endpoint%5D=https%3A%2F%2Foauth.bitrix.info%2Frest%2F"+
			"&A%5Bstatus%5D=L&A%5Bclient_endpoint%5D=https%3A%2F%2Fportal.bitrix24.com%2Frest%2F&A%5Bmember_id%5D=a223c6b3710f85df22e9377d6c4f7553"+
			"&A%5Buser_id%5D=1&A%5Bapplication_token%5D=51856fefc120afa4b628cc82d3935cce", "A%5B", at+"%5B")
	}
	var message strings.Builder
	message.WriteString("event=ONIMBOTMESSAGEADD&event_handler_id=403")
	bot := "data%5BBOT%5D%5B123%5D"
	message.WriteString(auth(bot) + auth(bot+"%5BAUTH%5D"))
	message.WriteString("&" + bot + "%5BBOT_ID%5D=123&" + bot + "%5BBOT_CODE%5D=newbot&data%5BPARAMS%5D%5BMESSAGE%5D=")
	message.WriteString(url.QueryEscape(strings.Repeat("Добрый день! Когда будет готов счёт по сделке №21? Клиент ждёт. ", 16)))
	message.WriteString("&data%5BPARAMS%5D%5BDIALOG_ID%5D=chat2725&data%5BPARAMS%5D%5BMESSAGE_ID%5D=150003")
	for i := range 37 {
		message.WriteString("&data%5BPARAMS%5D%5BCHAT_FIELD_" + strconv.Itoa(i) + "%5D=value+" + strconv.Itoa(i))
	}
	for i := range 10 {
		message.WriteString("&data%5BUSER%5D%5BFIELD_" + strconv.Itoa(i) + "%5D=%D0%98%D0%B2%D0%B0%D0%BD")
	}
	message.WriteString("&ts=1739049397" + auth("auth"))
	return map[string][]byte{
		"deal": []byte("event=ONCRMDEALUPDATE&event_handler_id=509&data%5BFIELDS%5D%5BID%5D=21&ts=1739049397" + auth("auth")),
		"bot":  []byte(message.String()),
	}
}

// decodeTyped does what a handler needs: an event, and its payload.
func decodeTyped(tb testing.TB, name string, body []byte) {
	tb.Helper()
	d, err := event.Parse(formType, body)
	if err == nil && name == "deal" {
		_, err = event.OnCrmDealUpdate.Decode(d)
	} else if err == nil {
		var payload event.BotMessage // the body names no message
		err = d.Data.Decode(&payload)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// BenchmarkAgainstParseQuery compares parsing and decoding a payload with url.ParseQuery alone,
// which makes neither. Only the ratio of two figures of one run says anything.
func BenchmarkAgainstParseQuery(b *testing.B) {
	for name, body := range benchBodies() {
		text := string(body)
		b.Run(name+"/query", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := url.ParseQuery(text); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/parse", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := event.Parse(formType, body); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/typed", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				decodeTyped(b, name, body)
			}
		})
	}
}

func BenchmarkDispatch(b *testing.B) {
	mux := event.NewMux()
	event.On(mux, event.OnCrmContactAdd, func(context.Context, *event.Delivery, event.CRMEntity) error { return nil })
	d, err := event.Parse(formType, []byte(contactAdd))
	if err != nil {
		b.Fatal(err)
	}
	b.Run("typed", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := mux.HandleEvent(b.Context(), d); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("entity", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if d.Entity().ID == "" {
				b.Fatal("no entity")
			}
		}
	})
	b.Run("key", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = d.Key()
		}
	})
}
