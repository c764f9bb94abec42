// Package recent remembers what happened lately, in bounded memory: the events of the last second and
// minute ([Window]), the counts of the latest keys ([Counts]), and the keys of a span ([Keys]). Each
// forgets the rest. Its types are not safe for concurrent use; the sandbox guards them by its mutex.
package recent
