package oauth

import (
	"strings"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/plainhttp"
)

// FromEnv reads the configuration from environment variables, of which get returns the value;
// os.Getenv is one. The programs in examples/ read the same variables, and the page of devportal
// copies them:
//
//	B24_CLIENT_ID      Config.ClientID
//	B24_CLIENT_SECRET  Config.ClientSecret
//	B24_OAUTH_HOSTS    WithHosts: OAuth servers beside the official ones, host[:port], comma-separated
//	B24_INSECURE_HTTP  1 means WithInsecureHTTP, for loopback and the hosts of B24_OAUTH_HOSTS
//	B24_JS_URL         WithScriptURL: the address of the script BX24
//
// The last three are for development and may be empty. Pass the options to [NewPortals], with your
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
	var plain plainhttp.Hosts
	switch get("B24_INSECURE_HTTP") {
	case "", "0", "false":
	case "1", "true":
		var err error
		if plain, err = plainhttp.New(hosts...); err != nil {
			return Config{}, nil, &Error{Op: "FromEnv", Kind: ErrConfig, Detail: "B24_OAUTH_HOSTS", Err: err}
		}
		opts = append(opts, WithInsecureHTTP(hosts...))
	default:
		return Config{}, nil, configError("FromEnv", "B24_INSECURE_HTTP must be 1, 0 or empty")
	}
	if address := get("B24_JS_URL"); address != "" {
		if _, err := parseScript(address, plain); err != nil {
			return Config{}, nil, &Error{Op: "FromEnv", Kind: ErrConfig, Detail: "B24_JS_URL", Err: err}
		}
		opts = append(opts, WithScriptURL(address))
	}
	return cfg, opts, nil
}
