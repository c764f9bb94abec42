package examples_test

import (
	"os"
	"testing"

	"github.com/wxcourier/wxcourier/internal/e2e"
)

func TestMain(m *testing.M) { os.Exit(e2e.Run(m)) }
