package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/program"
)

// maxWaiting limits the deliveries of one portal that wait for their handlers, in bytes.
const maxWaiting = 64 << 20

// group is the portals of this process. They share one OAuth server, as those of the cloud do.
type group struct {
	cfg     config
	pages   []*page       // set before anything is served
	streams chan struct{} // holds one element for each open stream
}

// portalLink is a portal to switch to.
type portalLink struct {
	Domain   string `json:"domain"`
	Port     string `json:"port"`
	MemberID string `json:"member_id"`
}

// startGroup starts the portals. The caller must close them.
func startGroup(cfg config) (*group, error) {
	g := &group{cfg: cfg}
	g.streams = make(chan struct{}, min(maxStreams, g.connections()/2))
	starting := make([]*startingPage, cfg.portals)
	for n, memberID := range cfg.memberIDs() {
		starting[n] = new(startingPage)
		opts := []eventtest.Option{
			eventtest.WithFallback(starting[n]), eventtest.WithMemberID(memberID), eventtest.WithLogger(cfg.logger), eventtest.WithAnswers(),
			eventtest.WithMaxWaiting(maxWaiting), eventtest.WithServers(g.limit),
		}
		if n == 0 {
			opts = append(opts, eventtest.WithListen(cfg.listen), eventtest.WithOAuthListen(cfg.oauthListen))
		} else {
			opts = append(opts, eventtest.WithListen(cfg.others[n-1]), eventtest.WithOAuthServerOf(g.pages[0].portal))
		}
		portal, err := eventtest.New(opts...)
		if err != nil {
			return nil, errors.Join(listenError(err), g.close())
		}
		g.pages = append(g.pages, newPage(portal, cfg, g))
	}
	for n, pg := range g.pages {
		h, err := pg.handler(cfg.hosts)
		if err != nil {
			return nil, errors.Join(err, g.close())
		}
		starting[n].handler.Store(&h)
	}
	return g, nil
}

// limit bounds what one server can take: the descriptors are shared by all portals, their OAuth
// server and their earlier addresses.
func (g *group) limit(s *http.Server, l net.Listener) net.Listener {
	s.ReadTimeout = 2 * time.Minute
	s.IdleTimeout = 15 * time.Second
	s.MaxHeaderBytes = 64 << 10
	s.ErrorLog = slog.NewLogLogger(g.cfg.logger.Handler(), slog.LevelWarn)
	return program.LimitConnections(s, l, g.connections())
}

// connections returns how many connections one server may hold. Half of them are for the addresses
// that portals had before they were renamed.
func (g *group) connections() int { return max(4, program.Connections()/(2*g.cfg.portals+2)) }

func (g *group) close() error {
	var errs []error
	for _, pg := range g.pages {
		errs = append(errs, pg.portal.Close())
	}
	return errors.Join(errs...)
}

// drain waits until every portal has sent what is queued.
func (g *group) drain(ctx context.Context) error {
	for _, pg := range g.pages {
		if pg.portal.Wait(ctx) != nil {
			return errUndelivered
		}
	}
	return nil
}

// links returns the portals to switch between.
func (g *group) links() []portalLink {
	links := make([]portalLink, len(g.pages))
	for n, pg := range g.pages {
		domain := pg.portal.Domain()
		links[n] = portalLink{Domain: domain, Port: portOf(domain), MemberID: pg.portal.MemberID()}
	}
	return links
}

// ports returns the ports of the portals and of their OAuth server.
func (g *group) ports() []string {
	ports := []string{portOf(g.pages[0].portal.OAuthHost())}
	for _, l := range g.links() {
		ports = append(ports, l.Port)
	}
	return ports
}
