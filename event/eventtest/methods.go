package eventtest

import (
	"github.com/b24events/b24events/internal/phpform"
)

// methodTable returns the REST methods by their names in lower case.
func (p *Portal) methodTable() map[string]method {
	table := map[string]method{
		"batch": {run: p.batch},

		"event.bind":          {appOnly: true, run: p.eventBind},
		"event.unbind":        {appOnly: true, run: p.eventUnbind},
		"event.get":           {appOnly: true, run: p.eventGet},
		"event.test":          {appOnly: true, run: p.eventTest},
		"events":              {appOnly: true, run: p.eventNames},
		"event.offline.get":   {appOnly: true, run: p.offlineGet},
		"event.offline.list":  {appOnly: true, run: p.offlineList},
		"event.offline.clear": {appOnly: true, run: p.offlineClear},
		"event.offline.error": {appOnly: true, run: p.offlineError},

		"feature.get": {run: p.featureGet},
		"method.get":  {run: p.methodGet},
		"scope":       {run: p.scope},
		"app.info":    {run: p.appInfo},
		"server.time": {run: p.serverTime},

		"profile":      {run: p.profile},
		"user.admin":   {run: p.userAdmin},
		"user.current": {scope: "user", run: p.userCurrent},
		"user.get":     {scope: "user", run: p.userGet},

		"crm.item.add":    {scope: "crm", run: p.itemAdd},
		"crm.item.get":    {scope: "crm", run: p.itemGet},
		"crm.item.list":   {scope: "crm", run: p.itemList},
		"crm.item.update": {scope: "crm", run: p.itemUpdate},
		"crm.item.delete": {scope: "crm", run: p.itemDelete},

		"tasks.task.add":    {scope: "task", run: p.taskAdd},
		"tasks.task.get":    {scope: "task", run: p.taskGet},
		"tasks.task.list":   {scope: "task", run: p.taskList},
		"tasks.task.update": {scope: "task", run: p.taskUpdate},
		"tasks.task.delete": {scope: "task", run: p.taskDelete},

		"task.commentitem.get":     {scope: "task", run: p.commentGet},
		"task.commentitem.getlist": {scope: "task", run: p.commentList},

		"sonet_group.get":  {scope: "sonet", run: p.groupGet},
		"log.blogpost.get": {scope: "log", run: p.postGet},

		"calendar.event.add":     {scope: "calendar", run: p.calendarAdd},
		"calendar.event.get":     {scope: "calendar", run: p.calendarGet},
		"calendar.event.getbyid": {scope: "calendar", run: p.calendarGetByID},
		"calendar.event.update":  {scope: "calendar", run: p.calendarUpdate},
		"calendar.event.delete":  {scope: "calendar", run: p.calendarDelete},

		"im.message.add":         {scope: "im", run: p.messageAdd},
		"im.message.update":      {scope: "im", run: p.messageUpdate},
		"im.message.delete":      {scope: "im", run: p.messageDelete},
		"im.dialog.messages.get": {scope: "im", run: p.dialogMessages},

		"imbot.register":       {scope: "imbot", run: p.botRegister},
		"imbot.update":         {scope: "imbot", run: p.botUpdate},
		"imbot.unregister":     {scope: "imbot", run: p.botUnregister},
		"imbot.bot.list":       {scope: "imbot", run: p.botList},
		"imbot.message.add":    {scope: "imbot", run: p.botMessageAdd},
		"imbot.message.update": {scope: "imbot", run: p.botMessageUpdate},
		"imbot.message.delete": {scope: "imbot", run: p.botMessageDelete},

		"imbot.command.register":   {scope: "imbot", run: p.commandRegister},
		"imbot.command.update":     {scope: "imbot", run: p.commandUpdate},
		"imbot.command.unregister": {scope: "imbot", run: p.commandUnregister},
		"imbot.command.answer":     {scope: "imbot", run: p.commandAnswer},

		"imbot.v2.bot.register":   {scope: "imbot", run: p.botV2Register},
		"imbot.v2.bot.get":        {scope: "imbot", run: p.botV2Get},
		"imbot.v2.bot.update":     {scope: "imbot", run: p.botV2Update},
		"imbot.v2.bot.unregister": {scope: "imbot", run: p.botV2Unregister},

		"imbot.v2.command.register":   {scope: "imbot", run: p.commandV2Register},
		"imbot.v2.command.update":     {scope: "imbot", run: p.commandV2Update},
		"imbot.v2.command.unregister": {scope: "imbot", run: p.commandV2Unregister},
		"imbot.v2.command.list":       {scope: "imbot", run: p.commandV2List},
		"imbot.v2.command.answer":     {scope: "imbot", run: p.commandV2Answer},

		"imbot.v2.chat.message.send": {scope: "imbot", run: p.botV2Send},

		"imbot.v2.event.get":      {scope: "imbot", run: p.botEventGet},
		"im.v2.event.get":         {scope: "im", run: p.userEventGet},
		"im.v2.event.subscribe":   {scope: "im", run: p.userEventSubscribe},
		"im.v2.event.unsubscribe": {scope: "im", run: p.userEventUnsubscribe},
	}
	for _, k := range []Kind{Lead, Deal, Contact, Company} {
		table[string(k)+".add"] = method{scope: "crm", run: p.crmAdd(k)}
		table[string(k)+".get"] = method{scope: "crm", run: p.crmGet(k)}
		table[string(k)+".list"] = method{scope: "crm", run: p.crmList(k)}
		table[string(k)+".update"] = method{scope: "crm", run: p.crmUpdate(k)}
		table[string(k)+".delete"] = method{scope: "crm", run: p.crmDelete(k)}
	}
	return table
}

