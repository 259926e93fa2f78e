package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestBrowserPolled writes to a bot in fetch mode on the page, sees what waits for it, and raises
// another event for it.
func TestBrowserPolled(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	b := newTab(t)
	b.look(1280, 900, "light")
	b.open(p.page + "/")
	require.Equal(t, true, b.value(`document.querySelector('#polled').hidden && document.querySelector('#raise-for').hidden`), "there is no such bot")
	bot := newBotCaller(t, p, "bots").register("fetch", "")
	log := `document.querySelector('#polled-list [data-bot="` + bot + `"]')`
	b.until(log + `.dataset.waiting === '0'`)
	b.until(`document.querySelector('.card[data-app="bots"]').textContent.includes('fetch mode')`)
	b.reach(`#change-form [name=kind]`)
	b.value(`document.activeElement.value = 'message'; document.activeElement.dispatchEvent(new Event('change', { bubbles: true }))`)
	b.reach(`#change-form button.primary`)
	b.press("Enter")
	b.until(log + `.dataset.waiting === '2'`)
	b.until(`document.querySelector('#said').textContent === 'Message 1 added.'`) // something gets it
	b.click(`#polled-list [data-bot="` + bot + `"] summary`)
	b.until(log + `.querySelector('.record-body').textContent.includes('ONIMBOTV2MESSAGEADD')`)

	b.click(`#cause .disclosure > summary`)
	b.reach(`#raise-form [name=event]`)
	b.fill("ONIMBOTV2CONTEXTGET")
	b.reach(`#raise-form [name=bot]`)
	b.value(`document.activeElement.value = '` + bot + `'`)
	b.click(`#raise-form button.primary`)
	b.until(log + `.dataset.waiting === '3'`)
	waiting := p.state("").Polled[0]
	require.Equal(t, "ONIMBOTV2CONTEXTGET", waiting.Latest[0].Event)
	require.InDelta(t, waiting.NextOffset, b.value(`Number(`+log+`.dataset.next)`), 0)
	require.Equal(t, false, b.value(`!!document.querySelector('#polled b b, .card b b')`), "the name of a bot stays text")
	require.Equal(t, true, b.value(`document.documentElement.scrollWidth <= innerWidth`), "nothing sticks out")
	b.look(360, 740, "dark")
	require.Equal(t, true, b.value(`document.documentElement.scrollWidth <= innerWidth`), "on a phone neither")
	require.Empty(t, b.complaints())
}
