package eventtest

import (
	"slices"
	"strings"

	"github.com/b24events/b24events/internal/phpform"
)

// commandNamed returns the command with the ID COMMAND_ID. If byText is set, the parameter COMMAND
// may name one of the application's commands instead.
func (p *Portal) commandNamed(c *call, byText bool) (*botCommand, *apiError) {
	app, apiErr := c.botApp()
	if apiErr != nil {
		return nil, apiErr
	}
	id, given := c.param("COMMAND_ID")
	if byText && !given {
		for _, cmd := range p.chat.commandsLocked() {
			if cmd.bot.app == app && !cmd.v2 && cmd.name == c.str("COMMAND") {
				return cmd, nil
			}
		}
	}
	cmd := p.chat.commands[intOf(id)]
	switch {
	case cmd == nil || cmd.v2:
		return nil, fail(400, "COMMAND_ID_ERROR", "Command not found")
	case cmd.bot.app != app:
		return nil, fail(400, "APP_ID_ERROR", "Command was installed by another rest application")
	}
	return cmd, nil
}

// hasTitle reports whether LANG has a title in any language.
func hasTitle(lang phpform.Value) bool {
	return slices.ContainsFunc(lang.Entries(), func(e phpform.Entry) bool {
		id, _ := e.Value.GetFold("LANGUAGE_ID")
		title, _ := e.Value.GetFold("TITLE")
		return id.Scalar() != "" && title.Scalar() != ""
	})
}

// namesCommand reports whether a text can be typed after a slash. The documentation allows Latin
// letters and digits. This is less strict, because it does not say what a portal rejects.
func namesCommand(name string) bool { return !strings.ContainsAny(name, " \t\r\n/") }

// commandOf returns the bot's command with a name, or nil.
func (p *Portal) commandOf(b *bot, name string) *botCommand {
	for _, cmd := range p.chat.commandsLocked() {
		if cmd.bot == b && cmd.name == name {
			return cmd
		}
	}
	return nil
}

// commandRegister registers a command and binds its handler, which is the same for all commands of
// an application. If the bot already has the command, it returns its ID.
func (p *Portal) commandRegister(c *call) (reply, *apiError) {
	app, apiErr := c.botApp()
	if apiErr != nil {
		return reply{}, apiErr
	}
	handler, name := c.str("EVENT_COMMAND_ADD"), c.str("COMMAND")
	if handler == "" {
		return reply{}, fail(400, "EVENT_COMMAND_ADD_ERROR", `Handler for "Command add" event isn't specified`)
	}
	if apiErr := checkCallback(handler); apiErr != nil {
		return reply{}, fail(400, "EVENT_COMMAND_ADD_ERROR", apiErr.description)
	}
	if name == "" {
		return reply{}, fail(400, "COMMAND_ERROR", "Command isn't specified")
	}
	b, apiErr := p.bot(c, false)
	if apiErr != nil {
		return reply{}, apiErr
	}
	if lang, _ := c.param("LANG"); !hasTitle(lang) {
		return reply{}, fail(400, "LANG_ERROR", "Lang set can't be empty")
	}
	if !namesCommand(name) {
		return reply{}, fail(400, "WRONG_REQUEST", "Command can't be created")
	}
	cmd := p.commandOf(b, name)
	if cmd == nil {
		cmd = &botCommand{id: p.nextIDLocked("command"), bot: b, name: name, common: c.str("COMMON") == "Y"}
		if p.chat.commands == nil {
			p.chat.commands = map[int64]*botCommand{}
		}
		p.chat.commands[cmd.id] = cmd
	}
	p.rebindLocked(app, map[string]string{"ONIMCOMMANDADD": handler})
	return done(phpform.Int(cmd.id))
}

func (p *Portal) commandUpdate(c *call) (reply, *apiError) {
	cmd, apiErr := p.commandNamed(c, false)
	if apiErr != nil {
		return reply{}, apiErr
	}
	fields, _ := c.param("FIELDS")
	given := 0
	get := func(name string) string {
		v, ok := fields.GetFold(name)
		if ok && v.Kind() != phpform.Null {
			given++
		}
		return v.Scalar()
	}
	handler, name := get("EVENT_COMMAND_ADD"), get("COMMAND")
	for _, other := range []string{"HIDDEN", "EXTRANET_SUPPORT", "LANG"} {
		get(other) // the portal shows none of these
	}
	if handler != "" {
		if apiErr := checkCallback(handler); apiErr != nil {
			return reply{}, fail(400, "EVENT_COMMAND_ADD_ERROR", apiErr.description)
		}
	}
	if given == 0 {
		return reply{}, fail(400, "WRONG_REQUEST", "Update fields can't be empty")
	}
	if name != "" {
		if same := p.commandOf(cmd.bot, name); !namesCommand(name) || same != nil && same != cmd {
			return reply{}, fail(400, "WRONG_REQUEST", "Command can't be updated")
		}
		cmd.name = name
	}
	if handler != "" {
		p.rebindLocked(cmd.bot.app, map[string]string{"ONIMCOMMANDADD": handler})
	}
	return done(phpform.Boolean(true))
}

func (p *Portal) commandUnregister(c *call) (reply, *apiError) {
	cmd, apiErr := p.commandNamed(c, false)
	if apiErr != nil {
		return reply{}, apiErr
	}
	delete(p.chat.commands, cmd.id)
	return done(phpform.Boolean(true))
}

// commandAnswer writes a message of the command's bot into the chat of the message that called it.
func (p *Portal) commandAnswer(c *call) (reply, *apiError) {
	cmd, apiErr := p.commandNamed(c, true)
	if apiErr != nil {
		return reply{}, apiErr
	}
	id, _ := c.param("MESSAGE_ID")
	body := readMessage(c.params).body
	switch called := p.objects[ChatMessage][intOf(id)]; {
	case intOf(id) <= 0:
		return reply{}, fail(400, "MESSAGE_ID_EMPTY", "Message ID can't be empty")
	case body == "":
		return reply{}, fail(400, "MESSAGE_EMPTY", "Message can't be empty")
	case called == nil || messageOf(called).to == 0:
		return reply{}, fail(400, "WRONG_REQUEST", "Message isn't added")
	default:
		m := messageOf(called)
		return done(phpform.Int(p.storeMessage(message{chat: m.chat, author: cmd.bot.id, to: m.author, text: body}).id))
	}
}
