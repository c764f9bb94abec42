// Package rotate takes the elements of a slice in turns, some at a time.
package rotate

// Next returns the next n elements of all, from *pos on, and starts again after the last one. It
// moves *pos, which the caller keeps between calls; all may have changed since. It returns all
// elements where there are no more than n.
func Next[T any](all []T, n int, pos *int) []T {
	if len(all) <= n {
		return all
	}
	some := make([]T, n)
	for i := range some {
		some[i] = all[(*pos+i)%len(all)]
	}
	*pos = (*pos + n) % len(all)
	return some
}
