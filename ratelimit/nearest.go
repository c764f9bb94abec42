package ratelimit

// nearest returns the one of names that takes the fewest edits to reach from s.
func nearest(s string, names []string) string {
	best, fewest := "", int(^uint(0)>>1)
	for _, n := range names {
		if d := edits(s, n); d < fewest {
			best, fewest = n, d
		}
	}
	return best
}

// edits is the Levenshtein distance of two names, by byte.
func edits(a, b string) int {
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