func (p *Portal) featureGet(c *call) (reply, *apiError) {
	code := c.str("CODE")
	if code == "" {
		return reply{}, fail(400, "CODE_EMPTY", "CODE can't be empty")
	}
	value := "N"
	switch {
	case p.quirks.Box:
		value = "en_selfhosted"
	case code == "rest_offline_extended" && !p.quirks.NoExtendedOffline, code == "rest_auth_connector" && !p.quirks.NoConnectors:
		value = "Y"
	}
	return done(phpform.Map(text("value", value)))
}

func (p *Portal) methodGet(c *call) (reply, *apiError) {
	m, ok := p.methods[lowerMethod(c.str("NAME"))]
	return done(phpform.Map(
		kv("isExisting", phpform.Boolean(ok)),
		kv("isAvailable", phpform.Boolean(ok && c.caller.allows(m.scope))),
	))
}

func (p *Portal) scope(c *call) (reply, *apiError) {
	if full, _ := c.param("FULL"); truthy(full) {
		return done(texts([]string{"crm", "task", "user", "calendar", "im", "imbot", "sonet", "log"}))
	}
	return done(texts(c.caller.scopes()))
}

func (p *Portal) appInfo(c *call) (reply, *apiError) {
	if c.caller.app == nil {
		return done(phpform.Map(kv("SCOPE", texts(c.caller.scopes())), text("LICENSE", "en_ent250")))
	}
	a := c.caller.app
	expired := "N"
	if a.expired {
		expired = "Y"
	}
	return done(phpform.Map(
		digits("ID", p.appIDLocked(a)),
		text("CODE", a.spec.ClientID),
		number("VERSION", a.version),
		text("STATUS", a.spec.Status),
		kv("INSTALLED", phpform.Boolean(a.installed)),
		text("PAYMENT_EXPIRED", expired),
		kv("DAYS", null()),
		text("LANGUAGE_ID", "en"),
		text("LICENSE", "en_ent250"),
		text("LICENSE_TYPE", "ent250"),
		text("LICENSE_FAMILY", "ent"),
	))
}

// appIDLocked returns the application's row ID on the portal.
func (p *Portal) appIDLocked(a *Application) int64 {
	for i, other := range p.accounts.apps {
		if other == a {
			return int64(i) + 1
		}
	}
	return 0
}

func (p *Portal) serverTime(*call) (reply, *apiError) {
	return done(phpform.Text(isoTime(p.nowLocked())))
}

func (p *Portal) profile(c *call) (reply, *apiError) {
	u := c.caller.user
	return done(phpform.Map(
		digits("ID", u.id),
		kv("ADMIN", phpform.Boolean(u.Admin)),
		text("NAME", u.Name),
		text("LAST_NAME", u.LastName),
		text("PERSONAL_GENDER", ""),
		text("TIME_ZONE", ""),
	))
}

func (p *Portal) userAdmin(c *call) (reply, *apiError) {
	return done(phpform.Boolean(c.caller.user.Admin))
}
