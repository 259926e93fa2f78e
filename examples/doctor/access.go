package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/examples/internal/program"
	"github.com/b24events/b24events/oauth"
)

// access is the access to the portal that is examined.
type access struct {
	*program.Access

	memberID string
}

// close writes tokens that could not be written earlier, and closes the store.
func (a *access) close(ctx context.Context) error {
	defer a.Close()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	return a.Tokens.Shutdown(last)
}

// open returns the access with the installation that the application has stored in B24_DATA, or in
// the folder that -installations names. If there is none in B24_DATA, it returns one with the
// access token of the settings. It makes no folder, and stores nothing.
func open(ctx context.Context, cfg config) (*access, error) {
	if cfg.Values["client-id"] == "" || cfg.Values["client-secret"] == "" {
		return nil, program.Usage("set B24_CLIENT_ID and B24_CLIENT_SECRET, the credentials of the application")
	}
	if id := cfg.Values["member-id"]; id != "" && !program.ValidMemberID(id) {
		return nil, program.Usage("B24_MEMBER_ID is not a member_id, which has 32 letters and digits and is in every event of the portal")
	}
	if _, err := cfg.Key(); err != nil {
		return nil, err
	}
	at, err := folderOf(cfg.Values)
	if err != nil {
		return nil, err
	}
	if at.own {
		if err := at.check(); err != nil {
			return nil, err
		}
		a, err := at.stored(ctx, cfg.Values)
		if errors.Is(err, oauth.ErrNotFound) {
			return nil, at.missing(cfg.Values)
		}
		return a, err
	}
	switch _, err := os.Stat(filepath.Join(at.path, "installations")); {
	case err == nil:
		a, err := at.stored(ctx, cfg.Values)
		if !errors.Is(err, oauth.ErrNotFound) {
			return a, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, at.unusable(err)
	}
	if cfg.Values["access-token"] == "" {
		return nil, at.missing(cfg.Values)
	}
	a, err := fromToken(ctx, cfg.Values)
	if err == nil {
		cfg.logger.LogAttrs(ctx, slog.LevelWarn, "no installation is stored; the access token of the settings is used",
			slog.String("folder", at.String()))
	}
	return a, err
}

// silent discards logs: the report has everything.
var silent = slog.New(slog.DiscardHandler)

// folder is the application's folder in B24_DATA, or that of its own store.
type folder struct {
	path    string
	setting string // what decides it
	own     bool   // the application passes it to oauth.NewFileStore
}

func folderOf(v program.Values) (folder, error) {
	if v["installations"] != "" {
		path, err := filepath.Abs(v["installations"])
		return folder{path: path, setting: "-installations, DOCTOR_INSTALLATIONS", own: true}, err
	}
	path, err := program.AppFolder(v)
	at := folder{path: path, setting: "B24_DATA"}
	if v["data"] == "" {
		at.setting = "the default of B24_DATA"
	}
	return at, err
}

// String names the folder, and the setting to change if it is the wrong one.
func (f folder) String() string { return f.path + " (" + f.setting + ")" }

// formatFile is a file that oauth.NewFileStore puts into a folder. Without it, NewFileStore would
// take an empty folder for a new store.
const formatFile = "format.json"

// check returns an error unless the folder is one of oauth.NewFileStore.
func (f folder) check() error {
	const name = "name the folder that the application passes to oauth.NewFileStore; a relative name there counts from the folder that the " +
		"application was started in"
	info, err := os.Stat(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return program.Usage("%v does not exist; %s", f, name)
	case err != nil:
		return f.unusable(err)
	case !info.IsDir():
		return program.Usage("%v is not a folder of oauth.NewFileStore; %s", f, name)
	}
	switch _, err := os.Stat(filepath.Join(f.path, formatFile)); {
	case errors.Is(err, fs.ErrNotExist):
		return program.Usage("%v is not a folder of oauth.NewFileStore, which would have a file %s; %s", f, formatFile, name)
	case err != nil:
		return f.unusable(err)
	}
	return nil
}

// open opens the store of the folder.
func (f folder) open(v program.Values, opts ...oauth.FileOption) (*program.Access, error) {
	if !f.own {
		return program.OpenOn(v, silent, nil, program.Files(opts...))
	}
	store, err := oauth.NewFileStore(f.path, opts...)
	if err != nil {
		return nil, err
	}
	return program.NewAccess(v, silent, nil, store)
}

// unusable says that the store cannot be used.
func (f folder) unusable(err error) error {
	if errors.As(err, new(*program.UsageError)) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return program.Usage("the installations in %v cannot be used: %w; run doctor on the machine of the application and as its user, who "+
			"can read and write them", f, err)
	}
	return fmt.Errorf("the installations in %v cannot be used: %w", f, err)
}

