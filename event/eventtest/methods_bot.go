package eventtest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/b24events/b24events/internal/phpform"
)

// botHandler is one of the handler addresses that imbot.register takes.
type botHandler struct {
	param string // the error codes contain it
	event string
	label string // its name in errors; empty if the address is optional
}

// botHandlers returns the addresses in the order in which they are checked.
func botHandlers() []botHandler {
	return []botHandler{
		{"EVENT_MESSAGE_ADD", "ONIMBOTMESSAGEADD", "Message add"},
		{"EVENT_MESSAGE_UPDATE", "ONIMBOTMESSAGEUPDATE", ""},
		{"EVENT_MESSAGE_DELETE", "ONIMBOTMESSAGEDELETE", ""},
		{"EVENT_WELCOME_MESSAGE", "ONIMBOTJOINCHAT", "Welcome message"},
		{"EVENT_BOT_DELETE", "ONIMBOTDELETE", "Bot delete"},
	}
}

// readBotHandlers reads the addresses by event. EVENT_HANDLER replaces all of them. all means that
// addresses with a label must be there. Which of them are bound, [Portal.botRegister] decides.
func readBotHandlers(get func(name string) string, all bool) (map[string]string, *apiError) {
	found := map[string]string{}
	for _, handler := range botHandlers() {
		url := cmp.Or(get("EVENT_HANDLER"), get(handler.param))
		if url == "" {
			if all && handler.label != "" {
				return nil, fail(400, handler.param+"_ERROR", fmt.Sprintf("Handler for %q event isn't specified", handler.label))
			}
			continue
		}
		if apiErr := checkCallback(url); apiErr != nil {
			return nil, fail(400, handler.param+"_ERROR", apiErr.description)
		}
		found[handler.event] = url
	}
	return found, nil
}

// botApp returns the application whose bots a call is about. Bots of incoming webhooks are not
// emulated.
func (c *call) botApp() (*Application, *apiError) {
	if c.caller.app == nil {
		return nil, denied(" Client ID not specified")
	}
	return c.caller.app, nil
}

// bot returns the bot with the ID BOT_ID. If BOT_ID is optional and missing, it returns the
// application's first bot.
func (p *Portal) bot(c *call, optional bool) (*bot, *apiError) {
	app, apiErr := c.botApp()
	if apiErr != nil {
		return nil, apiErr
	}
	v, ok := c.param("BOT_ID")
	if !ok && optional {
		for _, id := range slices.Sorted(maps.Keys(p.chat.bots)) {
			if p.chat.bots[id].app == app {
				return p.chat.bots[id], nil
			}
		}
	}
	b := p.chat.bots[intOf(v)]
	switch {
	case b == nil:
		return nil, fail(400, "BOT_ID_ERROR", "Bot not found")
	case b.app != app:
		return nil, fail(400, "APP_ID_ERROR", "Bot was installed by another rest application")
	}
	return b, nil
}

// botProfile reads PROPERTIES over an old profile. named reports whether they contain a name.
func botProfile(v phpform.Value, old User) (u User, named bool) {
	u = old
	properties, _ := v.GetFold("PROPERTIES")
	if name, ok := properties.GetFold("NAME"); ok {
		u.Name, named = name.Scalar(), true
	}
	if name, ok := properties.GetFold("LAST_NAME"); ok {
		u.LastName, named = name.Scalar(), true
	}
	if email, ok := properties.GetFold("EMAIL"); ok {
		u.Email = email.Scalar()
	}
	return u, named
}

