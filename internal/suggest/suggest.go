// Package suggest finds the known name that is closest to a misspelt one.
//
//	suggest.Name("adrs", []string{"addrs", "db", "tls"}) // "addrs", true
package suggest

import "strings"

// Name returns the name closest to s, and whether it is close enough for a suggestion. Case,
// "-" and "_" are ignored.
func Name(s string, names []string) (best string, ok bool) {
	want := normalize(s)
	fewest := len(want)/2 + 1 // at most half of the bytes may differ
	for _, name := range names {
		if d := distance(want, normalize(name)); d < fewest {
			best, fewest, ok = name, d, true
		}
	}
	return best, ok
}

// maxLen limits the cost of a comparison: only so many bytes of s count.
const maxLen = 64

func normalize(s string) string {
	if len(s) > maxLen {
		s = s[:maxLen]
	}
	return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(s))
}

// distance returns the Levenshtein distance of a and b, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
