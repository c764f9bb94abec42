package configs

import (
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/wxcourier/wxcourier/internal/suggest"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/worker"
)

const (
	variablePrefix = "WXCOURIER_"
	appsPrefix     = variablePrefix + "APPS_"

	providersPrefix = variablePrefix + "PROVIDERS_"
)

// serviceLink matches the variables that Kubernetes and Docker set for a service whose name starts
// with "wxcourier":
// https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
var serviceLink = regexp.MustCompile(`^WXCOURIER_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// environment applies the variables of the environment to cfg, in a fixed order.
func (d *decoder) environment(environ []string, cfg *Config) {
	leaves := leavesOf(reflect.ValueOf(cfg).Elem(), "")
	variables := make([]string, 0, len(leaves))
	byVariable := make(map[string]leaf, len(leaves))
	for _, l := range leaves {
		name := variablePrefix + variablePart(l.key)
		variables = append(variables, name)
		byVariable[name] = l
	}
	for _, entry := range slices.Sorted(slices.Values(environ)) {
		name, text, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, variablePrefix) || name == PathVariable || text == "" || serviceLink.MatchString(name) {
			continue
		}
		if l, ok := byVariable[name]; ok {
			d.variable(name, text, l)
			continue
		}
		if rest, ok := strings.CutPrefix(name, providersPrefix); ok {
			d.providerVariable(name, rest, text, cfg)
			continue
		}
		if rest, ok := strings.CutPrefix(name, appsPrefix); ok {
			d.appVariable(name, rest, text, cfg)
			continue
		}
		d.unknownVariable(name, variables)
	}
}

// A leaf is a key whose value is a scalar or a list of strings.
type leaf struct {
	key   string
	value reflect.Value
}

// leavesOf returns the leaves under v, which must be addressable. Maps and lists of structs have
// none, since their entries are not known in advance.
func leavesOf(v reflect.Value, key string) []leaf {
	if v.Kind() != reflect.Struct {
		textList := v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.String
		if v.Kind() == reflect.Map || v.Kind() == reflect.Slice && !textList {
			return nil
		}
		return []leaf{{key, v}}
	}
	var all []leaf
	fields := fieldsOf(v.Type())
	for _, name := range fields.names {
		all = append(all, leavesOf(v.Field(fields.index[name]), join(key, name))...)
	}
	return all
}

// variablePart returns the form of a key in a variable's name.
func variablePart(key string) string {
	return strings.ToUpper(strings.NewReplacer("./", "_", ".", "_", ":", "_", "/", "_").Replace(key))
}

// variable sets one leaf.
func (d *decoder) variable(name, text string, l leaf) {
	d.from[l.key] = origin{variable: name}
	if l.value.Kind() == reflect.Slice {
		items := reflect.MakeSlice(l.value.Type(), 0, 1)
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				items = reflect.Append(items, reflect.ValueOf(part).Convert(l.value.Type().Elem()))
			}
		}
		l.value.Set(items)
		return
	}
	if err := set(l.value, text); err != nil {
		d.problem(l.key, "%v", err)
	}
}

func (d *decoder) unknownVariable(name string, known []string) {
	p := Problem{Variable: name, Message: "no configuration key has this variable"}
	if meant, ok := suggest.Name(name, known); ok {
		p.Message += "; did you mean $" + meant + "?"
	}
	d.problems = append(d.problems, p)
}

// appVariable sets a key of the app that the variable names, and adds the app when it is missing.
// rest is the name after appsPrefix.
func (d *decoder) appVariable(name, rest, text string, cfg *Config) {
	id, part, found := strings.Cut(rest, "_")
	if !found || part == "" {
		d.problems = append(d.problems, Problem{Variable: name, Message: "write $" + appsPrefix + "<APPID>_SECRET, or another key of an app after its id"})
		return
	}
	i := appAt(cfg, strings.ToLower(id))
	key := appKey(i)
	if _, ok := d.from[key]; !ok {
		d.from[key] = origin{variable: name}
	}
	app := &cfg.Apps[i]
	leaves := leavesOf(reflect.ValueOf(app).Elem(), "")
	leaves = slices.DeleteFunc(leaves, func(l leaf) bool { return l.key == "id" })
	known := make([]string, 0, len(leaves))
	for _, l := range leaves {
		if part == variablePart(l.key) {
			l.key = key + "." + l.key
			d.variable(name, text, l)
			app.dropAlternative(l.key)
			return
		}
		known = append(known, appsPrefix+id+"_"+variablePart(l.key))
	}
	if d.limitVariable(name, text, key, app) {
		return
	}
	for _, hours := range worker.HoursKeys() {
		variable := appsPrefix + id + "_" + hoursPart(hours)
		if name == variable {
			d.from[key+".hours."+hours] = origin{variable: name}
			app.setHours(hours, text)
			return
		}
		known = append(known, variable)
	}
	d.unknownVariable(name, known)
}

// appAt returns the index of the app in the configuration, and adds the app when it is missing.
func appAt(cfg *Config, id string) int {
	i := slices.IndexFunc(cfg.Apps, func(a App) bool { return a.ID == id })
	if i < 0 {
		cfg.Apps = append(cfg.Apps, App{ID: id})
		i = len(cfg.Apps) - 1
	}
	return i
}

// limitVariable sets one number of one limit: …_LIMITS_SCHEME_GENERATE_PER_SECOND.
func (d *decoder) limitVariable(name, text, key string, app *App) bool {
	for _, row := range ratelimit.Defaults() {
		limit := app.Limits[row.Name]
		for _, l := range leavesOf(reflect.ValueOf(&limit).Elem(), "") {
			if !strings.HasSuffix(name, "_"+variablePart("limits."+row.Name+"."+l.key)) {
				continue
			}
			field := l.key
			l.key = key + ".limits." + row.Name + "." + field
			d.variable(name, text, l)
			d.validatePresent(reflect.ValueOf(limit), field, l.key)
			if app.Limits == nil {
				app.Limits = make(map[string]ratelimit.Limit)
			}
			app.Limits[row.Name] = limit
			return true
		}
	}
	return false
}

// hoursPart returns the form of an hours key in a variable's name. It has no "*": HOURS_SEND stands
// for "send:*" and HOURS for "*".
func hoursPart(hours string) string {
	return strings.TrimSuffix(variablePart("hours."+strings.TrimSuffix(hours, "*")), "_")
}

// setHours sets the hours of one type or kind.
func (a *App) setHours(name, text string) {
	if a.Hours == nil {
		a.Hours = make(worker.Hours)
	}
	a.Hours[name] = text
}
