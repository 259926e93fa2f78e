package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
)

// isGone reports whether a caller's error is a method's way to say that there is no such object. The codes are those of the methods' pages,
// compared as they are written there: a proxy that answers not_found in the portal's place must not pass for a deletion. Where a method
// has no code of its own (it is empty, or 0) its words decide; in a language that is not known here they stay an ordinary error.
//
//	crm.item.get, crm.activity.configurable.get      NOT_FOUND; also where the smart process itself is gone
//	crm.*.userfield.get                              ERROR_NOT_FOUND
//	crm.deal.get and its siblings, catalog.product.get, catalog.price.get
//	                                                 no code, "Not found", "… is not found", "product does not exist."
//	crm.type.get, crm.documentgenerator.document.get 0, "… not found" in the portal's language
//	booking.v1.*.get, catalog.*.get, sale.*.get      numbers: see goneCodes
//	task.commentitem.get                             ERROR_CORE, "…/TE/ITEM_NOT_FOUND_OR_NOT_ACCESSIBLE"
//
// Sources: the error tables of https://apidocs.bitrix24.com/api-reference/crm/universal/crm-item-get.html,
// …/crm/deals/crm-deal-get.html, …/crm/deals/user-defined-fields/crm-deal-userfield-get.html,
// …/crm/universal/user-defined-object-types/crm-type-get.html, …/tasks/comment-item/task-comment-item-get.html and the pages at goneCodes.
func isGone(method string, err error) bool {
	var refusal CallError
	if !errors.As(err, &refusal) {
		return false
	}
	code, text := refusal.ErrorCode(), refusal.ErrorDescription()
	switch code {
	case "", "0":
		return saysGone(strings.ToLower(text))
	case "ERROR_CORE":
		return method == "task.commentitem.get" && strings.Contains(text, "ITEM_NOT_FOUND_OR_NOT_ACCESSIBLE")
	}
	for one := range strings.FieldsSeq(goneCodes(method)) {
		if code == one {
			return true
		}
	}
	return false
}

// goneCodes returns the codes with which a method says that there is no such object, separated by spaces.
//
// Sources: https://apidocs.bitrix24.com/api-reference/booking/booking/booking-v1-booking-get.html (the page on resources names two codes),
// …/catalog/measure/catalog-measure-get.html, …/sale/order/sale-order-get.html (which names two codes too) and their siblings. A
// code that starts 200040300 is about rights.
func goneCodes(method string) string {
	switch method {
	case "crm.item.get", "crm.activity.configurable.get":
		return "NOT_FOUND"
	case "booking.v1.booking.get":
		return "1021"
	case "booking.v1.resource.get":
		return "1009 1021"
	case "booking.v1.resourceType.get":
		return "1013"
	case "booking.v1.waitlist.get":
		return "1040"
	case "catalog.measure.get":
		return "200600000020"
	case "catalog.priceType.get":
		return "201000000000"
	case "catalog.roundingRule.get":
		return "200900000000"
	case "sale.order.get":
		return "200540400001 201240400001"
	case "sale.payment.get":
		return "200640400001"
	case "sale.propertyvalue.get":
		return "201040400001"
	case "sale.shipment.get":
		return "201140400001"
	}
	if strings.HasPrefix(method, "crm.") && strings.HasSuffix(method, ".userfield.get") {
		return "ERROR_NOT_FOUND"
	}
	return ""
}

// saysGone knows the texts of the documentation, in lower case.
func saysGone(text string) bool {
	for _, words := range []string{"not found", "does not exist", "is not exists", "не найден", "не существует"} {
		if strings.Contains(text, words) {
			return true
		}
	}
	return false
}

// isNothing reports whether a method's result holds no object: null, false, an empty text or list, as of a list that is filtered by
// one id (user.get), or an object whose members are all so, as of {"task": []}.
func isNothing(result []byte) bool {
	if isBlank(result) {
		return true
	}
	dec := json.NewDecoder(bytes.NewReader(result))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return false
	}
	for dec.More() {
		var member json.RawMessage
		if _, err := dec.Token(); err != nil || dec.Decode(&member) != nil || !isBlank(member) {
			return false
		}
	}
	return true
}

func isBlank(value []byte) bool {
	value = bytes.TrimSpace(value)
	switch string(value) {
	case "null", "false", `""`:
		return true
	}
	// Brackets with at most space between them.
	return len(value) >= 2 && (value[0] == '[' && value[len(value)-1] == ']' || value[0] == '{' && value[len(value)-1] == '}') &&
		len(bytes.TrimSpace(value[1:len(value)-1])) == 0
}
