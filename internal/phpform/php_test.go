package phpform_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/phpform"
)

var (
	update   = flag.Bool("update", false, "record testdata/php_vectors.json from the installed php")
	phpCases = flag.Int("php.cases", 3_000, "generated inputs per kind to compare with the installed php")
	phpSeed  = flag.Uint64("php.seed", 1, "seed of the generated inputs")
)

const vectorsFile = "testdata/php_vectors.json"

// vector is an input with the result of PHP.
type vector struct {
	Kind  string     `json:"kind"` // F: form body, J: JSON document
	Input []byte     `json:"input"`
	Tree  []treePair `json:"tree"`
	Form  []byte     `json:"form"`
}

// treePair is [key, value] in the output of vectors.php.
type treePair struct {
	Key  []byte
	Text []byte     // of a scalar
	Tree []treePair // of an array, never nil there
}

func (p *treePair) UnmarshalJSON(doc []byte) error {
	var value json.RawMessage
	if err := json.Unmarshal(doc, &[]any{&p.Key, &value}); err != nil {
		return err
	}
	if bytes.HasPrefix(value, []byte("[")) {
		return json.Unmarshal(value, &p.Tree)
	}
	return json.Unmarshal(value, &p.Text)
}

func (p treePair) MarshalJSON() ([]byte, error) {
	if p.Tree != nil {
		return json.Marshal([]any{p.Key, p.Tree})
	}
	return json.Marshal([]any{p.Key, append([]byte{}, p.Text...)})
}

func TestPHPVectors(t *testing.T) {
	t.Parallel()
	if *update {
		recordVectors(t)
	}
	doc, err := os.ReadFile(vectorsFile)
	require.NoError(t, err)
	var vectors []vector
	require.NoError(t, json.Unmarshal(doc, &vectors))
	require.Greater(t, len(vectors), 300)
	for _, v := range vectors {
		checkVector(t, v)
	}
}

// TestPHPLive compares the results of PHP for generated inputs.
func TestPHPLive(t *testing.T) {
	t.Parallel()
	needPHP(t)
	rnd := rand.New(rand.NewPCG(*phpSeed, 1)) //nolint:gosec // the cases should be the same each time
	var inputs []vector
	for range *phpCases {
		inputs = append(inputs, vector{Kind: "F", Input: []byte(randomBody(rnd))},
			vector{Kind: "J", Input: randomJSON(rnd, 0)})
	}
	for _, v := range askPHP(t, inputs, phpform.DefaultMaxDepth) {
		checkVector(t, v)
	}
}

// TestPHPLiveDepth checks that the depth limit is that at which PHP drops the variable.
func TestPHPLiveDepth(t *testing.T) {
	t.Parallel()
	needPHP(t)
	const depth = 3
	rnd := rand.New(rand.NewPCG(*phpSeed, 2)) //nolint:gosec // the cases should be the same each time
	var inputs []vector
	for range *phpCases {
		name := strings.NewReplacer("&", "", "=", "").Replace(randomName(rnd) + randomName(rnd))
		inputs = append(inputs, vector{Kind: "F", Input: []byte("x" + name + "=1")})
	}
	dropped := 0
	for _, v := range askPHP(t, inputs, depth) {
		_, err := phpform.Decode(string(v.Input), phpform.Limits{Depth: depth})
		if len(v.Tree) == 0 {
			dropped++
			require.ErrorIs(t, err, phpform.ErrTooDeep, "%q", v.Input)
		} else {
			require.NoError(t, err, "%q", v.Input)
		}
	}
	require.Positive(t, dropped)
}

