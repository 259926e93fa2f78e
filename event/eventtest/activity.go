package eventtest

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/phpform"
)

// Activity is a call that a workflow makes of an automation rule or activity of the application.
type Activity struct {
	Code         string       // of the rule; required
	WorkflowID   string       // made up if empty
	EventToken   event.Secret // made up if empty
	DocumentID   [3]string    // module, class and ID; the deal 42 if empty
	DocumentType [3]string    // module, class and type; deals if empty
	Properties   any          // a struct or nested maps; nil for none
	Waits        bool         // the workflow waits for a result (USE_SUBSCRIPTION)
	Timeout      time.Duration
}

// NewActivityRequest builds the POST that a portal sends to the handler of an automation rule or
// activity: a form with workflow_id, code, document_id, document_type, event_token, properties,
// use_subscription, timeout_duration, ts and auth. The options are those of [NewRequest], and the
// auth block is the same; [Direct] makes the one of a portal that calls without its OAuth server.
// It returns [ErrConfig] if a has no code or an option makes no sense, and an error if the
// properties cannot be encoded.
func NewActivityRequest(ctx context.Context, a Activity, opts ...RequestOption) (*http.Request, error) {
	if a.Code == "" {
		return nil, misconfigured("a call of an activity needs its code")
	}
	r, _, err := build(Name("ACTIVITY"), nil, opts) // for what the options set
	if err != nil {
		return nil, err
	}
	properties, err := treeOf(a.Properties)
	if err != nil {
		return nil, err
	}
	if a.WorkflowID == "" {
		a.WorkflowID = randomText(14, hexDigits) + "." + randomText(8, "0123456789")
	}
	if a.EventToken == "" {
		a.EventToken = event.Secret(a.WorkflowID + "|A51601_82584_96831_81132|" + randomText(32, hexDigits) + "." + randomText(64, hexDigits))
	}
	if a.DocumentID == [3]string{} {
		a.DocumentID = [3]string{"crm", "CCrmDocumentDeal", "DEAL_42"}
	}
	if a.DocumentType == [3]string{} {
		a.DocumentType = [3]string{"crm", "CCrmDocumentDeal", "DEAL"}
	}
	waits := "N"
	if a.Waits {
		waits = "Y"
	}
	auth := r.auth.value()
	if r.noAuth {
		auth = phpform.Map()
	}
	return postForm(ctx, r.url, phpform.Encode(phpform.Map(
		text("workflow_id", a.WorkflowID),
		text("code", a.Code),
		kv("document_id", listOf(a.DocumentID)),
		kv("document_type", listOf(a.DocumentType)),
		text("event_token", string(a.EventToken)),
		kv("properties", wireNumbers(properties)),
		text("use_subscription", waits),
		text("timeout_duration", strconv.FormatInt(int64(a.Timeout/time.Second), 10)),
		kv("ts", r.ts()),
		kv("auth", auth),
	)))
}

func listOf(parts [3]string) phpform.Value {
	return phpform.Map(text("0", parts[0]), text("1", parts[1]), text("2", parts[2]))
}
