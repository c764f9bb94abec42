package apikey

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// units are the units of a size, the largest first.
func units() []struct {
	name  string
	bytes int64
} {
	return []struct {
		name  string
		bytes int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"kB", 1e3}, {"B", 1}}
}

// ParseSize parses a number of bytes such as 4096, 512KiB or 16MB.
func ParseSize(text string) (int64, error) {
	number, factor := text, int64(1)
	for _, u := range units() {
		if n, found := strings.CutSuffix(text, u.name); found {
			number, factor = strings.TrimSpace(n), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 || n > math.MaxInt64/factor {
		return 0, fmt.Errorf("%.40q is not a size such as 512KiB or 16MiB", text)
	}
	return n * factor, nil
}

// FormatSize writes a number of bytes as ParseSize reads it.
func FormatSize(n int64) string {
	for _, u := range units() {
		if n >= u.bytes && n%u.bytes == 0 && u.bytes > 1 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}
