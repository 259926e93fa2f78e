package event

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/b24events/b24events/internal/batch"
)

// command is one call of a batch.
type command struct {
	method string
	params map[string]any
}

// commandResult is the portal's response to one command. It is zero for a command that was not
// sent.
type commandResult struct {
	result json.RawMessage
	err    error // with a *batch.Error in its chain if the portal refused the command
	sent   bool
}

// connectorKey is the parameter that selects the queue of an integration.
const connectorKey = batch.Connector

// batch makes calls in as few requests as the portal allows, and returns their results in the order
// of the commands. A failed command does not stop the others; a failed request does, and its error
// is returned.
func (a *API) batch(ctx context.Context, commands []command) ([]commandResult, error) {
	results := make([]commandResult, len(commands))
	if err := a.check(); err != nil { // even if there is nothing to send
		return results, err
	}
	for _, group := range byConnector(commands) {
		for chunk := range slices.Chunk(group, batch.Max) {
			if err := a.batchOnce(ctx, commands, chunk, results); err != nil {
				return results, err
			}
		}
	}
	return results, nil
}

// byConnector groups the commands, by their positions, so that no batch holds two connectors: the
// portal applies the auth_connector of a batch to all of its commands, even to those that name
// another.
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

// batchOnce makes one request for the commands at the positions in chunk.
func (a *API) batchOnce(ctx context.Context, commands []command, chunk []int, results []commandResult) error {
	wire := make([]batch.Command, len(chunk))
	for n, i := range chunk {
		wire[n] = batch.Command{Method: commands[i].method, Params: commands[i].params}
	}
	params, err := batch.Params(wire)
	if err != nil {
		return fmt.Errorf("event: %w", err)
	}
	var reply batch.Reply
	if err := a.call(ctx, batch.Method, params, &reply); err != nil {
		return fmt.Errorf("event: batch: %w", err)
	}
	for n, i := range chunk {
		result, err := reply.Answer(n, commands[i].method)
		if err != nil {
			err = fmt.Errorf("event: %w", err)
		}
		results[i] = commandResult{result: result, err: err, sent: true}
	}
	return nil
}
