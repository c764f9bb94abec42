package recent

import "time"

// Keys keeps the keys of the last Span, each with a value, and drops them when newer ones replace them.
type Keys[V any] struct {
	Span time.Duration

	newer, older map[uint64]entry[V]
	since        time.Time // when newer was created
}

type entry[V any] struct {
	at    time.Time
	value V
}

// Find returns the value that was added with the key within Span before at.
func (k *Keys[V]) Find(key uint64, at time.Time) (V, bool) {
	e, ok := k.newer[key]
	if !ok {
		e, ok = k.older[key]
	}
	return e.value, ok && at.Sub(e.at) < k.Span
}

// Add adds a key, or replaces its value and time.
func (k *Keys[V]) Add(key uint64, at time.Time, value V) {
	if k.newer == nil || at.Sub(k.since) >= k.Span {
		k.newer, k.older, k.since = map[uint64]entry[V]{}, k.newer, at
	}
	k.newer[key] = entry[V]{at, value}
}
