package sandbox

import (
	"strings"
	"testing"

	"github.com/wxcourier/wxcourier/wechat"
)

// A fault rule can produce each code of the code table, and each has a wording.
func TestEveryCodeCanBeProduced(t *testing.T) {
	s := New(Options{})
	token, component := stableToken(t, s), componentToken(t, s)
	for _, row := range wechat.Codes() {
		if row.Class == wechat.ClassOK {
			continue
		}
		path := string(row.Endpoint)
		if !s.env.paths[path] {
			path = pathCustom
		}
		id, err := s.AddFault(Fault{ErrCode: row.Code, Path: path})
		if err != nil {
			t.Fatal(err)
		}
		target, body := path+"?access_token="+token, goodBody(path, "o1")
		switch path {
		case pathToken:
			target = path + "?grant_type=client_credential&appid=" + testApp + "&secret=x"
		case pathComponentToken:
			body = `{"component_appid":"` + testProvider + `","component_appsecret":"x","component_verify_ticket":"x"}`
		case pathAuthorizerToken:
			target = path + "?component_access_token=" + component
			body = `{"component_appid":"` + testProvider + `","authorizer_appid":"` + testApp + `","authorizer_refresh_token":"x"}`
		case pathSession:
			target = path + loginQuery("c1")
		case pathStableToken:
			body = `{"grant_type":"client_credential","appid":"` + testApp + `","secret":"x"}`
		}
		a := do(t, s, s.rows[path].method, target, body)
		if text, rid, found := strings.Cut(a.ErrMsg, " rid: "); a.ErrCode != row.Code || text == "" || text == "error" || rid == "" || !found {
			t.Errorf("%s %d: %s", path, row.Code, a.raw)
		}
		if !s.RemoveFault(id) {
			t.Fatalf("%s %d: cannot remove the rule", path, row.Code)
		}
	}
}
