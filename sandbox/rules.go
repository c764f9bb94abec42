package sandbox

import "slices"

// rule is a fault F for the calls or pushes that its fields match, with the row R of its name.
type rule[F, R any] struct {
	fault F
	row   R
	id    int
	left  int // how many more get the fault; negative: unlimited
}

// ruleList is the rules of calls or of pushes, in order of addition.
type ruleList[F, R any] struct {
	rules []*rule[F, R]
	last  int // id
}

// add appends the rule that numbered makes from its id. A count of 0 is no limit.
func (l *ruleList[F, R]) add(row R, count int, numbered func(id int) F) int {
	l.last++
	if count == 0 {
		count = -1
	}
	l.rules = append(l.rules, &rule[F, R]{fault: numbered(l.last), row: row, id: l.last, left: count})
	return l.last
}

// use counts one more call or push that gets a rule's fault, and removes the rule when that was the last.
func (l *ruleList[F, R]) use(r *rule[F, R]) {
	if r.left > 0 {
		r.left--
	}
	if r.left == 0 {
		l.remove(r.id)
	}
}

// remove reports whether there was a rule with that id. A list that a caller ranges over stays as it is.
func (l *ruleList[F, R]) remove(id int) bool {
	kept := slices.DeleteFunc(slices.Clone(l.rules), func(r *rule[F, R]) bool { return r.id == id })
	removed := len(kept) < len(l.rules)
	l.rules = kept
	return removed
}

func (l *ruleList[F, R]) faults() []F {
	list := make([]F, 0, len(l.rules))
	for _, r := range l.rules {
		list = append(list, r.fault)
	}
	return list
}
