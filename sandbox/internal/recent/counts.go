package recent

// Counts counts calls by key: when the newer half is full, it replaces the older half, whose keys are dropped. A key that is
// counted again moves to the newer half.
type Counts struct {
	half         int
	newer, older map[uint64]Count
}

// Count is the number of calls with one key, and of those among them that were delivered.
type Count struct{ Calls, Delivered uint32 }

// NewCounts returns Counts of about keep keys.
func NewCounts(keep int) *Counts {
	return &Counts{half: max(1, keep/2), newer: map[uint64]Count{}}
}

// Get returns the count of a key; that of a dropped or unknown key is zero.
func (t *Counts) Get(key uint64) Count {
	if c, ok := t.newer[key]; ok {
		return c
	}
	return t.older[key]
}

// Add counts a call, and returns the count of its key.
func (t *Counts) Add(key uint64, delivered bool) Count {
	c := t.Get(key)
	c.Calls++
	if delivered {
		c.Delivered++
	}
	if len(t.newer) >= t.half {
		t.newer, t.older = map[uint64]Count{}, t.newer
	}
	t.newer[key] = c
	return c
}
