package event

// Object names an object that was created, changed or deleted and that has a numeric ID: a booking
// or its resource, a price or unit of the catalogue, a workgroup, a payment, a shipment and so on.
// The event says which kind of object it is.
type Object struct {
	ID int64 `b24:"FIELDS.ID|ID" json:"ID"`
}

// CalendarObject names a calendar event, or a calendar (which Bitrix24 calls a section).
type CalendarObject struct {
	ID int64 `b24:"id|FIELDS.ID" json:"id"`
}

// FeedPost names a post of the feed.
type FeedPost struct {
	ID int64 `b24:"FIELDS.POST_ID|FIELDS.ID" json:"POST_ID"`
}

// CatalogProduct names a product of the catalogue.
type CatalogProduct struct {
	ID   int64 `b24:"FIELDS.ID" json:"ID"`
	Type int64 `b24:"FIELDS.TYPE" json:"TYPE"` // 1 simple, 3 or 6 parent of variations, 4 or 5 variation, 7 service
}

// SaleOrder names an order of the online store.
type SaleOrder struct {
	ID     int64  `b24:"FIELDS.ID" json:"ID"`
	XMLID  string `b24:"FIELDS.XML_ID" json:"XML_ID"` // the order's ID in another system; may be empty
	Action string `b24:"FIELDS.ACTION" json:"ACTION"` // save or delete
}
