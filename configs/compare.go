package configs

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Changes is what differs between two configurations: names of apps and of keys, and no values.
type Changes struct {
	Added, Removed []string    // apps, sorted
	Changed        []AppChange // sorted by app
	Keys           []string    // sorted; other keys than those of apps
}

// AppChange is an app that is in both configurations, with the keys that differ, sorted.
type AppChange struct {
	App  string
	Keys []string // such as "secret" or "limits.links.per_day"
}

// Touches reports whether a key under one of the prefixes differs.
func (c AppChange) Touches(prefixes ...string) bool {
	return slices.ContainsFunc(c.Keys, func(key string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return key == p || strings.HasPrefix(key, p+".") })
	})
}

// None reports whether nothing differs.
func (c Changes) None() bool {
	return len(c.Added)+len(c.Removed)+len(c.Changed)+len(c.Keys) == 0
}

// Compare returns what differs between two valid configurations. The order of apps does not count.
func Compare(before, after Config) Changes {
	var c Changes
	old, now := appsByID(before), appsByID(after)
	for _, id := range slices.Sorted(maps.Keys(now)) {
		was, known := old[id]
		if !known {
			c.Added = append(c.Added, id)
		} else if keys := differing(texts(was), texts(now[id])); len(keys) > 0 {
			c.Changed = append(c.Changed, AppChange{App: id, Keys: keys})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(old)) {
		if _, stays := now[id]; !stays {
			c.Removed = append(c.Removed, id)
		}
	}
	before.Apps, after.Apps = nil, nil
	c.Keys = differing(texts(before), texts(after))
	return c
}

// Hash returns eight hexadecimal digits that tell configurations apart: replicas with the same hash
// have the same keys, from the file and the environment together. It covers the secrets, and is too
// short to find one by trying.
func (c Config) Hash() string {
	apps := appsByID(c)
	c.Apps = nil
	sum := sha256.New()
	write := func(prefix string, all map[string]string) {
		for _, key := range slices.Sorted(maps.Keys(all)) {
			_, _ = io.WriteString(sum, prefix+key+"="+strconv.Quote(all[key])+"\n")
		}
	}
	write("", texts(c))
	for _, id := range slices.Sorted(maps.Keys(apps)) {
		write("apps "+id+" ", texts(apps[id]))
	}
	return hex.EncodeToString(sum.Sum(nil))[:8]
}

func appsByID(c Config) map[string]App {
	apps := make(map[string]App, len(c.Apps))
	for _, app := range c.Apps {
		apps[app.ID] = app
	}
	return apps
}

// differing returns the sorted keys whose values differ.
func differing(a, b map[string]string) []string {
	keys := make(map[string]bool)
	for key, text := range a {
		if other, ok := b[key]; !ok || other != text {
			keys[key] = true
		}
	}
	for key := range b {
		if _, ok := a[key]; !ok {
			keys[key] = true
		}
	}
	return slices.Sorted(maps.Keys(keys))
}

// texts returns the values of all keys of a part of the configuration, secrets included, without
// those that are zero.
func texts(part any) map[string]string {
	all := make(map[string]string)
	addTexts(all, reflect.ValueOf(part), "")
	return all
}

func addTexts(all map[string]string, v reflect.Value, key string) {
	switch v.Kind() {
	case reflect.Struct:
		fields := fieldsOf(v.Type())
		for _, name := range fields.names {
			addTexts(all, v.Field(fields.index[name]), join(key, name))
		}
	case reflect.Map:
		for _, entry := range v.MapKeys() {
			addTexts(all, v.MapIndex(entry), join(key, entry.String()))
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Struct {
			for i := range v.Len() {
				addTexts(all, v.Index(i), fmt.Sprintf("%s[%d]", key, i))
			}
			return
		}
		var b strings.Builder
		for i := range v.Len() {
			b.WriteString(strconv.Quote(text(v.Index(i))) + " ")
		}
		if b.Len() > 0 {
			all[key] = b.String()
		}
	default:
		if !v.IsZero() {
			all[key] = text(v)
		}
	}
}

// text returns the value of a scalar; fmt would hide a secret.
func text(v reflect.Value) string {
	if v.Kind() == reflect.String {
		return v.String()
	}
	return fmt.Sprint(v.Interface())
}
