package eventtest

import (
	"maps"
	"slices"
	"strings"

	"github.com/b24events/b24events/internal/phpform"
)

// localized are the texts of a command by language.
type localized map[string]string

// text returns the text in the portal's language, or else in the first one that has any.
func (l localized) text() string {
	if s, ok := l["en"]; ok {
		return s
	}
	for _, lang := range slices.Sorted(maps.Keys(l)) {
		return l[lang]
	}
	return ""
}

// change applies an object of texts by language: a text replaces that of its language, null removes
// it, and other languages stay. Only the languages in among count, unless among is null.
func (l localized) change(texts, among phpform.Value) {
	for _, e := range texts.Entries() {
		if _, ok := among.Get(e.Key); !ok && among.Kind() != phpform.Null {
			continue
		}
		if e.Value.Kind() == phpform.Null {
			delete(l, e.Key)
			continue
		}
		l[e.Key] = e.Value.Scalar()
	}
}

// commandV2 returns the command with the ID commandId, which belongs to the bot with the ID botId.
func (p *Portal) commandV2(c *call) (*bot, *botCommand, *apiError) {
	b, apiErr := p.botV2(c)
	if apiErr != nil {
		return nil, nil, apiErr
	}
	id, _ := c.param("commandId")
	cmd := p.chat.commands[intOf(id)]
	if cmd == nil || cmd.bot != b || !cmd.v2 {
		return nil, nil, fail(400, "COMMAND_NOT_FOUND", "Command not found")
	}
	return b, cmd, nil
}

// setFlags changes those of a command's flags that the fields have.
func (cmd *botCommand) setFlags(fields phpform.Value) {
	for name, flag := range map[string]*bool{"common": &cmd.common, "hidden": &cmd.hidden, "extranetSupport": &cmd.extranet} {
		if v, ok := fields.GetFold(name); ok && v.Kind() != phpform.Null {
			*flag = yes(v)
		}
	}
}

// commandName reads fields.command. given is false if it is not there.
func commandName(fields phpform.Value) (name string, given bool, apiErr *apiError) {
	v, ok := fields.GetFold("command")
	if v.Kind() == phpform.Array {
		return "", true, fail(400, "COMMAND_NAME_INVALID", "Command name is invalid")
	}
	return v.Scalar(), ok && v.Kind() != phpform.Null, nil
}

// commandV2Register registers a slash command. A command that the bot has is returned as it is.
//
// Source: https://apidocs.bitrix24.com/api-reference/chat-bots/chat-bots-v2/imbot.v2/commands/command-register.html
func (p *Portal) commandV2Register(c *call) (reply, *apiError) {
	b, apiErr := p.botV2(c)
	if apiErr != nil {
		return reply{}, apiErr
	}
	fields, _ := c.param("fields")
	name, _, apiErr := commandName(fields)
	if apiErr != nil {
		return reply{}, apiErr
	}
	cmd := &botCommand{bot: b, name: name, v2: true, title: localized{}, params: localized{}}
	cmd.setFlags(fields)
	title, _ := fields.GetFold("title")
	params, _ := fields.GetFold("params")
	cmd.title.change(title, null())
	cmd.params.change(params, null())
	switch have := p.commandOf(b, name); {
	case name == "":
		return reply{}, fail(400, "COMMAND_REQUIRED", "Command is required")
	case !cmd.hidden && cmd.title.text() == "":
		return reply{}, fail(400, "COMMAND_TITLE_REQUIRED", "Command title is required")
	case !namesCommand(name):
		return reply{}, fail(400, "COMMAND_REGISTER_FAILED", "Command registration failed")
	case have != nil:
		return done(phpform.Map(kv("command", have.valueV2())))
	}
	cmd.id = p.nextIDLocked("command")
	if p.chat.commands == nil {
		p.chat.commands = map[int64]*botCommand{}
	}
	p.chat.commands[cmd.id] = cmd
	return done(phpform.Map(kv("command", cmd.valueV2())))
}

// commandV2Update changes a slash command.
//
// Source: https://apidocs.bitrix24.com/api-reference/chat-bots/chat-bots-v2/imbot.v2/commands/command-update.html
func (p *Portal) commandV2Update(c *call) (reply, *apiError) {
	b, cmd, apiErr := p.commandV2(c)
	if apiErr != nil {
		return reply{}, apiErr
	}
	fields, _ := c.param("fields")
	name, given, apiErr := commandName(fields)
	if apiErr != nil {
		return reply{}, apiErr
	}
	if given {
		switch same := p.commandOf(b, name); {
		case name == "":
			return reply{}, fail(400, "COMMAND_NAME_EMPTY", "Command name is empty")
		case !namesCommand(name):
			return reply{}, fail(400, "COMMAND_NAME_INVALID", "Command name is invalid")
		case same != nil && same != cmd:
			return reply{}, fail(400, "COMMAND_ALREADY_EXISTS", "Command already exists")
		}
		cmd.name = name
	}
	cmd.setFlags(fields)
	if title, ok := fields.GetFold("title"); ok {
		params, _ := fields.GetFold("params")
		cmd.title.change(title, null())
		cmd.params.change(params, title) // only in the languages that the title has
	}
	return done(phpform.Map(kv("command", cmd.valueV2())))
}

