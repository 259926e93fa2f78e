package program

import (
	"io"
	"log/slog"
	"net/http"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/rest"
)

// Application returns the settings that [Open] reads.
func Application() []Setting {
	return []Setting{
		{Flag: "client-id", Env: "B24_CLIENT_ID", Usage: "the application's client id"},
		{Flag: "client-secret", Env: "B24_CLIENT_SECRET", Usage: "the application's client secret; prefer the variable, since others can " +
			"see flags"},
		{Flag: "oauth-hosts", Env: "B24_OAUTH_HOSTS", Usage: "extra allowed OAuth hosts, host[:port], comma-separated"},
		{Flag: "insecure-http", Env: "B24_INSECURE_HTTP", Switch: true, Usage: "development only: also allow http:// endpoints on " +
			"loopback and on the OAuth hosts"},
		{Flag: "data", Env: "B24_DATA", Usage: "folder for state, in which each application has a folder of its own; others must not be " +
			"able to write to it (default: b24events in the user's folder for state)"},
	}
}

// Access is an application's access to the portals that installed it, and the folder that keeps it.
type Access struct {
	Data   string // the application's folder in B24_DATA
	Store  oauth.Store
	Tokens *oauth.Portals
	API    *rest.Clients
}

// OpenStore opens the store of installations. data is the application's folder in B24_DATA. If the
// store is an io.Closer, [Access.Close] closes it.
type OpenStore func(data string) (oauth.Store, error)

// Files opens the store in B24_DATA.
func Files(opts ...oauth.FileOption) OpenStore {
	return func(data string) (oauth.Store, error) {
		installations, err := Folder(data, "installations")
		if err != nil {
			return nil, err
		}
		return oauth.NewFileStore(installations, opts...)
	}
}

// EncryptedFiles is [Files] with a key. Nil means that nothing is encrypted.
func EncryptedFiles(key []byte) OpenStore {
	if key == nil {
		return Files()
	}
	return Files(oauth.WithEncryptionKey(key))
}

// Open is [OpenOn] with installations in B24_DATA, encrypted with [Values.Key] if there is one.
func Open(v Values, log *slog.Logger, client *http.Client) (*Access, error) {
	key, err := v.Key()
	if err != nil {
		return nil, err
	}
	return OpenOn(v, log, client, EncryptedFiles(key))
}

// StateFolder returns the folder in B24_DATA of the application that the settings name. If they
// name none, it is a separate folder for outgoing webhooks. StateFolder makes the folder if it is
// missing. It refuses a folder of another application, or one that other users may write to.
func StateFolder(v Values) (string, error) {
	data, err := v.Data()
	if err != nil {
		return "", err
	}
	return appFolder(data, v["client-id"])
}

// OpenOn returns the access that the settings describe, with installations in a store. It opens the
// store and makes no other requests. A nil client means the default one.
func OpenOn(v Values, log *slog.Logger, client *http.Client, open OpenStore) (_ *Access, err error) {
	if v["client-id"] == "" || v["client-secret"] == "" {
		return nil, Usage("set B24_CLIENT_ID and B24_CLIENT_SECRET, the credentials of the application")
	}
	data, err := StateFolder(v)
	if err != nil {
		return nil, err
	}
	store, err := open(data)
	if err != nil {
		return nil, err
	}
	a, err := NewAccess(v, log, client, store)
	if err != nil {
		return nil, err
	}
	a.Data = data
	return a, nil
}

// NewAccess returns the access that the settings describe, with installations in a store. It makes
// no requests. If it fails, it closes the store. A nil client means the default one.
func NewAccess(v Values, log *slog.Logger, client *http.Client, store oauth.Store) (_ *Access, err error) {
	access := []oauth.Option{oauth.WithHosts(v.List("oauth-hosts")...), oauth.WithLogger(log)}
	calls := []rest.Option{rest.WithLogger(log)}
	if v.On("insecure-http") {
		access = append(access, oauth.WithInsecureHTTP(v.List("oauth-hosts")...))
		calls = append(calls, rest.WithInsecureHTTP(v.List("oauth-hosts")...))
	}
	if address := v["js-url"]; address != "" {
		access = append(access, oauth.WithScriptURL(address))
	}
	if client != nil {
		access = append(access, oauth.WithHTTPClient(client))
		calls = append(calls, rest.WithHTTPClient(client))
	}
	a := &Access{Store: store}
	defer func() {
		if err != nil {
			a.Close()
		}
	}()
	a.Tokens, err = oauth.NewPortals(oauth.Config{ClientID: v["client-id"], ClientSecret: event.Secret(v["client-secret"])}, store,
		access...)
	if err != nil {
		return nil, &UsageError{err}
	}
	if a.API, err = rest.NewClients(a.Tokens, calls...); err != nil {
		return nil, err
	}
	return a, nil
}

// Close closes the store. Call it after [oauth.Portals.Shutdown] has returned.
func (a *Access) Close() {
	if c, ok := a.Store.(io.Closer); ok {
		_ = c.Close()
	}
}
