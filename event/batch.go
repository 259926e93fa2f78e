package event

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/b24events/b24events/internal/phpform"
)

// maxBatch is how many commands the portal takes in one batch.
const maxBatch = 50

// command is one call of a batch.
type command struct {
	method string
	params map[string]any
}

// answer is what the portal said to one command. The zero answer is that to a command that was not sent.
type answer struct {
	result json.RawMessage
	err    error // a *commandError where the portal refused
	sent   bool
}

// commandError is the portal's refusal of one command of a batch.
type commandError struct {
	method      string
	Code        string `json:"error"`
	Description string `json:"error_description"`
}

// Error names the method and the code; the description is the portal's text and may hold anything.
func (e *commandError) Error() string {
	return "event: " + e.method + ": the portal answered " + e.Code
}

// ErrorCode returns the portal's error member.
func (e *commandError) ErrorCode() string { return e.Code }

// ErrorDescription returns the portal's error_description member.
func (e *commandError) ErrorDescription() string { return e.Description }

// batch makes calls in as few requests as the portal allows, and returns their answers in the order of the commands. A failed command does not stop
// the others; a failed request does, and its error is returned.
func (a *API) batch(ctx context.Context, commands []command) ([]answer, error) {
	answers := make([]answer, len(commands))
	for _, group := range byConnector(commands) {
		for chunk := range slices.Chunk(group, maxBatch) {
			if err := a.batchOnce(ctx, commands, chunk, answers); err != nil {
				return answers, err
			}
		}
	}
	return answers, nil
}

// byConnector groups the commands, by their numbers, so that no batch holds two connectors: the portal gives the auth_connector of a batch to each
// of its commands, whatever they say.
func byConnector(commands []command) [][]int {
	var groups [][]int
	at := make(map[any]int)
	for i, c := range commands {
		connector := c.params[connectorKey]
		g, ok := at[connector]
		if !ok {
			g = len(groups)
			at[connector] = g
			groups = append(groups, nil)
		}
		groups[g] = append(groups[g], i)
	}
	return groups
}

// connectorKey is the parameter that chooses the queue of an integration.
const connectorKey = "auth_connector"

// batchOnce makes one request for the commands with the numbers in chunk.
func (a *API) batchOnce(ctx context.Context, commands []command, chunk []int, answers []answer) error {
	cmd := make(map[string]any, len(chunk))
	params := map[string]any{"halt": 0, "cmd": cmd}
	for _, i := range chunk {
		c := commands[i]
		own := maps.Clone(c.params)
		if connector, ok := own[connectorKey]; ok {
			params[connectorKey] = connector
			delete(own, connectorKey)
		}
		query, err := phpform.FromAny(own)
		if err != nil {
			return fmt.Errorf("event: parameters of %s: %w", c.method, err)
		}
		cmd[commandName(i)] = c.method + "?" + phpform.Encode(query)
	}
	var reply struct {
		Result section `json:"result"`
		Errors section `json:"result_error"`
	}
	if err := a.caller.Call(ctx, "batch", params, &reply); err != nil {
		return fmt.Errorf("event: batch: %w", err)
	}
	for _, i := range chunk {
		answers[i] = reply.Result.answerTo(commands[i], commandName(i), reply.Errors)
	}
	return nil
}

func (s section) answerTo(c command, name string, refusals section) answer {
	if refusal, refused := refusals[name]; refused {
		e := &commandError{method: c.method}
		if json.Unmarshal(refusal, e) != nil || e.Code == "" {
			e.Code = "an error that is not understood"
		}
		return answer{err: e, sent: true}
	}
	if result, ok := s[name]; ok {
		return answer{result: result, sent: true}
	}
	return answer{err: fmt.Errorf("event: %s: the portal's answer to a batch lacks it", c.method), sent: true}
}

// commandName makes keys that PHP cannot take for a list, so that the answer's sections are objects.
func commandName(i int) string { return "c" + strconv.Itoa(i) }

// section is a part of a batch's answer, by command. PHP writes an empty one as a list.
type section map[string]json.RawMessage

var errSection = errors.New("event: a section of a batch's answer is not an object")

// UnmarshalJSON reads an object, and an empty list as an empty object.
func (s *section) UnmarshalJSON(doc []byte) error {
	var object map[string]json.RawMessage
	if json.Unmarshal(doc, &object) == nil {
		*s = object
		return nil
	}
	if bytes.Equal(bytes.TrimSpace(doc), []byte("[]")) {
		return nil
	}
	return errSection
}
