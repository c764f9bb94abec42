package wxcouriertest_test

import (
	"os"
	"testing"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

func TestMain(m *testing.M) { os.Exit(redistest.Run(m)) }
