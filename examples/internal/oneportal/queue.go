package oneportal

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"github.com/b24events/b24events/examples/internal/program"
)

// QueueDir returns the folder for the state of one queue of the portal, and makes it if it is
// missing. It locks the folder until release is called, because two consumers would handle records
// twice. It refuses the folder of another queue.
func (p *Portal) QueueDir(connector string) (dir string, release func(), err error) {
	name := "default"
	if connector != "" {
		name = "connector-" + url.QueryEscape(connector)
	}
	owner := program.Owner{ClientID: p.Tokens.ClientID(), MemberID: p.MemberID}
	if dir, err = program.Folder(p.Data, "queues"); err != nil {
		return "", nil, err
	}
	if dir, err = program.Claim(filepath.Join(dir, "portal-"+url.QueryEscape(p.MemberID)), owner); err != nil {
		return "", nil, err
	}
	owner.Connector = connector
	if dir, err = program.Claim(filepath.Join(dir, name), owner); err != nil {
		return "", nil, err
	}
	f, err := Lock(filepath.Join(dir, "lock"), os.O_RDWR)
	if err != nil {
		return "", nil, fmt.Errorf("the queue's folder: %w", err)
	}
	return dir, func() { _ = Unlock(f) }, nil
}

// SpoolDir returns the folder for records that cannot be reserved. Package offline keeps the queues
// apart in it.
func (p *Portal) SpoolDir() (string, error) { return program.Folder(p.Data, "spool") }
