// Package notfound knows how the methods of Bitrix24 say that the object that a call names does not
// exist. Each method has codes or words of its own, and another method may use the same ones for
// something else.
package notfound

import (
	"slices"
	"strings"
)

// Is reports whether a method's error says that the object that the call names does not exist. The
// name of the method is taken in any case, as portals take it; codes count as they are written on
// the methods' pages, because a proxy that answers not_found in the portal's place must not pass for
// a deletion. If a method has no code (it is empty, or 0), its words decide. In a language that is
// not known here they stay an ordinary error.
//
// Lists that are filtered by rights give no error: nothing can be said of them here.
// task.commentitem.get says the same of an object that the token's user may not see, and of its
// arguments in the wrong order.
func Is(method, code, description string) bool {
	method = strings.ToLower(method)
	words := plain(description)
	switch code {
	case "", "0":
		return says(method, words)
	case "ERROR_CORE":
		switch method {
		case "task.commentitem.get":
			return strings.Contains(description, "ITEM_NOT_FOUND_OR_NOT_ACCESSIBLE")
		case "crm.contact.delete", "crm.quote.delete":
			return words == "element not found"
		}
		return false
	}
	return slices.Contains(strings.Fields(codes(method)), code)
}

// plain returns a description in lower case, without what stands around its words.
func plain(description string) string {
	return strings.TrimRight(strings.ToLower(strings.TrimSuffix(strings.TrimSpace(description), "<br>")), ". ")
}

// codes returns the codes with which a method says so, separated by spaces. The name is in lower
// case.
//
// Sources: the error tables below https://apidocs.bitrix24.com/api-reference/: the pages of
// crm/universal, crm/timeline/activities/configurable, booking (the page on resources names two
// codes), catalog, sale (sale.order.get names two codes too) and sign. A code that starts 200040300
// is about rights or about the information block.
func codes(method string) string {
	switch method {
	case "crm.item.get", "crm.item.update", "crm.item.delete",
		"crm.activity.configurable.get", "crm.activity.configurable.update":
		return "NOT_FOUND"
	case "booking.v1.booking.get":
		return "1021"
	case "booking.v1.booking.update":
		return "1019"
	case "booking.v1.resource.get":
		return "1009 1021"
	case "booking.v1.resource.update", "booking.v1.resourcetype.update":
		return "1007"
	case "booking.v1.resource.delete":
		return "1008"
	case "booking.v1.resourcetype.get":
		return "1013"
	case "booking.v1.resourcetype.delete":
		return "1012"
	case "booking.v1.waitlist.get", "booking.v1.waitlist.update":
		return "1040"
	case "booking.v1.waitlist.delete":
		return "1036"
	case "catalog.measure.get", "catalog.measure.update", "catalog.measure.delete":
		return "200600000020"
	case "catalog.pricetype.get", "catalog.pricetype.update", "catalog.pricetype.delete":
		return "201000000000"
	case "catalog.roundingrule.get", "catalog.roundingrule.update", "catalog.roundingrule.delete":
		return "200900000000"
	case "catalog.section.get":
		return "200700300030"
	case "catalog.store.get", "catalog.store.update", "catalog.store.delete":
		return "201100000000"
	case "sale.order.get":
		return "200540400001 201240400001"
	case "sale.order.update", "sale.order.delete":
		return "200540400001"
	case "sale.payment.get", "sale.payment.update", "sale.payment.delete":
		return "200640400001"
	case "sale.propertyvalue.get", "sale.propertyvalue.delete":
		return "201040400001"
	case "sale.shipment.get", "sale.shipment.update", "sale.shipment.delete":
		return "201140400001"
	case "sign.b2e.hcmlink.document.get":
		return "SIGN_HCMLINK_DOCUMENT_NOT_FOUND"
	}
	if _, ok := userFields(method); ok {
		return "ERROR_NOT_FOUND"
	}
	return ""
}

// userFields reports whether a method reads or changes one user field of a CRM entity.
func userFields(method string) (entity string, ok bool) {
	rest, ok := strings.CutPrefix(method, "crm.")
	entity, verb, found := strings.Cut(rest, ".userfield.")
	return entity, ok && found && (verb == "get" || verb == "update" || verb == "delete")
}

// says reports whether the words of a method without codes say so. They are in lower case.
//
// Sources: the error tables of https://apidocs.bitrix24.com/api-reference/crm/deals/crm-deal-get.html,
// …/crm-deal-update.html, …/crm-deal-delete.html, their siblings of the other CRM entities,
// …/catalog/price/catalog-price-get.html, …/catalog/product/catalog-product-get.html and
// …/sign/b2e/sign-b2e-document-get.html.
func says(method, words string) bool {
	switch method {
	case "crm.deal.update", "crm.deal.delete", "crm.lead.update", "crm.lead.delete",
		"crm.contact.update", "crm.company.update":
		return words == "not found"
	case "crm.company.delete":
		return words == "not found" || words == "company is not found"
	case "crm.quote.update":
		return words == "not found" || words == "quote is not found"
	case "crm.deal.recurring.update", "crm.deal.recurring.delete":
		return words == "recurring deal is not found"
	case "crm.activity.update", "crm.activity.delete":
		return words == "activity is not found"
	case "crm.requisite.update", "crm.requisite.delete":
		return withID(words, "the requisite with id ")
	case "crm.requisite.bankdetail.update", "crm.requisite.bankdetail.delete":
		return withID(words, "the requisitebankdetail with id ") || withID(words, "the requisite with id ")
	case "crm.requisite.userfield.update", "crm.requisite.userfield.delete":
		return withID(words, "the entity with id ")
	case "catalog.price.update", "catalog.price.delete":
		return words == "price does not exist" || words == "price is not exists"
	case "catalog.product.update", "catalog.product.delete":
		return words == "product does not exist"
	case "crm.documentgenerator.document.update", "crm.documentgenerator.document.delete":
		return words == "document not found"
	}
	return reads(method) && missing(words)
}

func withID(words, begin string) bool {
	return strings.HasPrefix(words, begin) && strings.HasSuffix(words, " is not found")
}

// reads reports whether a method returns one object, which is all that its words can miss.
func reads(method string) bool {
	return strings.HasSuffix(method, ".get") && (strings.HasPrefix(method, "crm.") || strings.HasPrefix(method, "catalog.") ||
		method == "sign.b2e.document.get")
}

// missing knows how the texts of the documentation end, in lower case, and those of Russian portals.
// A text such as «"Currencies" module not found! Please install it» ends otherwise.
func missing(words string) bool {
	for _, end := range []string{
		"not found", "does not exist", "is not exists",
		"не найден", "не найдена", "не найдено", "не существует",
	} {
		if strings.HasSuffix(words, end) {
			return true
		}
	}
	return false
}
