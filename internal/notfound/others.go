package notfound

import "strings"

// others returns the errors by which a method that the catalogue lacks says that there is no
// object. The name is in lower case.
//
// Sources: the error tables below https://apidocs.bitrix24.com/api-reference/: the pages of
// crm/deals (such as crm-deal-update and crm-deal-delete), their siblings of the other CRM
// entities, and the pages of crm/universal, crm/timeline/activities/configurable,
// crm/document-generator, booking, catalog and sale. A code of the catalog that starts with
// 200040300 is about rights or about the information block.
func others(method string) []refusal {
	switch method {
	case "crm.deal.update", "crm.deal.delete", "crm.lead.update", "crm.lead.delete",
		"crm.contact.update", "crm.company.update":
		return words("Not found")
	case "crm.company.delete":
		return words("Not found", "Company is not found")
	case "crm.quote.update":
		return words("Not found", "Quote is not found")
	case "crm.contact.delete", "crm.quote.delete":
		return []refusal{{"ERROR_CORE", "Element not found"}}
	case "crm.deal.recurring.update", "crm.deal.recurring.delete":
		return words("Recurring deal is not found")
	case "crm.activity.update", "crm.activity.delete":
		return words("Activity is not found")
	case "crm.requisite.update", "crm.requisite.delete":
		return words("The Requisite with ID * is not found")
	case "crm.requisite.bankdetail.update", "crm.requisite.bankdetail.delete":
		return words("The RequisiteBankDetail with ID * is not found", "The Requisite with ID * is not found")
	case "crm.requisite.userfield.update", "crm.requisite.userfield.delete":
		return append(words("The entity with ID * is not found"), codes("ERROR_NOT_FOUND")...)
	case "crm.documentgenerator.document.update", "crm.documentgenerator.document.delete":
		return words("Document not found")
	case "crm.item.update", "crm.item.delete", "crm.activity.configurable.update":
		return codes("NOT_FOUND")
	case "booking.v1.booking.update":
		return codes("1019")
	case "booking.v1.resource.update", "booking.v1.resourcetype.update":
		return codes("1007")
	case "booking.v1.resource.delete":
		return codes("1008")
	case "booking.v1.resourcetype.delete":
		return codes("1012")
	case "booking.v1.waitlist.update":
		return codes("1040")
	case "booking.v1.waitlist.delete":
		return codes("1036")
	case "catalog.measure.update", "catalog.measure.delete":
		return codes("200600000020")
	case "catalog.price.update", "catalog.price.delete":
		return words("Price does not exist", "Price is not exists")
	case "catalog.pricetype.update", "catalog.pricetype.delete":
		return codes("201000000000")
	case "catalog.product.update", "catalog.product.delete":
		return words("product does not exist")
	case "catalog.roundingrule.update", "catalog.roundingrule.delete":
		return codes("200900000000")
	case "catalog.store.get", "catalog.store.update", "catalog.store.delete":
		return codes("201100000000")
	case "sale.order.update", "sale.order.delete":
		return codes("200540400001")
	case "sale.payment.update", "sale.payment.delete":
		return codes("200640400001")
	case "sale.propertyvalue.delete":
		return codes("201040400001")
	case "sale.shipment.update", "sale.shipment.delete":
		return codes("201140400001")
	}
	switch family, verb := split(method); {
	case strings.HasPrefix(family, "crm.") && strings.HasSuffix(family, ".userfield") &&
		(verb == "get" || verb == "update" || verb == "delete"):
		return codes("ERROR_NOT_FOUND")
	case verb == "get" && (strings.HasPrefix(family, "crm.") || strings.HasPrefix(family, "catalog.")):
		// The method returns one object, so its text cannot be about another. A text such as
		// «"Currencies" module not found! Please install it» ends in other words.
		return words("*not found", "*does not exist", "*is not exists",
			"*не найден", "*не найдена", "*не найдено", "*не существует")
	}
	return nil
}

// split returns a method's name before and after the last dot.
func split(method string) (family, verb string) {
	at := max(strings.LastIndexByte(method, '.'), 0)
	return method[:at], strings.TrimPrefix(method[at:], ".")
}

// codes returns errors for which only the code counts.
func codes(all ...string) []refusal {
	list := make([]refusal, len(all))
	for i, code := range all {
		list[i] = refusal{code: code}
	}
	return list
}

// words returns errors of a method without its own codes: portals send no code, or 0.
func words(all ...string) []refusal {
	var list []refusal
	for _, text := range all {
		list = append(list, refusal{"", text}, refusal{"0", text})
	}
	return list
}