// missing says that the folder does not have the portal.
func (f folder) missing(v program.Values) error {
	what := "no installation of the application is stored in " + f.String()
	if v["member-id"] != "" {
		what = "no installation of the portal B24_MEMBER_ID is stored in " + f.String()
	}
	if f.own {
		switch {
		case !f.keeps():
		case v["member-id"] != "":
			what += "; it has other portals, or those of another application, so check B24_MEMBER_ID and B24_CLIENT_ID"
		default:
			what += "; it has those of another application, so check B24_CLIENT_ID"
		}
		return program.Usage("%s; if the folder is right, install the application again while the handler runs, so that ONAPPINSTALL is stored",
			what)
	}
	if others := f.others(); len(others) > 0 {
		what += ", and B24_DATA has other applications (" + strings.Join(others, ", ") + "), so check B24_CLIENT_ID"
	}
	return program.Usage("%s; run doctor with the environment of the application, and as the same user; if your program has its own "+
		"oauth.FileStore, name its folder: -installations; if it keeps its installations elsewhere, set B24_MEMBER_ID, B24_CLIENT_ENDPOINT "+
		"and B24_ACCESS_TOKEN", what)
}

// maxListed is how many applications or portals an error lists.
const maxListed = 5

// keeps reports whether the folder of a store has an installation of any application.
func (f folder) keeps() bool {
	files, err := fs.Glob(os.DirFS(f.path), "*/*/*.json") // by application and part of the member ID
	return err == nil && len(files) > 0
}

// others returns the folders of other applications, if the application has none.
func (f folder) others() []string {
	if _, err := os.Stat(f.path); err == nil {
		return nil
	}
	paths, err := filepath.Glob(filepath.Join(filepath.Dir(f.path), "app-*"))
	if err != nil {
		return nil
	}
	var names []string
	for _, p := range paths[:min(len(paths), maxListed)] {
		names = append(names, filepath.Base(p))
	}
	return names
}

// stored returns the access with the stored installation. It writes renewed tokens as it found the
// old ones: it uses the key only if the installation is encrypted. The error matches
// [oauth.ErrNotFound] if the folder does not have the portal.
func (f folder) stored(ctx context.Context, v program.Values) (*access, error) {
	key, err := v.Key()
	if err != nil {
		return nil, err
	}
	a, err := f.try(ctx, v)
	switch {
	case !errors.Is(err, oauth.ErrEncryptionKey):
		return a, err
	case key == nil:
		return nil, program.Usage("the installation in %v is encrypted; set B24_KEY to the key of the application, as %d hexadecimal digits", f,
			2*oauth.EncryptionKeySize)
	}
	a, err = f.try(ctx, v, oauth.WithEncryptionKey(key))
	if errors.Is(err, oauth.ErrEncryptionKey) {
		return nil, program.Usage("the installation in %v is encrypted with another key than that in B24_KEY; set the key of the application", f)
	}
	return a, err
}

// try opens the store and reads the installation.
func (f folder) try(ctx context.Context, v program.Values, opts ...oauth.FileOption) (_ *access, err error) {
	opened, err := f.open(v, opts...)
	if err != nil {
		return nil, f.unusable(err)
	}
	a := &access{Access: opened, memberID: v["member-id"]}
	defer func() {
		if err != nil {
			opened.Close()
		}
	}()
	if a.memberID == "" {
		if a.memberID, err = f.only(ctx, opened.Store, opened.Tokens.ClientID()); err != nil {
			return nil, err
		}
	}
	_, err = opened.Tokens.Installation(ctx, a.memberID)
	switch {
	case err == nil:
		return a, nil
	case errors.Is(err, oauth.ErrNotFound), errors.Is(err, oauth.ErrEncryptionKey):
		return nil, err
	default:
		return nil, f.unusable(err)
	}
}

// only returns the single portal of the application in the store.
func (f folder) only(ctx context.Context, store oauth.Store, clientID string) (string, error) {
	var found []string
	for key, err := range oauth.Keys(ctx, store, clientID) {
		switch {
		case err != nil:
			return "", f.unusable(err)
		case key.UserID == 0 && len(found) < maxListed:
			found = append(found, key.MemberID)
		}
	}
	switch len(found) {
	case 0:
		return "", oauth.ErrNotFound
	case 1:
		return found[0], nil
	default:
		return "", program.Usage("several portals are stored in %v; set B24_MEMBER_ID to one of them, such as %s", f, strings.Join(found, ", "))
	}
}

// fromToken returns the access with the access token of the settings, which is kept in memory.
func fromToken(ctx context.Context, v program.Values) (*access, error) {
	if v["member-id"] == "" || v["client-endpoint"] == "" {
		return nil, program.Usage("B24_ACCESS_TOKEN needs B24_MEMBER_ID and B24_CLIENT_ENDPOINT, the portal that it is for")
	}
	opened, err := program.NewAccess(v, silent, nil, oauth.NewMemoryStore())
	if err != nil {
		return nil, err
	}
	_, err = opened.Tokens.Seed(ctx, oauth.Installation{
		MemberID: v["member-id"], ClientEndpoint: v["client-endpoint"], ServerEndpoint: v["server-endpoint"],
		AccessToken: event.Secret(v["access-token"]),
	})
	switch {
	case errors.Is(err, oauth.ErrHostNotAllowed):
		return nil, program.Usage("%w; add the host to B24_OAUTH_HOSTS if it is yours", err)
	case errors.Is(err, oauth.ErrEndpoint):
		return nil, program.Usage("%w; for a portal on this machine set B24_INSECURE_HTTP=1", err)
	case err != nil:
		return nil, program.Usage("%w", err)
	}
	return &access{Access: opened, memberID: v["member-id"]}, nil
}
