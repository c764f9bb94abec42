package proxy

import (
	"slices"
	"strings"

	"github.com/wxcourier/wxcourier/tasks"
)

// otherPaths are the paths that every key with the scope call may call, besides those of the task
// types. Each is a lane of its own: its limits, holds and breaker are under its path.
var otherPaths = []string{
	pathSession,
	"/wxa/business/getuserphonenumber",
	"/wxa/business/getliveinfo",
	"/wxa/queryscheme",
	"/wxa/query_urllink",
	"/datacube/getweanalysisappiddailyvisittrend",
	"/datacube/getweanalysisappiduserportrait",
	"/wxaapi/newtmpl/gettemplate",
	"/cgi-bin/template/get_all_private_template",
	"/cgi-bin/message/template/subscribe",
	"/cgi-bin/message/custom/typing",
	"/cgi-bin/openapi/quota/get",
	"/cgi-bin/openapi/rid/get",
	"/cgi-bin/clear_quota",
}

// endpoint is how the gateway treats a path.
type endpoint struct {
	path string
	spec tasks.Spec // zero for a path without a task type
}

// endpointOf returns the endpoint of a path.
func endpointOf(path string) endpoint {
	e := endpoint{path: path}
	all := tasks.Catalog()
	if i := slices.IndexFunc(all, func(s tasks.Spec) bool { return s.Path == path }); i >= 0 {
		e.spec = all[i]
	}
	return e
}

// task reports whether the endpoint has a task type, whose body is JSON.
func (e endpoint) task() bool { return e.spec.Type != "" && !e.spec.Multipart }

// message reports whether a request is a message of a task type.
func (e endpoint) message() bool { return e.spec.Kind == tasks.Message }

// reachesPerson reports whether a request reaches a person, or may do so.
func (e endpoint) reachesPerson() bool {
	return e.message() || strings.HasPrefix(e.path, "/cgi-bin/message/") && e.path != "/cgi-bin/message/custom/typing"
}

// listed reports whether every key with the scope call may call the path.
func (e endpoint) listed() bool { return e.spec.Type != "" || slices.Contains(otherPaths, e.path) }

// lane returns the name of the endpoint's lane, or "" for a path that only a key's pattern allows:
// there is no bound on how many of these there are.
func (e endpoint) lane() string {
	switch {
	case e.spec.Type != "":
		return e.spec.Type
	case e.listed():
		return e.path
	}
	return ""
}

// HasLane reports whether a path without a task type is a lane, which can be held and released.
func HasLane(path string) bool { return slices.Contains(otherPaths, path) }

// TakesImage reports whether a path takes an image as an upload, in place of JSON.
func TakesImage(path string) bool { return endpointOf(path).spec.Multipart }

// otherAPI is the label of the paths without a lane in the metrics.
const otherAPI = "other"

// api returns the label of the endpoint in the metrics.
func (e endpoint) api() string {
	if e.lane() == "" {
		return otherAPI
	}
	return e.path
}