// checkVector compares the result of this package with that of PHP.
func checkVector(t *testing.T, v vector) {
	t.Helper()
	var got phpform.Value
	var err error
	if v.Kind == "F" {
		got, err = phpform.Decode(string(v.Input), phpform.Limits{})
	} else {
		got, err = phpform.DecodeJSON(v.Input, phpform.Limits{})
	}
	require.NoError(t, err, "%q", v.Input)
	require.Equal(t, phpform.Array, got.Kind(), "%q", v.Input)
	require.Equal(t, describe(v.Tree), describe(treeOf(got)), "%q", v.Input)
	require.Equal(t, string(v.Form), phpform.Encode(got), "%q", v.Input)
}

// treeOf turns an array into the tree that vectors.php would print.
func treeOf(v phpform.Value) []treePair {
	pairs := make([]treePair, 0, v.Len())
	for _, e := range v.Entries() {
		p := treePair{Key: []byte(e.Key)}
		if e.Value.Kind() == phpform.Array {
			p.Tree = treeOf(e.Value)
		} else {
			p.Text = []byte(e.Value.Scalar())
		}
		pairs = append(pairs, p)
	}
	return pairs
}

// describe prints a tree unambiguously.
func describe(pairs []treePair) string {
	var b strings.Builder
	b.WriteByte('{')
	for _, p := range pairs {
		b.WriteString(strconv.Quote(string(p.Key)) + ": ")
		if p.Tree != nil {
			b.WriteString(describe(p.Tree))
		} else {
			b.WriteString(strconv.Quote(string(p.Text)))
		}
		b.WriteString(", ")
	}
	b.WriteByte('}')
	return b.String()
}

func needPHP(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("php"); err != nil {
		// .ci/run also runs these tests under Wine, which has no PHP.
		if os.Getenv("CI") != "" && runtime.GOOS != "windows" {
			t.Fatal("php is missing; .ci/run installs php-cli")
		}
		t.Skip("install php-cli to compare with PHP itself")
	}
}

// askPHP adds the results of the installed PHP to the inputs.
func askPHP(t *testing.T, inputs []vector, depth int) []vector {
	t.Helper()
	var in bytes.Buffer
	for _, v := range inputs {
		in.WriteString(v.Kind + " " + base64.StdEncoding.EncodeToString(v.Input) + "\n")
	}
	//nolint:gosec // the arguments are the test's own
	cmd := exec.CommandContext(t.Context(), "php", "-n", "-d", "memory_limit=512M", "-d", "max_input_vars=1000000",
		"-d", "max_input_nesting_level="+strconv.Itoa(depth), filepath.Join("testdata", "vectors.php"))
	cmd.Stdin = &in
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	var answers []vector
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		v := inputs[len(answers)]
		require.NoError(t, json.Unmarshal(lines.Bytes(), &v), "%q", lines.Text())
		answers = append(answers, v)
	}
	require.NoError(t, lines.Err())
	require.Len(t, answers, len(inputs))
	return answers
}

// recordVectors writes the vectors: the bodies with a name, and some generated ones.
func recordVectors(t *testing.T) {
	t.Helper()
	needPHP(t)
	var inputs []vector
	for _, body := range oddBodies() {
		inputs = append(inputs, vector{Kind: "F", Input: []byte(body)})
	}
	for _, body := range realBodies(t) {
		inputs = append(inputs, vector{Kind: "F", Input: []byte(body)})
	}
	rnd := rand.New(rand.NewPCG(1, 3)) //nolint:gosec // the same vectors each time
	for range 250 {
		inputs = append(inputs, vector{Kind: "F", Input: []byte(randomBody(rnd))})
	}
	for range 60 {
		inputs = append(inputs, vector{Kind: "J", Input: randomJSON(rnd, 0)})
	}
	var b bytes.Buffer
	b.WriteString("[\n")
	for i, v := range askPHP(t, inputs, phpform.DefaultMaxDepth) {
		if i > 0 {
			b.WriteString(",\n")
		}
		line, err := json.Marshal(v)
		require.NoError(t, err)
		b.Write(line)
	}
	b.WriteString("\n]\n")
	require.NoError(t, os.WriteFile(vectorsFile, b.Bytes(), 0o600))
}
