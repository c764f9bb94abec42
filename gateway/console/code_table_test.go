package console

import (
	"net/http"
	"strings"
	"testing"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/wechat"
)

// TestCodes: all codes are listed once; a search finds them by number, words in either language and path.
func TestCodes(t *testing.T) {
	all := newCodes(english, "", "")
	if all.Total != len(wechat.Codes()) || len(all.Groups) != len(wechat.Classes()) || all.Sources {
		t.Errorf("%d codes in %d groups", all.Total, len(all.Groups))
	}
	for query, want := range map[string]string{"43101": "refused", "没有订阅": "refused", "high-risk": "refused", "/cgi-bin/token": "config"} {
		found := newCodes(chinese, query, "")
		if found.Total == 0 || !found.Sources {
			t.Errorf("%q: %d found", query, found.Total)
			continue
		}
		in := false
		for _, g := range found.Groups {
			in = in || g.Class == want
		}
		if !in {
			t.Errorf("%q: found %+v", query, found.Groups)
		}
	}
	if found := newCodes(english, "40013", "config"); len(found.Groups) != 1 || found.Total != 3 || !found.Groups[0].Rows[0].Else {
		t.Errorf("%+v", found)
	}
	_, rdb := redistest.Mini(t)
	s := newSite(t, rdb)
	u := s.as(readKey)
	page := u.shows("/codes", http.StatusOK, "43101", "The task ends as", "3 in a row")
	if len(page.body) > 100_000 {
		t.Errorf("the page has %d bytes", len(page.body))
	}
	u.speaking("zh-CN").shows("/codes?q=43101", http.StatusOK, "任务的结果：", "用户不接收", "微信文档")
	if a := u.shows("/codes?q="+script, http.StatusOK, "No code matches"); strings.Contains(a.body, script) {
		t.Error("the search is not escaped")
	}
}
