package event

// CRMEntity names a CRM object that was created, changed or deleted. The event says which kind of
// object it is.
type CRMEntity struct {
	ID int64 `b24:"FIELDS.ID|ID" json:"ID"`
}

// CRMCurrency names a currency of the CRM.
type CRMCurrency struct {
	ID string `b24:"FIELDS.ID|ID" json:"ID"` // code of the currency, such as EUR
}

// CRMItem names an item of a smart process or a new invoice. Deals, leads, contacts, companies and
// quotes have events of their own.
type CRMItem struct {
	ID           int64 `b24:"FIELDS.ID" json:"ID"`
	EntityTypeID int64 `b24:"FIELDS.ENTITY_TYPE_ID" json:"ENTITY_TYPE_ID"` // the smart process, for crm.item.get
}

// CRMDocument names a document that was created from a template.
type CRMDocument struct {
	ID           int64 `b24:"FIELDS.ID" json:"ID"`
	EntityTypeID int64 `b24:"FIELDS.ENTITY_TYPE_ID" json:"ENTITY_TYPE_ID"` // CRM type of the object behind the document
	EntityID     int64 `b24:"FIELDS.ENTITY_ID" json:"ENTITY_ID"`           // the object behind the document
}

// CRMUserField names a custom field of CRM objects.
type CRMUserField struct {
	ID        int64  `b24:"FIELDS.ID|id" json:"ID"`                        // flat for old invoices, by their pages
	EntityID  string `b24:"FIELDS.ENTITY_ID|entityId" json:"ENTITY_ID"`    // the kind of objects that have the field, such as CRM_DEAL
	FieldName string `b24:"FIELDS.FIELD_NAME|fieldName" json:"FIELD_NAME"` // code of the field, such as UF_CRM_1743165530
}

// CRMDealMove means that a deal moved to another pipeline. No ONCRMDEALUPDATE is sent for the move.
type CRMDealMove struct {
	ID         int64  `b24:"FIELDS.ID" json:"ID"`
	CategoryID int64  `b24:"FIELDS.CATEGORY_ID" json:"CATEGORY_ID"` // the pipeline it moved to; 0 is the general one
	StageID    string `b24:"FIELDS.STAGE_ID" json:"STAGE_ID"`       // stage after the move, such as C1:NEW
}

// CRMRecurringDeal names the settings by which a template deal recurs.
type CRMRecurringDeal struct {
	ID         int64 `b24:"FIELDS.ID" json:"ID"`                               // of the settings, not of a deal
	TemplateID int64 `b24:"FIELDS.RECURRING_DEAL_ID" json:"RECURRING_DEAL_ID"` // the deal that serves as template
	DealID     int64 `b24:"FIELDS.DEAL_ID" json:"DEAL_ID"`                     // the new deal; 0 except in ONCRMDEALRECURRINGEXPOSE
}

// CRMRecurringInvoice names the settings by which a template invoice of the old kind recurs.
type CRMRecurringInvoice struct {
	ID         int64 `b24:"FIELDS.ID" json:"ID"`                                     // of the settings, not of an invoice
	TemplateID int64 `b24:"FIELDS.RECURRING_INVOICE_ID" json:"RECURRING_INVOICE_ID"` // the invoice that serves as template
	InvoiceID  int64 `b24:"FIELDS.INVOICE_ID" json:"INVOICE_ID"`                     // the new one; 0 except in ONCRMINVOICERECURRINGEXPOSE
}

// CRMAddress names an address. Addresses have no ID: their type and the object that they belong to
// identify them.
type CRMAddress struct {
	TypeID       int64 `b24:"FIELDS.TYPE_ID" json:"TYPE_ID"`               // kind of address, such as 1 for the actual one
	EntityTypeID int64 `b24:"FIELDS.ENTITY_TYPE_ID" json:"ENTITY_TYPE_ID"` // CRM type of the object it belongs to, such as 8 for a requisite
	EntityID     int64 `b24:"FIELDS.ENTITY_ID" json:"ENTITY_ID"`           // the object it belongs to
	AnchorTypeID int64 `b24:"FIELDS.ANCHOR_TYPE_ID" json:"ANCHOR_TYPE_ID"` // CRM type of the contact, company or lead that owns that object
	AnchorID     int64 `b24:"FIELDS.ANCHOR_ID" json:"ANCHOR_ID"`           // the contact, company or lead itself
}

// CRMTimelineAction means that a user pressed a button of a configurable activity. Only the
// application that made the activity receives it.
type CRMTimelineAction struct {
	ID           string `json:"id"`           // code that the application gave the action
	EntityTypeID int64  `json:"entityTypeId"` // CRM type of the card
	EntityID     int64  `json:"entityId"`     // the card
	ActivityID   int64  `json:"activityId"`
	UserID       int64  `json:"userId"`                   // who pressed it
	Params       Data   `b24:",rest" json:"actionParams"` // what the application put into actionParams
}
