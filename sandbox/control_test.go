package sandbox

import (
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestControlAPI(t *testing.T) {
	s := New(Options{})
	const app = testApp
	steps := []struct {
		method, target, body string
		status               int
		has                  string
	}{
		{"POST", "/sandbox/faults", `{"fault":"busy","path":"` + pathSubscribe + `","rate":1,"count":1}`, 200, `{"id":1,"fault":"busy","path":"` + pathSubscribe + `","rate":1,"count":1}`},
		{"POST", "/sandbox/faults", `{"errcode":48001,"app":"wx2"}`, 200, `"id":2`},
		{"GET", "/sandbox/faults", "", 200, `"errcode":48001`},
		{"POST", "/sandbox/faults", `{"fault":"nonsense"}`, 400, `there are busy, concurrent`},
		{"POST", "/sandbox/faults", `{"falt":"busy"}`, 400, `unknown parameter \"falt\"; there are fault, errcode`},
		{"POST", pathSubscribe, goodBody(pathSubscribe, "o1"), 200, `"errcode":-1`},
		{"POST", pathSubscribe, goodBody(pathSubscribe, "o1"), 200, `"errcode":0`},
		{"POST", pathSubscribe, goodBody(pathSubscribe, "o1"), 200, `"errcode":0`},
		{"GET", "/sandbox/faults", "", 200, `[{"id":2,"errcode":48001,"app":"wx2"}]`},
		{"DELETE", "/sandbox/faults?id=7", "", 400, `no fault has the id`},
		{"DELETE", "/sandbox/faults?id=2", "", 200, `{"ok":true}`},
		{"DELETE", "/sandbox/faults", "", 200, `{"ok":true}`},
		{"GET", "/sandbox/calls?openid=o1&delivered=true&limit=1", "", 200, `"delivered":true`},
		{"GET", "/sandbox/calls?errcode=-1", "", 200, `"body":"{\"touser\":\"o1\"`},
		{"GET", "/sandbox/calls?errcode=x", "", 400, `errcode must be a number`},
		{"GET", "/sandbox/calls?limit=-1", "", 400, `limit must be`},
		{"GET", "/sandbox/counts", "", 200, `{"app":"` + app + `","path":"` + pathSubscribe + `","errcode":0,"calls":2,"delivered":2}`},
		{"GET", "/sandbox/tally?openid=o1&app=" + app, "", 200, `{"calls":3,"delivered":2}`},
		{"GET", "/sandbox/tally?openid=o1&target=T1&app=" + app, "", 200, `{"calls":3,"delivered":2}`},
		{"GET", "/sandbox/duplicates", "", 200, `"times":2`},
		{"GET", "/sandbox/peak?path=" + pathSubscribe + "&app=" + app, "", 200, `{"second":3,"minute":3}`},
		{"GET", "/sandbox/tokens?app=" + app, "", 200, `{"classic":0,"stable":1}`},
		{"POST", "/sandbox/revoke", `{"app":"` + app + `"}`, 200, `{"revoked":1}`},
		{"POST", "/sandbox/revoke", ``, 400, `missing parameter \"app\"`},
		{"POST", "/sandbox/quota", `{"app":"` + app + `","path":"` + pathTemplate + `","used":100000}`, 200, `{"ok":true}`},
		{"POST", "/sandbox/quota", `{"app":"` + app + `","path":"/x","used":1}`, 400, `no daily or lifetime limit`},
		{"POST", "/sandbox/quota", `[]`, 400, `cannot read the body`},
		{"POST", pathTemplate, goodBody(pathTemplate, "o1"), 200, `"errcode":45009`},
		{"POST", "/sandbox/credits", `{"app":"` + app + `","openid":"o1","template":"T1","credits":0}`, 200, `{"ok":true}`},
		{"POST", "/sandbox/credits", `1`, 400, `cannot read the body`},
		{"POST", pathSubscribe, goodBody(pathSubscribe, "o1"), 200, `"errcode":43101`},
		{"POST", "/sandbox/latency", `{"latency":"1ms"}`, 200, `{"ok":true}`},
		{"POST", "/sandbox/latency", `{"latency":"-1ms"}`, 400, `latency must be a duration`},
		{"POST", "/sandbox/latency", `{"latency":1}`, 400, `cannot read the body`},
		{"POST", "/sandbox/ip", `{"app":"wx2","blocked":true}`, 200, `{"ok":true}`},
		{"POST", "/sandbox/ip", `{`, 400, `cannot read the body`},
		{"POST", pathStableToken, `{"grant_type":"client_credential","appid":"wx2","secret":"x"}`, 200, `"errcode":40164`},
		{"POST", "/sandbox/secret", `{"app":"wx3"}`, 400, `missing parameter \"secret\"`},
		{"POST", "/sandbox/secret", `{"app":"wx3","secret":"y"}`, 200, `{"ok":true}`},
		{"POST", pathStableToken, `{"grant_type":"client_credential","appid":"wx3","secret":"x"}`, 200, `"errcode":40125`},
		{"POST", pathStableToken, `{"grant_type":"client_credential","appid":"wx3","secret":"y"}`, 200, `"access_token"`},
		{"POST", "/sandbox/reset", "", 200, `{"ok":true}`},
		{"GET", "/sandbox/counts", "", 200, `[]`},
		{"GET", "/sandbox/duplicates", "", 200, `[]`},
		{"GET", "/sandbox/reset", "", 400, `the control API has no GET /sandbox/reset`},
	}
	for _, step := range steps {
		target := step.target
		if strings.HasPrefix(target, "/cgi-bin/message") {
			target += "?access_token=" + stableToken(t, s)
		}
		a := do(t, s, step.method, target, step.body)
		if a.status != step.status || !strings.Contains(a.raw, step.has) {
			t.Errorf("%s %s %s: %d %s; want %d %s", step.method, step.target, step.body, a.status, a.raw, step.status, step.has)
		}
	}
}

// An unknown or missing parameter is an error that names it, on every route.
func TestControlParameters(t *testing.T) {
	s := New(Options{})
	good := map[string]string{
		"app": `"` + testApp + `"`, "path": `"` + pathTemplate + `"`, "openid": `"o1"`, "template": `"T1"`, "used": "1",
		"credits": "0", "latency": `"0s"`, "blocked": "false", "fault": `"busy"`, "secret": `"` + testSecret + `"`, "delay": `"1s"`,
		"provider": `"` + testProvider + `"`, "rotate": "true",
		"url": `"http://127.0.0.1:1/"`, "token": `"push-token"`, "choices": `[{"template":"T1","status":"reject"}]`,
		"templates": `[{"id":"T1","content":"{{thing1.DATA}}"}]`,
	}
	// send makes a request with some of the good parameters, and a further one.
	send := func(pattern string, names []string, further string) answer {
		method, target, _ := strings.Cut(pattern, " ")
		if method == "POST" {
			members := make([]string, 0, len(names)+1)
			for _, name := range names {
				members = append(members, `"`+name+`":`+good[name])
			}
			if further != "" {
				members = append(members, `"`+further+`":1`)
			}
			return do(t, s, method, target, "{"+strings.Join(members, ",")+"}")
		}
		query := url.Values{}
		for _, name := range names {
			query.Set(name, strings.Trim(good[name], `"`))
		}
		if further != "" {
			query.Set(further, "1")
		}
		return do(t, s, method, target+"?"+query.Encode(), "")
	}
	for pattern, route := range s.controlRoutes() {
		names := route.required
		switch pattern {
		case "POST /sandbox/faults":
			names = []string{"fault", "delay"}
		case "POST /sandbox/unauthorize":
			if _, err := s.Authorize(testProvider, testApp); err != nil {
				t.Fatal(err)
			}
		}
		if pattern == "POST /sandbox/pushfaults" {
			good["fault"] = `"twice"`
		}
		if a := send(pattern, names, ""); a.status != 200 {
			t.Errorf("%s with %v: %d %s", pattern, names, a.status, a.raw)
		}
		good["fault"] = `"busy"`
		if a := send(pattern, names, "openId"); a.status != 400 || !strings.Contains(a.raw, `unknown parameter \"openId\"`) {
			t.Errorf("%s with an unknown parameter: %d %s", pattern, a.status, a.raw)
		}
		for i, name := range route.required {
			others := slices.Delete(slices.Clone(names), i, i+1)
			if a := send(pattern, others, ""); a.status != 400 || !strings.Contains(a.raw, `missing parameter \"`+name+`\"`) {
				t.Errorf("%s without %s: %d %s", pattern, name, a.status, a.raw)
			}
		}
	}
	for _, bad := range []struct{ method, target, body, says string }{
		{"POST", "/sandbox/revoke?app=" + testApp, `{}`, `unknown parameter \"app\" in the query`},
		{"POST", "/sandbox/revoke", `{"app":""}`, `missing parameter \"app\"`},
		{"POST", "/sandbox/revoke", `{"app":null}`, `missing parameter \"app\"`},
		{"POST", "/sandbox/revoke", `{"app":"x"} {}`, `cannot read the body`},
		{"POST", "/sandbox/faults", `{"delay":"soon"}`, `delay must be a duration`},
		{"POST", "/sandbox/faults", `{"delay":"-1s"}`, `delay`},
		{"POST", "/sandbox/faults", `{}`, `needs a name, an errcode or a delay`},
		{"GET", "/sandbox/peak?app=x&path=/x", "", `unknown endpoint`},
		{"GET", "/sandbox/calls?delivered=yes", "", `delivered must be true or false`},
		{"DELETE", "/sandbox/faults?id=", "", `no fault has the id`},
		{"POST", "/sandbox/pushfaults", `{"fault":"latereceipt","delay":"soon"}`, `delay must be a duration`},
		{"DELETE", "/sandbox/pushfaults?id=7", "", `no fault has the id`},
		{"GET", "/sandbox/pushes?status=gone", "", `status must be one of`},
		{"GET", "/sandbox/pushes?limit=x", "", `limit must be a number`},
		{"POST", "/sandbox/callback", `{"app":"x","url":"nowhere","token":"x"}`, `the URL of a callback`},
		{"POST", "/sandbox/popup", `{"app":"x","openid":"o1","choices":[{"tmpl":"T1","status":"accept"}]}`, `unknown field \"tmpl\"`},
		{"POST", "/sandbox/templates", `{"app":"x","templates":[{"id":"T1"}]}`, `content has no field`},
	} {
		if a := do(t, s, bad.method, bad.target, bad.body); a.status != 400 || !strings.Contains(a.raw, bad.says) {
			t.Errorf("%s %s %s: %d %s; want %s", bad.method, bad.target, bad.body, a.status, a.raw, bad.says)
		}
	}
}

// The package documentation lists every fault and every route of the control API.
func TestDocumentationIsComplete(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range faultRows() {
		name := row.name
		if row.lasting {
			name += "*"
		}
		if !strings.Contains(string(text), name+" ") {
			t.Errorf("doc.go does not list the fault %s", name)
		}
	}
	for _, name := range PushFaultNames() {
		if !strings.Contains(string(text), name+" ") {
			t.Errorf("doc.go does not list the fault %s of pushes", name)
		}
	}
	for pattern := range New(Options{}).controlRoutes() {
		method, path, _ := strings.Cut(pattern, " ")
		if path != "" && !strings.Contains(strings.Join(strings.Fields(string(text)), " "), method+" "+path) {
			t.Errorf("doc.go does not list %s", pattern)
		}
	}
}
