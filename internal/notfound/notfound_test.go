package notfound_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/notfound"
)

func TestOf(t *testing.T) {
	t.Parallel()
	const comment = "TASKS_ERROR_EXCEPTION_#512; Check listitem not found or not accessible; 512/TE/ITEM_NOT_FOUND_OR_NOT_ACCESSIBLE.<br>"
	for _, tt := range []struct{ method, code, description string }{
		{"crm.deal.get", "", "Not found"},
		{"CRM.Deal.Get", "", "Not found"},
		{"crm.deal.update", "", "Not found"},
		{"crm.deal.delete", "", "Not found."},
		{"crm.lead.update", "", "Not found"},
		{"crm.contact.update", "", "Not found"},
		{"crm.contact.delete", "ERROR_CORE", "Element not found"},
		{"crm.company.delete", "", "Company is not found"},
		{"crm.quote.update", "", "Quote is not found"},
		{"crm.quote.delete", "ERROR_CORE", "Element not found"},
		{"crm.currency.get", "", "Not found"},
		{"crm.timeline.comment.get", "", "Not found."},
		{"crm.activity.get", "", "Activity is not found"},
		{"crm.activity.update", "", "Activity is not found"},
		{"crm.requisite.get", "", "The Requisite with ID '27' is not found"},
		{"crm.requisite.delete", "", "The Requisite with ID '27' is not found"},
		{"crm.requisite.bankdetail.get", "", "The RequisiteBankDetail with ID '357' is not found"},
		{"crm.requisite.bankdetail.update", "", "The Requisite with ID '357' is not found"},
		{"crm.requisite.userfield.delete", "", "The entity with ID '235' is not found"},
		{"crm.deal.recurring.get", "", "Recurring deal is not found."},
		{"crm.deal.recurring.delete", "", "Recurring deal is not found"},
		{"crm.deal.userfield.get", "ERROR_NOT_FOUND", "The entity with ID '7' is not found"},
		{"crm.quote.userfield.delete", "ERROR_NOT_FOUND", "The entity with ID '7' is not found"},
		{"crm.item.get", "NOT_FOUND", "Элемент не найден"},
		{"crm.item.update", "NOT_FOUND", "Item not found"},
		{"crm.activity.configurable.get", "NOT_FOUND", "Not found."},
		{"crm.type.get", "0", "Смарт-процесс не найден"},
		{"crm.documentgenerator.document.update", "0", "Document not found"},
		{"booking.v1.resourceType.get", "1013", "Resource type not found"},
		{"booking.v1.waitlist.delete", "1036", "wait list item not found"},
		{"catalog.product.get", "", "product does not exist."},
		{"catalog.price.get", "", "Price is not exists"},
		{"catalog.measure.get", "200600000020", "measure does not exist."},
		{"catalog.priceType.get", "201000000000", ""},
		{"sign.b2e.document.get", "", "Document not found"},
		{"sign.b2e.hcmlink.document.get", "SIGN_HCMLINK_DOCUMENT_NOT_FOUND", "Document not found"},
		{"sale.order.get", "201240400001", "order is not exists"},
		{"sale.shipment.delete", "201140400001", ""},
		{"catalog.store.get", "201100000000", ""},
		{"humanresources.hcmlink.job.status.get", "0", "Operation failed"},
	} {
		require.Equal(t, notfound.Gone, notfound.Of(tt.method, tt.code, tt.description), tt)
	}
	for _, tt := range []struct{ method, code, description string }{
		{"task.commentitem.get", "ERROR_CORE", comment},
		{"task.commentitem.get", "ERROR_CODE", comment},
		{"catalog.product.get", "200040300000", "Information block with the specified identifier does not exist"},
		{"crm.documentgenerator.document.get", "0", "Документ не найден"},
		{"crm.documentgenerator.document.get", "", "Document not found"},
		{"imopenlines.dialog.get", "ACCESS_ERROR", "You do not have access to the specified dialog"},
		{"userfieldconfig.get", "", "You do not have permission to view user field settings"},
	} {
		require.Equal(t, notfound.Hidden, notfound.Of(tt.method, tt.code, tt.description), tt)
	}
	for _, tt := range []struct{ method, code, description string }{
		{"", "", ""},
		{"crm.deal.get", "", ""},
		{"crm.deal.get", "", "Access denied"},
		{"crm.deal.get", "", "Not found: the server is down"},
		{"crm.deal.get", "ERROR_METHOD_NOT_FOUND", "Method not found!"},
		{"crm.deal.get", "NOT_FOUND", "not a code of this method"},
		{"crm.deal.get", "ERROR_CORE", "Element not found"},
		{"crm.deal.list", "", "Not found"},
		{"crm.deal.add", "", "Not found"},
		{"crm.deal.add", "", "Contact is not found"},
		{"crm.deal.update", "", "Contact is not found"},
		{"crm.item.get", "not_found", "a proxy in the portal's place"},
		{"crm.item.get", "Not Found", "another"},
		{"crm.item.add", "NOT_FOUND", "SPA not found"},
		{"crm.currency.get", "", `"Currencies" module not found! Please install the "Currencies" module.`},
		{"crm.deal.userfield.list", "ERROR_NOT_FOUND", ""},
		{"user.deal.userfield.get", "ERROR_NOT_FOUND", ""},
		{"catalog.product.update", "0", "VAT rate with the specified identifier does not exist"},
		{"sale.order.get", "200640400001", "a payment, not an order"},
		{"sale.order.get", "0", "fatal error"},
		{"task.commentitem.get", "ERROR_CORE", "TASKS_ERROR_EXCEPTION_#256; Param #1 (itemId) expected; 256/TE/WRONG_ARGUMENTS"},
		{"task.commentitem.delete", "ERROR_CORE", comment},
		{"tasks.task.update", "ERROR_CORE", "Task specified in the \"Parent Task\" field not found<br>"},
		{"imbot.v2.Chat.get", "BOT_NOT_FOUND", "Bot not found"},
		{"sonet_group.get", "", "Not found"},
		{"user.get", "", "Not found"},
		{"crm.deal.get", "0", "Not found"},
		{"crm.invoice.get", "", "Not found"}, // its page has no table
		{"crm.requisite.get", "", "The Requisite with ID is not found"},
	} {
		require.Equal(t, notfound.Unknown, notfound.Of(tt.method, tt.code, tt.description), tt)
	}
}
