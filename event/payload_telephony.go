package event

import "time"

// ExternalCallback means that a visitor asked for a callback in a web form that is served by the
// application's line.
type ExternalCallback struct {
	PhoneNumber   string `json:"PHONE_NUMBER"`    // whom to call
	Text          string `json:"TEXT"`            // what to read out to the employee before connecting
	Voice         string `json:"VOICE"`           // voice of the speech synthesis
	CRMEntityType string `json:"CRM_ENTITY_TYPE"` // CONTACT, COMPANY, LEAD …
	CRMEntityID   int64  `json:"CRM_ENTITY_ID"`
	LineNumber    string `json:"LINE_NUMBER"` // external line
}

// ExternalCall means that a user started an outgoing call by a click on a number. Only the
// application of the user's outgoing line receives it.
type ExternalCall struct {
	CallID                   string `json:"CALL_ID"`
	PhoneNumber              string `json:"PHONE_NUMBER"`               // whom to call, as written
	PhoneNumberInternational string `json:"PHONE_NUMBER_INTERNATIONAL"` // the same in international format
	Extension                string `json:"EXTENSION"`                  // digits to dial after the number; may be empty
	UserID                   int64  `json:"USER_ID"`                    // who calls
	CallListID               int64  `json:"CALL_LIST_ID"`               // 0 outside a call list
	LineNumber               string `json:"LINE_NUMBER"`                // external line
	Mobile                   bool   `b24:"IS_MOBILE" json:"IS_MOBILE"`  // started in the mobile application
	CRMEntityType            string `json:"CRM_ENTITY_TYPE"`            // CONTACT, COMPANY, LEAD …
	CRMEntityID              int64  `json:"CRM_ENTITY_ID"`
}

// CallInit means that a call began to ring, or to dial. Rented and SIP numbers send AccountSearchID
// and PhoneNumber, telephony applications send RESTAppID.
type CallInit struct {
	CallID          string `json:"CALL_ID"`
	CallType        int64  `json:"CALL_TYPE"`         // 1 outgoing, 2 incoming, 3 incoming redirected, 4 callback, 5 information call
	AccountSearchID string `json:"ACCOUNT_SEARCH_ID"` // code of the line
	PhoneNumber     string `json:"PHONE_NUMBER"`      // the other party
	CallerID        string `json:"CALLER_ID"`         // the line for outgoing calls, the client's number for incoming ones
	RESTAppID       int64  `json:"REST_APP_ID"`       // the telephony application; 0 for other calls
}

// CallStart means that a call was answered.
type CallStart struct {
	CallID string `json:"CALL_ID"`
	UserID int64  `json:"USER_ID"` // who answered
}

// CallEnd means that a call is over and was logged.
type CallEnd struct {
	CallID        string    `json:"CALL_ID"`
	CallType      int64     `json:"CALL_TYPE"` // as in [CallInit]
	PhoneNumber   string    `json:"PHONE_NUMBER"`
	PortalNumber  string    `json:"PORTAL_NUMBER"`  // the portal's number, or the code of the application's line
	PortalUserID  int64     `json:"PORTAL_USER_ID"` // the employee
	Duration      int64     `json:"CALL_DURATION"`  // seconds
	Start         time.Time `json:"CALL_START_DATE"`
	Cost          float64   `json:"COST"`
	CostCurrency  string    `json:"COST_CURRENCY"`      // may be empty
	FailedCode    string    `json:"CALL_FAILED_CODE"`   // result, such as 200, 304 or 603-S
	FailedReason  string    `json:"CALL_FAILED_REASON"` // the result in words
	CRMActivityID int64     `json:"CRM_ACTIVITY_ID"`    // the activity that logs the call
}
