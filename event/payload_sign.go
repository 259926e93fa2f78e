package event

// SignDocumentStatus means that the status of an HR document changed.
type SignDocumentStatus struct {
	DocumentUID string `json:"documentUid"`
	CompanyUID  string `json:"companyUid"` // empty unless the company came from an integration
	StatusCode  string `json:"statusCode"` // such as signing
	StatusName  string `json:"statusName"` // the status in the portal's language
}

// SignMemberStatus means that the status of a participant in the signing of an HR document changed.
type SignMemberStatus struct {
	MemberUID   string `json:"memberUid"`
	DocumentUID string `json:"documentUid"`
	CompanyUID  string `json:"companyUid"` // empty unless the company came from an integration
	StatusCode  string `json:"statusCode"` // such as done
	StatusName  string `json:"statusName"` // the status in the portal's language
}

// SignedDocument means that a document of an HCM Link company was signed.
type SignedDocument struct {
	ID      int64  `json:"id"`      // the participant, for sign.b2e.hcmlink.document.get; not the document
	Company string `json:"company"` // code of the HCM Link company
}

// HCMLinkJob asks the application of an HR system for data, or means that such a job is done. The
// documentation names few of the keys.
type HCMLinkJob struct {
	ID      int64  `b24:"jobId" json:"jobId"`  // to hand back to the humanresources.hcmlink methods
	Company string `json:"company"`            // code of the HCM Link company; empty in some events
	Params  Data   `b24:",rest" json:"params"` // everything else that arrived
}