// commandV2Unregister deletes a slash command.
//
// Source: https://apidocs.bitrix24.com/api-reference/chat-bots/chat-bots-v2/imbot.v2/commands/command-unregister.html
func (p *Portal) commandV2Unregister(c *call) (reply, *apiError) {
	_, cmd, apiErr := p.commandV2(c)
	if apiErr != nil {
		return reply{}, apiErr
	}
	delete(p.chat.commands, cmd.id)
	return done(phpform.Map(kv("result", phpform.Boolean(true))))
}

// commandV2List returns the slash commands of a bot.
//
// Source: https://apidocs.bitrix24.com/api-reference/chat-bots/chat-bots-v2/imbot.v2/commands/command-list.html
func (p *Portal) commandV2List(c *call) (reply, *apiError) {
	b, apiErr := p.botV2(c)
	if apiErr != nil {
		return reply{}, apiErr
	}
	list := []phpform.Value{}
	for _, cmd := range p.chat.commandsLocked() {
		if cmd.bot == b && cmd.v2 {
			list = append(list, phpform.Map(append(slices.Clone(cmd.valueV2().Entries()),
				text("title", cmd.title.text()), text("params", cmd.params.text()),
				text("category", p.accounts.users[b.id].fullName()), text("context", ""))...))
		}
	}
	return done(phpform.Map(kv("commands", phpform.List(list...))))
}

// commandV2Answer writes a message of the bot into the chat of the message that called the command.
// messageId and commandId together allow it, also in a chat that the bot is not in.
//
// Source: https://apidocs.bitrix24.com/api-reference/chat-bots/chat-bots-v2/imbot.v2/commands/command-answer.html
func (p *Portal) commandV2Answer(c *call) (reply, *apiError) {
	b, apiErr := p.botV2(c)
	if apiErr != nil {
		return reply{}, apiErr
	}
	commandID, _ := c.param("commandId")
	messageID, _ := c.param("messageId")
	cmd, called := p.chat.commands[intOf(commandID)], p.objects[ChatMessage][intOf(messageID)]
	body := strings.TrimSpace(c.fieldV2("message"))
	failed := fail(400, "COMMAND_ANSWER_FAILED", "Command answer failed")
	if cmd == nil || cmd.bot != b || !cmd.v2 || called == nil || body == "" {
		return reply{}, failed
	}
	m := messageOf(called)
	_, calls := commandCalls(m.text)[cmd.name]
	if !calls || m.to == 0 || (!cmd.common && m.to != b.id) || c.str("dialogId") != chatNameV2(m, b) {
		return reply{}, failed
	}
	if m.to == b.id {
		p.addMessage(c.events, b.id, m.author, body)
	} else {
		o := p.storeMessage(message{chat: m.chat, author: b.id, to: m.author, text: body})
		p.logMessageLocked("ADD", o)
	}
	return done(phpform.Map(kv("result", phpform.Boolean(true))))
}

// chatNameV2 returns the dialogId of the chat of a message as the bot sees it: its counterpart, or
// the chat itself if the bot is not in it.
func chatNameV2(m message, b *bot) string {
	if m.to == b.id {
		return userKey(m.author)
	}
	return "chat" + userKey(m.chat)
}

// valueV2 returns a command as the methods that change it do.
func (cmd *botCommand) valueV2() phpform.Value {
	return phpform.Map(
		number("id", cmd.id),
		number("botId", cmd.bot.id),
		text("command", "/"+cmd.name),
		kv("common", phpform.Boolean(cmd.common)),
		kv("hidden", phpform.Boolean(cmd.hidden)),
		kv("extranetSupport", phpform.Boolean(cmd.extranet)),
	)
}

// raiseCommandsV2 raises the event for a message that calls commands of imbot.v2, once for each
// command. calls are those of the message, by the names of the commands. It reports whether there
// is any.
func (p *Portal) raiseCommandsV2(ev *pendingEvents, o *object, calls map[string]string) bool {
	m, raised := messageOf(o), false
	for _, cmd := range p.chat.commandsLocked() {
		params, called := calls[cmd.name]
		if !called || !cmd.v2 || (!cmd.common && cmd.bot.id != m.to) {
			continue
		}
		raised = true
		chat := p.chatV2(m.chat, m.author)
		if m.to != cmd.bot.id { // the bot is not in the chat
			entries := slices.Clone(chat.Entries())
			for i := range entries {
				if entries[i].Key == "dialogId" {
					entries[i].Value = phpform.Text(chatNameV2(m, cmd.bot))
				}
			}
			chat = phpform.Map(entries...)
		}
		p.raiseV2(ev, "COMMANDADD", cmd.bot, m.author,
			kv("command", phpform.Map(
				number("id", cmd.id), text("command", "/"+cmd.name), text("params", params), text("context", "textarea"),
			)),
			kv("message", messageV2(o)), kv("chat", chat), kv("user", p.accounts.users[m.author].valueV2(false)), text("language", "en"))
	}
	return raised
}
