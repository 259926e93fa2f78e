package oauth

import (
	"context"
	"errors"
)

// change edits what is stored under a key, where edit finds something to do. It never touches tokens that wait to be written:
// these are written over the result later.
func (p *Portals) change(ctx context.Context, key Key, edit func(*Installation) bool) (Installation, error) {
	for range writeTries {
		in, version, err := p.store.Load(ctx, key)
		switch {
		case errors.Is(err, ErrNotFound):
			return Installation{}, &Error{Op: opChange, Kind: ErrNotFound}
		case err != nil:
			return Installation{}, &Error{Op: opChange, Kind: ErrStore, Err: err}
		case !edit(&in):
			return in, nil
		}
		if _, err = p.store.Swap(ctx, key, version, in); err == nil {
			return in, nil
		}
		if !errors.Is(err, ErrConflict) {
			return Installation{}, &Error{Op: opChange, Kind: ErrStore, Err: err}
		}
	}
	return Installation{}, &Error{Op: opChange, Kind: ErrStore, Detail: "the installation changes all the time", Err: ErrConflict}
}
