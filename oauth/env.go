package oauth

import (
	"strings"

	"github.com/b24events/b24events/event"
)

// FromEnv reads the configuration from environment variables, of which get returns the value;
// os.Getenv is one. The programs in examples/ read the same variables, and the page of devportal
// copies them:
//
//	B24_CLIENT_ID      Config.ClientID
//	B24_CLIENT_SECRET  Config.ClientSecret
//	B24_OAUTH_HOSTS    WithHosts: OAuth servers beside the official ones, host[:port], comma-separated
//	B24_INSECURE_HTTP  1 means WithInsecureHTTP, for loopback and the hosts of B24_OAUTH_HOSTS
//
// The last two are for development and may be empty. Pass the options to [NewPortals], with your
// own after them. An error matches [ErrConfig] and names the variable.
func FromEnv(get func(string) string) (Config, []Option, error) {
	cfg := Config{ClientID: get("B24_CLIENT_ID"), ClientSecret: event.Secret(get("B24_CLIENT_SECRET"))}
	if cfg.ClientID == "" || cfg.ClientSecret == "" {
		return Config{}, nil, configError("FromEnv", "set B24_CLIENT_ID and B24_CLIENT_SECRET; both are in the application's settings")
	}
	var hosts []string
	for host := range strings.SplitSeq(get("B24_OAUTH_HOSTS"), ",") {
		if host = strings.TrimSpace(host); host != "" {
			hosts = append(hosts, host)
		}
	}
	opts := []Option{WithHosts(hosts...)}
	switch get("B24_INSECURE_HTTP") {
	case "", "0", "false":
	case "1", "true":
		opts = append(opts, WithInsecureHTTP(hosts...))
	default:
		return Config{}, nil, configError("FromEnv", "B24_INSECURE_HTTP must be 1, 0 or empty")
	}
	return cfg, opts, nil
}
