package eventtest

import (
	"strings"

	"github.com/b24events/b24events/internal/phpform"
)

// maxBotToken is the maximum length of a botToken.
const maxBotToken = 40

// botTypesV2 maps the types of imbot.v2 to the letters of the old API, as far as they matter here.
func botTypesV2() map[string]string {
	return map[string]string{"": "B", "bot": "B", "network": "B", "personal": "B", "openline": "O", "supervisor": "S"}
}

// fieldV2 reads a scalar of the parameter fields.
func (c *call) fieldV2(name string) string {
	fields, _ := c.param("fields")
	v, _ := fields.GetFold(name)
	return v.Scalar()
}

// profileV2 reads fields.properties.
func (c *call) profileV2(old User) User {
	fields, _ := c.param("fields")
	u, _ := botProfile(fields, old)
	if properties, _ := fields.GetFold("properties"); properties.Kind() == phpform.Array {
		if last, ok := properties.GetFold("lastName"); ok {
			u.LastName = last.Scalar()
		}
	}
	return u
}

// webhookURLV2 returns the URL that gets the events of a bot, or "" in fetch mode. present is the
// current URL.
func (c *call) webhookURLV2(present string) (url string, apiErr *apiError) {
	url = present
	if given := c.fieldV2("webhookUrl"); given != "" {
		url = given
	}
	switch mode := c.fieldV2("eventMode"); {
	case mode == "fetch", mode == "" && present == "":
		return "", nil
	case mode != "" && mode != "webhook":
		return "", fail(400, "BOT_INVALID_EVENT_MODE", "Invalid event mode")
	case url == "":
		return "", fail(400, "BOT_WEBHOOK_URL_REQUIRED", "Webhook URL is required")
	case checkCallback(url) != nil:
		return "", fail(400, "BOT_INVALID_CALLBACK", "Invalid callback URL")
	}
	return url, nil
}

func (p *Portal) botV2Register(c *call) (reply, *apiError) {
	app, apiErr := c.botApp()
	if apiErr != nil {
		return reply{}, apiErr
	}
	code, profile := c.fieldV2("code"), c.profileV2(User{})
	kind, known := botTypesV2()[c.fieldV2("type")]
	token := strings.TrimSpace(c.fieldV2("botToken"))
	switch {
	case code == "":
		return reply{}, fail(400, "BOT_CODE_REQUIRED", "Bot code is required")
	case profile.Name == "":
		return reply{}, fail(400, "BOT_PROPERTIES_REQUIRED", "Bot properties are required")
	case !known:
		return reply{}, fail(400, "BOT_INVALID_TYPE", "Invalid bot type")
	case len(token) > maxBotToken:
		return reply{}, fail(400, "BOT_TOKEN_INVALID_LENGTH", "Bot token is too long")
	}
	url, apiErr := c.webhookURLV2("")
	if apiErr != nil {
		return reply{}, apiErr
	}
	b, ok := p.registerBotLocked(app, Bot{Code: code, Type: kind}, profile, false)
	if !ok {
		return reply{}, fail(400, "BOT_LIMIT_EXCEEDED", "Bot limit exceeded")
	}
	if b.v2 == nil { // an existing one is returned as it is
		b.v2 = &botV2{}
		if token != "" {
			b.v2.setToken(token)
		}
		p.subscribeLocked(b, url)
	}
	return done(p.botV2ValueLocked(b))
}

// botV2 returns the bot with the ID botId. It belongs to the calling application. An incoming
// webhook uses any bot whose botToken it knows.
func (p *Portal) botV2(c *call) (*bot, *apiError) {
	app, given := c.caller.app, c.str("botToken")
	id, ok := c.param("botId")
	b := p.chat.bots[intOf(id)]
	switch {
	case app == nil && given == "":
		return nil, fail(400, "BOT_TOKEN_NOT_SPECIFIED", "Bot token is not specified")
	case !ok:
		return nil, fail(400, "BOT_ID_REQUIRED", "Bot ID is required")
	case b == nil || b.v2 == nil:
		return nil, fail(400, "BOT_NOT_FOUND", "Bot not found")
	case app == nil && given != b.v2.token,
		app != nil && (b.app != app || (given != "" && b.v2.token != "" && given != b.v2.token)):
		return nil, fail(403, "BOT_OWNERSHIP_ERROR", "Bot is registered by another application")
	}
	return b, nil
}

func (p *Portal) botV2Get(c *call) (reply, *apiError) {
	b, apiErr := p.botV2(c)
	if apiErr != nil {
		return reply{}, apiErr
	}
	return done(p.botV2ValueLocked(b))
}

func (p *Portal) botV2Update(c *call) (reply, *apiError) {
	b, apiErr := p.botV2(c)
	if apiErr != nil {
		return reply{}, apiErr
	}
	url, apiErr := c.webhookURLV2(b.Webhook)
	if apiErr != nil {
		return reply{}, apiErr
	}
	if token := strings.TrimSpace(c.fieldV2("botToken")); token != "" {
		taken := len(token) > maxBotToken
		for _, other := range p.chat.bots {
			taken = taken || (other != b && other.v2 != nil && other.v2.token == token)
		}
		if taken {
			return reply{}, fail(400, "BOT_TOKEN_ROTATION_FAILED", "Bot token rotation failed")
		}
		b.v2.setToken(token)
	}
	if url != b.Webhook {
		p.subscribeLocked(b, url)
	}
	p.accounts.users[b.id].User = c.profileV2(p.accounts.users[b.id].User)
	return done(p.botV2ValueLocked(b))
}

func (p *Portal) botV2Unregister(c *call) (reply, *apiError) {
	b, apiErr := p.botV2(c)
	if apiErr != nil {
		return reply{}, apiErr
	}
	p.raiseBotDelete(c.events, b, c.caller.user.id)
	p.dropBotLocked(b)
	return done(phpform.Map(kv("result", phpform.Boolean(true))))
}

// botV2ValueLocked returns a bot as its owner sees it.
func (p *Portal) botV2ValueLocked(b *bot) phpform.Value {
	return phpform.Map(kv("bot", b.valueV2()), kv("users", phpform.List(p.accounts.users[b.id].valueV2(true))))
}

// valueV2 returns a bot without its user, as polled events show it.
func (b *bot) valueV2() phpform.Value {
	kinds, mode := map[string]string{"O": "openline", "S": "supervisor"}, "fetch"
	kind, ok := kinds[b.Type]
	if !ok {
		kind = "bot"
	}
	if b.Webhook != "" {
		mode = "webhook"
	}
	return phpform.Map(
		number("id", b.id),
		text("code", b.Code),
		text("type", kind),
		text("language", "en"),
		text("moduleId", "rest"),
		text("eventMode", mode),
	)
}
