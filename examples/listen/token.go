package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/examples/internal/oneportal"
	"github.com/b24events/b24events/examples/internal/program"
)

// applicationToken returns the token that signs the events: that of the setting, or else that of a
// file, which the first start makes. Handlers read the same setting, so it may also hold tokens of
// other portals.
func applicationToken(ctx context.Context, cfg config, portal *oneportal.Portal) (event.Secret, error) {
	if len(cfg.tokens) > 0 {
		token := tokenOf(cfg.tokens, portal.MemberID)
		if token == "" {
			return "", program.Usage("B24_APPLICATION_TOKEN holds tokens of other portals only; add one that is bound to this portal: "+
				"token@%s", portal.MemberID)
		}
		cfg.logger.LogAttrs(ctx, slog.LevelInfo, "events are signed with a token of B24_APPLICATION_TOKEN")
		return token, nil
	}
	path := filepath.Join(portal.Data, "listen-application-token")
	text, err := program.ReadFile(path)
	token := strings.TrimSpace(string(text))
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", err
	case token == "":
		random := make([]byte, 16)
		_, _ = rand.Read(random) // it never fails
		token = hex.EncodeToString(random)
		if err := program.WriteFile(path, []byte(token+"\n")); err != nil {
			return "", err
		}
	}
	cfg.logger.LogAttrs(ctx, slog.LevelInfo, "events are signed with the application token in a file; let the handler accept it, for "+
		"example with B24_APPLICATION_TOKEN=$(cat FILE)",
		slog.String("file", path))
	return event.Secret(token), nil
}

// tokenOf returns the token that is bound to a portal, or else the one without a portal.
func tokenOf(tokens []program.Token, memberID string) event.Secret {
	found := ""
	for _, t := range tokens {
		switch t.MemberID {
		case memberID:
			return event.Secret(t.Text)
		case "":
			found = t.Text
		}
	}
	return event.Secret(found)
}
