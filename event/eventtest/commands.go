package eventtest

import (
	"maps"
	"slices"
	"strings"

	"github.com/b24events/b24events/internal/phpform"
)

// botCommand is a slash command of a bot. Portal.mu guards it.
type botCommand struct {
	id     int64
	bot    *bot
	name   string // without the slash
	common bool   // works in every private chat, not only in those with the bot

	v2               bool // registered with imbot.v2.Command.register, which also sets the others
	hidden, extranet bool
	title, params    localized
}

// commandCalls returns the parameters of the commands that a text calls, by the commands' names. A
// line that begins with a slash is a call: the name ends at the first space, and the parameters are
// what follows it. The last call of a command counts.
func commandCalls(text string) map[string]string {
	calls := map[string]string{}
	for line := range strings.Lines(text) {
		if called, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "/"); ok {
			name, params, _ := strings.Cut(called, " ")
			calls[name] = params
		}
	}
	return calls
}

// raiseCommands raises the events for a message that calls commands: those of imbot.v2 one by one,
// and the others once for each application that has registered one of them. It reports whether
// there is any. If so, the platform raises no event for the message itself.
func (p *Portal) raiseCommands(ev *pendingEvents, o *object) bool {
	m := messageOf(o)
	if p.chat.bots[m.author] != nil || p.accounts.users[m.author] == nil || m.to == 0 {
		return false
	}
	called := map[*Application][]phpform.Entry{}
	calls := commandCalls(m.text)
	for _, cmd := range p.chat.commandsLocked() {
		if params, ok := calls[cmd.name]; ok && !cmd.v2 && (cmd.common || cmd.bot.id == m.to) {
			called[cmd.bot.app] = append(called[cmd.bot.app], kv(userKey(cmd.id), p.commandEntryLocked(cmd, params, m)))
		}
	}
	for _, app := range p.accounts.apps {
		if called[app] != nil {
			ev.raise(occurrence{event: "ONIMCOMMANDADD", app: app, user: m.author, data: phpform.Map(
				kv("COMMAND", phpform.Map(called[app]...)),
				kv("PARAMS", commandParams(m)),
				kv("USER", phpform.Map(p.accounts.users[m.author].callerEntries()...)),
			)})
		}
	}
	return p.raiseCommandsV2(ev, o, calls) || len(called) > 0
}

// commandsLocked returns the commands of all bots by their IDs. Portal.mu must be held.
func (s *chatState) commandsLocked() []*botCommand {
	list := make([]*botCommand, 0, len(s.commands))
	for _, id := range slices.Sorted(maps.Keys(s.commands)) {
		list = append(list, s.commands[id])
	}
	return list
}

// commandEntryLocked returns a command with the tokens of its bot, as botEntryLocked does for a
// bot.
func (p *Portal) commandEntryLocked(cmd *botCommand, params string, m message) phpform.Value {
	return phpform.Map(append(slices.Clone(p.botEntryLocked(cmd.bot).Entries()),
		text("COMMAND", cmd.name),
		number("COMMAND_ID", cmd.id),
		text("COMMAND_PARAMS", params),
		text("COMMAND_CONTEXT", "TEXTAREA"),
		number("MESSAGE_ID", m.id),
	)...)
}

// commandParams returns the PARAMS of an event for a command in a private chat.
func commandParams(m message) phpform.Value {
	return phpform.Map(
		text("MESSAGE", m.text),
		text("TEMPLATE_ID", templateID()),
		text("MESSAGE_TYPE", "P"),
		number("FROM_USER_ID", m.author),
		digits("DIALOG_ID", m.author),
		number("TO_CHAT_ID", m.chat),
		number("AUTHOR_ID", m.author),
		text("SYSTEM", "N"),
		number("TO_USER_ID", m.to),
		text("SKIP_USER_CHECK", "Y"),
		text("PUSH", "Y"),
		text("PUSH_IMPORTANT", "N"),
		text("RECENT_ADD", "Y"),
		text("RECENT_SKIP_AUTHOR", "N"),
		text("CONVERT", "N"),
		text("SKIP_COMMAND", "N"),
		text("SKIP_COUNTER_INCREMENTS", "N"),
		text("SILENT_CONNECTOR", "N"),
		text("SKIP_CONNECTOR", "N"),
		text("IMPORTANT_CONNECTOR", "N"),
		text("NO_SESSION_OL", "N"),
		number("FAKE_RELATION", 0),
		text("SKIP_URL_INDEX", "N"),
		number("MESSAGE_ID", m.id),
		text("CHAT_TYPE", "P"),
		text("LANGUAGE", "en"),
	)
}

// callerEntries returns a user as the event of a command shows it.
func (u *user) callerEntries() []phpform.Entry {
	return []phpform.Entry{
		number("ID", u.id),
		text("NAME", u.fullName()),
		text("FIRST_NAME", u.Name),
		text("LAST_NAME", u.LastName),
		text("GENDER", "M"),
	}
}
