package eventtest

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/b24events/b24events/internal/phpform"
)

func (u *user) value() phpform.Value {
	return phpform.Map(
		digits("ID", u.id),
		kv("ACTIVE", phpform.Boolean(!u.dismissed)),
		text("NAME", u.Name),
		text("LAST_NAME", u.LastName),
		text("EMAIL", u.Email),
		text("USER_TYPE", string(cmp.Or(u.Type, Employee))),
	)
}

func (p *Portal) userCurrent(c *call) (reply, *apiError) { return done(c.caller.user.value()) }

// userGet lists the users that the caller may see. ID is the only filter that is emulated, alone or
// in FILTER.
func (p *Portal) userGet(c *call) (reply, *apiError) {
	want, filtered := c.param("ID")
	if filter, ok := c.param("FILTER"); ok && !filtered {
		for _, e := range filter.Entries() {
			if strings.EqualFold(e.Key, "ID") {
				want, filtered = e.Value, true
			}
		}
	}
	ids := map[int64]bool{}
	for _, e := range want.Entries() {
		ids[intOf(e.Value)] = true
	}
	if want.Kind() != phpform.Array {
		ids[intOf(want)] = true
	}
	var rows []phpform.Value
	for _, id := range slices.Sorted(maps.Keys(p.accounts.users)) {
		if p.listsUser(c, p.accounts.users[id]) && (!filtered || ids[id]) {
			rows = append(rows, p.accounts.users[id].value())
		}
	}
	start, _ := c.param("START")
	return page(rows, intOf(start))
}

// listsUser reports whether user.get lists a user to a caller. It never lists bots and the kinds of
// users that are not people of the portal. Extranet users and employees see each other only in
// ADMIN_MODE, which is for administrators.
func (p *Portal) listsUser(c *call, u *user) bool {
	me, all := c.caller.user, false
	if v, ok := c.param("ADMIN_MODE"); ok {
		all = me.Admin && truthy(v) && v.Scalar() != "N"
	}
	switch {
	case p.chat.bots[u.id] != nil || u.Type.unlisted():
		return false
	case all || u.id == me.id:
		return true
	default:
		return u.Type != Extranet && me.Type != Extranet
	}
}
