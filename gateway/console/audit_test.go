package console

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestAuditPage lists changes with filters; a key of some apps sees theirs.
func TestAuditPage(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newSite(t, rdb)
		add := func(e audit.Entry) {
			if err := audit.Append(t.Context(), rdb, e); err != nil {
				t.Fatal(err)
			}
		}
		add(audit.Entry{By: "key:crm", Via: audit.API, Action: audit.CancelBatch, App: testApp, Target: "spring", Count: 1204})
		add(audit.Entry{By: "me@here", Via: audit.CLI, Action: audit.Hold, App: otherApp, Target: "*", Note: script})
		add(audit.Entry{By: "key:new", Via: "later", Action: "later_version", App: testApp, Target: script})
		u := s.as(operateKey)
		page := u.shows("/audit", http.StatusOK, "canceled a batch", "1,204", "/batches/"+testApp+"/spring", "set a hold", "the whole app", "me@here", "later_version", "signed in", script)
		if strings.Contains(page.body, script) {
			t.Error("an entry is not escaped")
		}
		u.speaking("zh-CN").shows("/audit", http.StatusOK, "取消批次", "设置暂停", "通过命令行")
		for query, want := range map[string]string{"app=" + otherApp: "me@here", "action=hold": "me@here", "by=me@": "me@here"} {
			if page := u.shows("/audit?"+query, http.StatusOK, want).body; strings.Contains(page, "key:crm") {
				t.Errorf("%s shows others", query)
			}
		}
		u.shows("/audit?by=nobody", http.StatusOK, "Nothing was changed")
		u.shows("/audit?before=nonsense", http.StatusOK, "key:crm")
		one := s.as(oneAppKey)
		if page := one.shows("/audit", http.StatusOK, "key:crm", "its own apps").body; strings.Contains(page, "me@here") || strings.Contains(page, "key:"+operateKey) {
			t.Error("a key of one app sees changes of others")
		}
		one.shows("/audit?app="+otherApp, http.StatusForbidden)
		for i := range auditRows {
			add(audit.Entry{By: "key:crm", Via: audit.API, Action: audit.Cancel, App: testApp, Target: fmt.Sprint("task-", i), Count: 1})
		}
		first := u.get("/audit?action=cancel&by=key").body
		if strings.Count(first, "/tasks/"+testApp) != auditRows || strings.Contains(first, "Next page") {
			t.Errorf("a full page: %s", first)
		}
		_, link, _ := strings.Cut(u.get("/audit?by=key").body, `<a href="/audit?before=`)
		before, _, found := strings.Cut(link, `&`)
		if !found {
			t.Fatal("no next page")
		}
		u.shows("/audit?by=key&before="+before, http.StatusOK, "key:crm", "First page")
	})
}