// botRegister registers a bot and binds its handlers. For ordinary bots it ignores the addresses
// for edited and deleted messages, also if EVENT_HANDLER gives them. imbot.update and event.bind
// bind them for such bots too.
func (p *Portal) botRegister(c *call) (reply, *apiError) {
	app, apiErr := c.botApp()
	if apiErr != nil {
		return reply{}, apiErr
	}
	handlers, apiErr := readBotHandlers(c.str, true)
	if apiErr != nil {
		return reply{}, apiErr
	}
	code := c.str("CODE")
	if code == "" {
		return reply{}, fail(400, "CODE_ERROR", "Bot code isn't specified")
	}
	profile, named := botProfile(c.params, User{})
	if !named {
		return reply{}, fail(400, "NAME_ERROR", "Bot name isn't specified")
	}
	b, ok := p.registerBotLocked(app, Bot{Code: code, Type: c.str("TYPE")}, profile, c.str("OPENLINE") == "Y")
	if !ok {
		return reply{}, fail(
			400,
			"MAX_COUNT_ERROR",
			fmt.Sprintf("Has reached the maximum number of bots for application (max: %d)", maxBots),
		)
	}
	if b.Type != "S" && !b.openline {
		delete(handlers, "ONIMBOTMESSAGEUPDATE")
		delete(handlers, "ONIMBOTMESSAGEDELETE")
	}
	p.rebindLocked(app, handlers)
	return done(phpform.Int(b.id))
}

func (p *Portal) botUpdate(c *call) (reply, *apiError) {
	b, apiErr := p.bot(c, false)
	if apiErr != nil {
		return reply{}, apiErr
	}
	fields, _ := c.param("FIELDS")
	get := func(name string) string {
		v, _ := fields.GetFold(name)
		return v.Scalar()
	}
	handlers, apiErr := readBotHandlers(get, false)
	if apiErr != nil {
		return reply{}, apiErr
	}
	profile, named := botProfile(fields, p.accounts.users[b.id].User)
	if named && profile.Name == "" && profile.LastName == "" {
		return reply{}, fail(400, "NAME_ERROR", "Bot name isn't specified")
	}
	code, openline := get("CODE"), get("OPENLINE")
	if len(handlers) == 0 && code == "" && openline == "" && profile == p.accounts.users[b.id].User {
		return reply{}, fail(400, "WRONG_REQUEST", "Update fields can't be empty")
	}
	p.accounts.users[b.id].User = profile
	b.Code = cmp.Or(code, b.Code)
	if openline != "" {
		b.openline = openline == "Y"
	}
	p.rebindLocked(b.app, handlers)
	return done(phpform.Boolean(true))
}

func (p *Portal) botUnregister(c *call) (reply, *apiError) {
	b, apiErr := p.bot(c, false)
	if apiErr != nil {
		return reply{}, apiErr
	}
	p.raiseBotDelete(c.events, b, c.caller.user.id)
	p.dropBotLocked(b)
	return done(phpform.Boolean(true))
}

// botList lists the bots of all applications.
func (p *Portal) botList(*call) (reply, *apiError) {
	var entries []phpform.Entry
	for _, id := range slices.Sorted(maps.Keys(p.chat.bots)) {
		b, openline := p.chat.bots[id], "N"
		if b.openline {
			openline = "Y"
		}
		entries = append(entries, kv(userKey(id), phpform.Map(
			number("ID", id), text("NAME", p.accounts.users[id].fullName()), text("CODE", b.Code), text("OPENLINE", openline),
		)))
	}
	return done(phpform.Map(entries...))
}

func (p *Portal) botMessageAdd(c *call) (reply, *apiError) {
	b, apiErr := p.bot(c, true)
	if apiErr != nil {
		return reply{}, apiErr
	}
	to := intOf(phpform.Text(c.str("DIALOG_ID")))
	if to <= 0 {
		return reply{}, fail(400, "DIALOG_ID_EMPTY", "Dialog ID can't be empty")
	}
	body := readMessage(c.params).body
	if body == "" {
		return reply{}, fail(400, "MESSAGE_EMPTY", "Message can't be empty")
	}
	if p.accounts.users[to] == nil || to == b.id {
		return reply{}, fail(400, "WRONG_REQUEST", "Message isn't added")
	}
	return done(phpform.Int(p.addMessage(c.events, b.id, to, body).id))
}

func (p *Portal) botMessageUpdate(c *call) (reply, *apiError) {
	b, apiErr := p.bot(c, true)
	if apiErr != nil {
		return reply{}, apiErr
	}
	return p.messageChange(c, b.id, p.updateMessage)
}

func (p *Portal) botMessageDelete(c *call) (reply, *apiError) {
	b, apiErr := p.bot(c, true)
	if apiErr != nil {
		return reply{}, apiErr
	}
	return p.messageChange(c, b.id, nil)
}
