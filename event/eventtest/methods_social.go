package eventtest

import (
	"slices"

	"github.com/b24events/b24events/internal/phpform"
)

// groupGet lists the workgroups that the caller may see, the newest first. The others are listed
// only to administrators who send IS_ADMIN=Y. ORDER must be in upper case.
func (p *Portal) groupGet(c *call) (reply, *apiError) {
	filter, _ := c.param("FILTER")
	order, _ := c.params.Get("ORDER")
	everything := c.str("IS_ADMIN") == "Y" && c.caller.user.Admin
	id, single := c.param("GROUP_ID")
	groups := p.selectObjectsLocked(Workgroup, filter, order)
	if order.Len() == 0 {
		slices.Reverse(groups)
	}
	var rows []phpform.Value
	for _, o := range groups {
		if (everything || visibleGroup(o, c.caller.user.id)) && (!single || o.id == intOf(id)) {
			rows = append(rows, phpform.Map(o.fields...))
		}
	}
	return p.pageOf(c, rows)
}

// visibleGroup reports whether a user may see a workgroup: it is not secret, or the user is its
// owner or a member of it.
func visibleGroup(o *object, user int64) bool {
	return o.get("VISIBLE").Scalar() == "Y" || intOf(o.get("OWNER_ID")) == user || containsText(o.get("MEMBERS"), userKey(user))
}

// containsText reports whether a list contains a text. A single text counts as a list of one.
func containsText(list phpform.Value, text string) bool {
	if list.Kind() != phpform.Array {
		return list.Scalar() == text
	}
	return slices.ContainsFunc(list.Entries(), func(e phpform.Entry) bool { return e.Value.Scalar() == text })
}

// postGet lists the posts of the news feed that the caller may see, the newest first. Nobody can
// list the others.
func (p *Portal) postGet(c *call) (reply, *apiError) {
	id, single := c.param("POST_ID")
	rights, filtered := c.param("LOG_RIGHTS")
	posts := p.selectObjectsLocked(FeedPost, phpform.Map(), phpform.Map())
	slices.Reverse(posts)
	var rows []phpform.Value
	for _, o := range posts {
		if visiblePost(o, c.caller.user.id) && (!single || o.id == intOf(id)) && (!filtered || addressed(o, rights)) {
			rows = append(rows, phpform.Map(o.fields...))
		}
	}
	return p.pageOf(c, rows)
}

// visiblePost reports whether a user may see a post: as its author or as a recipient.
func visiblePost(o *object, user int64) bool {
	return intOf(o.get("AUTHOR_ID")) == user || containsText(o.get("DEST"), "UA") || containsText(o.get("DEST"), "U"+userKey(user))
}

// addressed reports whether a post is addressed to one of the recipients in rights.
func addressed(o *object, rights phpform.Value) bool {
	if rights.Kind() != phpform.Array {
		return containsText(o.get("DEST"), rights.Scalar())
	}
	return slices.ContainsFunc(rights.Entries(), func(e phpform.Entry) bool { return containsText(o.get("DEST"), e.Value.Scalar()) })
}
