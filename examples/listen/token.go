package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/examples/internal/oneportal"
)

// applicationToken returns what signs the events: the first token of the setting, or else that of a file, made at the first start.
func applicationToken(ctx context.Context, cfg config, portal *oneportal.Portal) (event.Secret, error) {
	if given := cfg.List("application-token"); len(given) > 0 {
		cfg.logger.LogAttrs(ctx, slog.LevelInfo, "events are signed with the first token of B24_APPLICATION_TOKEN")
		return event.Secret(given[0]), nil
	}
	path := filepath.Join(portal.Data, "listen-application-token")
	text, err := os.ReadFile(path) //nolint:gosec // in the program's own folder
	token := strings.TrimSpace(string(text))
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", err
	case token == "":
		random := make([]byte, 16)
		_, _ = rand.Read(random) // it never fails
		token = hex.EncodeToString(random)
		if err := oneportal.WriteFile(path, []byte(token+"\n")); err != nil {
			return "", err
		}
	}
	cfg.logger.LogAttrs(ctx, slog.LevelInfo, "events are signed with the application token in a file; let the handler accept it, such as by B24_APPLICATION_TOKEN=$(cat FILE)",
		slog.String("file", path))
	return event.Secret(token), nil
}
