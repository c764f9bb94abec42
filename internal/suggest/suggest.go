// Package suggest guesses what a misspelt name was meant to be.
//
//	suggest.Name("adrs", []string{"addrs", "db", "tls"}) // "addrs", true
package suggest

import "strings"

// Name returns the one of names that is closest to s, and whether it is close enough
// to be what was meant. Case, "-" and "_" make no difference.
func Name(s string, names []string) (best string, ok bool) {
	want := normalize(s)
	fewest := len(want)/2 + 1 // farther away is a guess, not a suggestion
	for _, name := range names {
		if d := distance(want, normalize(name)); d < fewest {
			best, fewest, ok = name, d, true
		}
	}
	return best, ok
}

// maxLen bounds what a comparison costs.
const maxLen = 64

func normalize(s string) string {
	if len(s) > maxLen {
		s = s[:maxLen]
	}
	return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(s))
}

// distance counts the bytes to insert, delete or change (Levenshtein).
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
