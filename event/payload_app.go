package event

// AppInstall means that the application was installed, and that the installation is finished. Its
// delivery is the first to carry the portal's tokens in [Delivery.Auth].
type AppInstall struct {
	Version    string `json:"VERSION"`     // of the application, such as 1.0.0
	Active     bool   `json:"ACTIVE"`      // whether the application is active
	Installed  bool   `json:"INSTALLED"`   // whether the installation is finished
	LanguageID string `json:"LANGUAGE_ID"` // language of the portal, such as de
}

// AppUpdate means that the application was updated to another version. The portal's application
// token may change with it.
type AppUpdate struct {
	Version         string `json:"VERSION"`
	PreviousVersion string `json:"PREVIOUS_VERSION"` // the version before the update
	LanguageID      string `json:"LANGUAGE_ID"`
}

// AppUninstall means that the application was removed. The application has lost its REST access by
// then, so only the application token that was stored before can verify the delivery.
type AppUninstall struct {
	Clean      bool   `json:"CLEAN"` // the administrator wants the application's data of this portal deleted
	LanguageID string `json:"LANGUAGE_ID"`
}

// AppUserReady carries the tokens of the application's system user. The platform creates this user
// on the portal for the application; it has no administrator rights. The platform sends it once
// after each installation, before or after ONAPPINSTALL, to the URL that the application is
// installed with; [Delivery.Auth] has the tokens of the administrator who installed. AccessToken
// expires after ExpiresIn seconds like any other; RefreshToken lasts. Both are secrets.
//
// Source: https://apidocs.bitrix24.com/api-reference/common/events/on-app-user-ready.html
type AppUserReady struct {
	AccessToken    Secret `json:"access_token"`
	RefreshToken   Secret `json:"refresh_token"`
	ExpiresIn      int64  `json:"expires_in"`      // how long AccessToken lasts, seconds
	Scope          string `json:"scope"`           // permissions, comma-separated
	Domain         string `json:"domain"`          // host of the OAuth server, not of the portal
	ServerEndpoint string `json:"server_endpoint"` // of the OAuth server
	ClientEndpoint string `json:"client_endpoint"` // REST of the portal
	MemberID       string `json:"member_id"`       // of the portal
	UserID         int64  `json:"user_id"`         // the system user
	ClientID       string `json:"client_id"`       // of the application
	Status         string `json:"status"`          // licence letter, as in [Auth.Status]
	LanguageID     string `json:"LANGUAGE_ID"`     // language of the portal at the installation
	DateFinish     string `json:"date_finish"`     // when the subscription ends; empty if the portal does not know
}

// AppPayment means that the application was paid for, or that its trial or paid period changed.
type AppPayment struct {
	Code           string `json:"CODE"`            // of the application in the Marketplace
	Version        string `json:"VERSION"`         // documented as an integer here, as text in the other events
	Status         string `json:"STATUS"`          // licence letter, as in [Auth.Status]
	PaymentExpired bool   `json:"PAYMENT_EXPIRED"` // whether the paid or trial period is over
	Days           int64  `json:"DAYS"`            // days left in the period
	LanguageID     string `json:"LANGUAGE_ID"`
}

// AppMethodConfirm carries the administrator's decision after the application asked to call a
// method that needs consent.
type AppMethodConfirm struct {
	Token      Secret `json:"TOKEN"`     // the access token that asked
	Method     string `json:"METHOD"`    // the REST method in question
	Confirmed  bool   `json:"CONFIRMED"` // whether the call is allowed
	LanguageID string `json:"LANGUAGE_ID"`
}

// AppTest is the echo of a call of event.test.
type AppTest struct {
	Query      Data   `json:"QUERY"` // the parameters given to event.test, without auth and start
	LanguageID string `json:"LANGUAGE_ID"`
}

// OfflineNotice means that the offline queue received records. It has no fields; read the queue.
type OfflineNotice struct{}
