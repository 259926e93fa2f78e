package event

import "github.com/b24events/b24events/internal/phpform"

// UnmarshalJSON reads Data from a JSON value, without loss: numbers keep their digits and objects
// their order. So Data can be a field of a struct that encoding/json reads, and the result of a
// call. It returns [ErrMalformed], or [ErrTooLarge] for what nests too deep. It does not undo
// [Data.MarshalJSON], which takes out secrets; [Data.JSON] writes all there is.
func (d *Data) UnmarshalJSON(doc []byte) error {
	v, err := phpform.DecodeJSON(doc, phpform.Limits{Bytes: len(doc) + 1, Keys: len(doc) + 1})
	if err != nil {
		return bodyError(err)
	}
	*d = (*Delivery)(nil).data(v)
	return nil
}
