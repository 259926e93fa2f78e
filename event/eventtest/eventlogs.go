package eventtest

import (
	"cmp"
	"slices"
)

// EventLog is what waits to be polled by one bot in fetch mode, or for one user.
type EventLog struct {
	BotID   int64 // 0 for the log of a user
	UserID  int64 // 0 for the log of a bot
	Waiting int   // number of events
	// NextOffset is the nextOffset of a response that has all of them. A call with this offset
	// acknowledges them. It is 0 if nothing waits.
	NextOffset int64
	Latest     []LoggedEvent // the last of them, in the order of their IDs
}

// EventLogs returns the logs of the bots in fetch mode by ID, and then those of the users who are
// subscribed with im.v2.Event.subscribe, or were. A log may be empty. Each has its latest events,
// at most latest. See [Portal.LoggedEvents] for all events.
func (p *Portal) EventLogs(latest int) []EventLog {
	type owner struct{ bot, user int64 }
	kept := map[owner][]loggedEvent{}
	logs := map[owner]*EventLog{}
	of := func(o owner) *EventLog {
		if logs[o] == nil {
			logs[o] = &EventLog{BotID: o.bot, UserID: o.user}
		}
		return logs[o]
	}
	p.mu.Lock()
	p.dropOldEventsLocked()
	for id, b := range p.chat.bots {
		if b.Fetch {
			of(owner{bot: id})
		}
	}
	for s := range p.eventLog.subscribers {
		of(owner{user: s.user})
	}
	for _, e := range p.eventLog.events {
		o := owner{e.bot, e.user}
		log := of(o)
		log.Waiting++
		log.NextOffset = e.id + 1
		if kept[o] = append(kept[o], e); len(kept[o]) > max(latest, 0) {
			kept[o] = kept[o][1:]
		}
	}
	p.mu.Unlock()
	list := make([]EventLog, 0, len(logs))
	for o, log := range logs { // without the lock, because converting the data takes time
		for _, e := range kept[o] {
			log.Latest = append(log.Latest, e.exported())
		}
		list = append(list, *log)
	}
	slices.SortFunc(list, func(a, b EventLog) int {
		return cmp.Or(cmp.Compare(a.UserID, b.UserID), cmp.Compare(a.BotID, b.BotID))
	})
	return list
}
