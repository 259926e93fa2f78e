package main

import (
	"testing"

	"github.com/b24events/b24events/examples/internal/programtest"
)

func TestMain(m *testing.M) { programtest.Main(m, main) }
