package eventtest

import (
	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/phpform"
)

// maxKeptAnswer is the size of the longest result that [WithAnswers] keeps.
const maxKeptAnswer = 64 << 10

// WithAnswers keeps the result or the error of each call in [Call.Answer], for programs that show
// them. The default keeps none, which saves memory and time.
func WithAnswers() Option {
	return func(c *config) error {
		c.answers = true
		return nil
	}
}

// keepAnswer records the result of a call, or its error, if [WithAnswers] wants that.
func (p *Portal) keepAnswer(rec *Call, result phpform.Value, apiErr *apiError) {
	if !p.cfg.answers {
		return
	}
	if apiErr != nil {
		result = apiErr.value()
	}
	doc := appendJSON(nil, result)
	if rec.AnswerSize = len(doc); len(doc) <= maxKeptAnswer {
		rec.Answer = event.Secret(doc)
	}
}
