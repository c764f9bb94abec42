//go:build !unix

package loadtest

import (
	"os"
	"time"
)

func ownCPU() (time.Duration, bool) { return 0, false }

func peakOf(*os.ProcessState) int64 { return 0 }
