package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"mime/multipart"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/campaign"
	"github.com/wxcourier/wxcourier/internal/campaign/table"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

const sendTemplate = `body:
  touser: "{{openid}}"
  template_id: T1
  data: {thing1: {value: "{{name}}"}}
`

// people returns a table of n persons.
func people(n int) string {
	var b strings.Builder
	b.WriteString("openid,name\n")
	for i := range n {
		_, _ = fmt.Fprintf(&b, "oSecretPerson%06d,Zhang %d\n", i, i)
	}
	return b.String()
}

// upload sends the form of a campaign. A field with the name of a file ("table", "template_file") is
// one, with its name before the first line break.
func (u *user) upload(fields map[string]string) answered {
	u.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	write := func(name, value string) {
		if name != "table" && name != "template_file" {
			_ = form.WriteField(name, value)
			return
		}
		file, content, _ := strings.Cut(value, "\n")
		part, err := form.CreateFormFile(name, file)
		if err != nil {
			u.Fatal(err)
		}
		_, _ = part.Write([]byte(content))
	}
	write("token", u.token())
	for name, value := range fields {
		write(name, value)
	}
	_ = form.Close()
	r, err := http.NewRequestWithContext(u.Context(), http.MethodPost, u.server.URL+UploadPath, &body)
	if err != nil {
		u.Fatal(err)
	}
	r.Header.Set("Content-Type", form.FormDataContentType())
	r.Header.Set("Accept", "text/html")
	r.Header.Set("Accept-Language", u.lang)
	return u.do(r)
}

// campaignFields returns the fields of a form without faults, with some of them replaced.
func campaignFields(replaced ...string) map[string]string {
	fields := map[string]string{
		"app": testApp, "type": tasks.TypeSubscribe, "batch": "spring", "template": sendTemplate, "table": "people.csv\n" + people(3),
	}
	for i := 0; i < len(replaced); i += 2 {
		fields[replaced[i]] = replaced[i+1]
	}
	return fields
}

// uploaded uploads a table without faults, and returns the path of its page.
func (u *user) uploaded(replaced ...string) string {
	u.Helper()
	a := u.upload(campaignFields(replaced...))
	if a.status != http.StatusSeeOther || !strings.HasPrefix(a.location, UploadPath+"/"+testApp+"/") {
		u.Fatalf("upload: %d %s\n%s", a.status, a.location, faultsIn(a.body))
	}
	return a.location
}

var faultText = regexp.MustCompile(`(?s)<p class="(?:fault|lead|notice [a-z]+)"[^>]*>(.*?)</p>`)

// faultsIn returns the faults and notices of a page.
func faultsIn(page string) string {
	var all []string
	for _, found := range faultText.FindAllStringSubmatch(page, -1) {
		all = append(all, found[1])
	}
	return strings.Join(all, "\n")
}

// enqueued fails the test unless the batch has n tasks, each of another person.
func (s *site) enqueued(batch string, n int) {
	s.Helper()
	counts, err := s.Tasks.Batch(s.Context(), testApp, batch)
	if err != nil && (n > 0 || !errors.Is(err, tasks.ErrNotFound)) || counts["total"] != int64(n) {
		s.Errorf("%v, %v; want %d tasks", counts, err, n)
	}
	waiting, err := s.Redis.LLen(s.Context(), "asynq:{"+testApp+":"+tasks.TypeSubscribe+"}:pending").Result()
	if err != nil || waiting != int64(n) {
		s.Errorf("%d tasks wait, %v; want %d", waiting, err, n)
	}
}

func (u *user) until(path string, texts ...string) string {
	u.Helper()
	var page string
	redistest.Until(u.T, 30*time.Second, strings.Join(texts, ", ")+" on the page", func() bool {
		page = u.get(path).body
		for _, text := range texts {
			if !strings.Contains(page, text) {
				return false
			}
		}
		return true
	})
	return page
}

// TestCampaign: a table is uploaded to one gateway, confirmed on another, and watched on the first.
func TestCampaign(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		one, two := newSite(t, rdb), newSite(t, rdb)
		u, v := one.as(oneAppKey), two.as(operateKey).speaking("zh-CN")
		rows := people(40) + "oSecretPerson000001,again\n,no openid\noSecretPerson000100," + strings.Repeat("long", 10) + "\n"
		path := u.uploaded("table", "people.csv\n"+rows)
		page := u.get(path).body
		for _, text := range []string{
			"Send 40 messages", "43", "40 can be sent", "3 at fault", "duplicates: 1", "people.csv · CSV · UTF-8", "<strong>openid</strong>",
			"The first message, of line 2", "Zhang 0", "42", "43", "44", "No worker is running", "Estimated end",
		} {
			if !strings.Contains(page, text) {
				t.Errorf("the page does not show %q:\n%s", text, page)
			}
		}
		if strings.Contains(page, "oSecretPerson000000") || len(page) > 100<<10 {
			t.Errorf("the page has an openid, or %d bytes", len(page))
		}
		one.enqueued("spring", 0)
		if a := v.get(path); a.status != 200 || !strings.Contains(a.body, "发送 40 条消息") {
			t.Fatalf("on the other gateway: %d\n%s", a.status, faultsIn(a.body))
		}
		for range 2 { // a second click does nothing
			if a := v.post(path+"/confirm", nil); a.status != http.StatusSeeOther && a.status != http.StatusConflict || a.status == http.StatusSeeOther && a.location != path {
				t.Fatalf("%d %s\n%s", a.status, a.location, faultsIn(a.body))
			}
		}
		page = u.until(path, "All rows are enqueued", "40 of 40 rows enqueued", "0 of 40 with an outcome", "/batches/"+testApp+"/spring", operateKey)
		if strings.Contains(page, "Continue") {
			t.Error("it can be continued")
		}
		one.enqueued("spring", 40)
		report := u.get(path + "/report")
		if report.status != 200 || strings.Count(report.body, "\r\n") != 44 || !strings.HasPrefix(report.body, "\ufeffline,receiver") ||
			!strings.Contains(report.body, "oSecretPerson000039") || strings.Count(report.body, "at fault") != 3 || report.header.Get("Content-Disposition") != `attachment; filename="spring.csv"` {
			t.Errorf("%d %v\n%s", report.status, report.header, report.body)
		}
		entries, _, err := audit.List(t.Context(), rdb, audit.Query{Match: func(e audit.Entry) bool { return e.Action == audit.Campaign }})
		if err != nil || len(entries) != 1 || entries[0].By != "key:"+operateKey || entries[0].Target != "spring" || entries[0].Count != 40 || entries[0].App != testApp {
			t.Errorf("%+v, %v", entries, err)
		}
		again := u.uploaded("table", "people.csv\n"+rows)
		if page := u.get(again).body; !strings.Contains(page, "All rows of this table have been sent already") || strings.Contains(page, again+"/confirm") {
			t.Errorf("the same table again:\n%s", faultsIn(page))
		}
		for _, s := range []*site{one, two} {
			if strings.Contains(s.log.String(), "oSecretPerson") || strings.Contains(s.log.String(), "Zhang") {
				t.Error(s.log.String())
			}
		}
	})
}

var hanText = regexp.MustCompile(`\p{Han}`)

// TestSendFaults: what is wrong is said beside its field, in the form with what was entered.
func TestSendFaults(t *testing.T) {
	_, rdb := redistest.Mini(t)
	u := newSite(t, rdb).as(oneAppKey)
	for name, tt := range map[string]struct {
		fields []string
		want   string
	}{
		"no table":           {[]string{"table", "\n"}, "Choose the file with the table"},
		"an empty table":     {[]string{"table", "people.csv\n"}, "the file is empty"},
		"a picture":          {[]string{"table", "people.csv\n\x89PNG\r\n\x1a\n00000"}, "save it as .xlsx"},
		"two columns":        {[]string{"table", "people.csv\nopenid,name,name\no1,x,y\n"}, "name"},
		"no column":          {[]string{"table", "people.csv\nopenid,Name1\no1,x\n"}, "the table has no column {{name}}"},
		"no YAML":            {[]string{"template", "body: {{openid}}"}, "must be in quotes"},
		"no batch":           {[]string{"batch", ""}, "a name for the campaign"},
		"a bad batch":        {[]string{"batch", script}, "is not the name of a batch"},
		"an unknown type":    {[]string{"type", "send:everything"}, "is not a task type"},
		"a time in the past": {[]string{"at", "2020-01-01T08:00"}, "This time has passed"},
		"no time":            {[]string{"at", "tomorrow"}, "not a time such as"},
		"no rate":            {[]string{"rate", "fast"}, "not a number above 0"},
		"too fast":           {[]string{"rate", "1000000"}, "messages a second"},
		"an unknown app":     {[]string{"app", "wx00000000000000aa"}, "Your key may not use the app"},
	} {
		a := u.upload(campaignFields(append([]string{"strict", "1"}, tt.fields...)...))
		if !strings.Contains(faultsIn(a.body), tt.want) || a.status != 422 && a.status != 403 {
			t.Errorf("%s: %d %s", name, a.status, faultsIn(a.body))
		}
		if strings.Contains(a.body, script) {
			t.Errorf("%s: a script is not escaped", name)
		}
		if a.status != 422 {
			continue
		}
		inChinese := u.speaking("zh-CN").upload(campaignFields(append([]string{"strict", "1"}, tt.fields...)...))
		for fault := range strings.SplitSeq(faultsIn(inChinese.body), "\n") {
			if !hanText.MatchString(fault) {
				t.Errorf("%s: in Chinese %q", name, fault)
			}
		}
		for _, kept := range []string{`<option selected>` + testApp, `name="strict" value="1" checked`} {
			if !strings.Contains(a.body, kept) {
				t.Errorf("%s: the form has not kept %s", name, kept)
			}
		}
	}
}

// TestKeptTable: a table need not be uploaded again to correct another field, or to change a draft.
func TestKeptTable(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		u := newSite(t, rdb).as(oneAppKey)
		draftField := regexp.MustCompile(`name="draft" value="([^"]+)"`)
		a := u.upload(campaignFields("batch", "not a name"))
		kept := draftField.FindStringSubmatch(a.body)
		if kept == nil || !strings.Contains(a.body, "people.csv is uploaded") {
			t.Fatalf("%d\n%s", a.status, faultsIn(a.body))
		}
		path := u.uploaded("draft", kept[1], "table", "\n")
		if path != UploadPath+"/"+kept[1] || !strings.Contains(u.get(path).body, "Send 3 messages") {
			t.Errorf("%s of %s", path, kept[1])
		}
		form := u.get("/send?draft=" + kept[1]).body
		if !strings.Contains(form, `value="spring"`) || !strings.Contains(form, "people.csv is uploaded") || !strings.Contains(form, "template_id: T1") {
			t.Errorf("the form of a draft:\n%s", form)
		}
		if again := u.uploaded("draft", kept[1], "table", "\n", "batch", "summer"); again != path || !strings.Contains(u.get(path).body, "summer") {
			t.Error(again)
		}
		if a := u.post(path+"/check", nil); a.status != 303 || a.location != path {
			t.Errorf("checked again: %d", a.status)
		}
		if a := u.post(path+"/discard", nil); a.status != 303 || a.location != UploadPath {
			t.Errorf("discarded: %d", a.status)
		}
		for _, gone := range []string{path, "/send?draft=" + kept[1]} {
			if a := u.get(gone); a.status != 404 || !strings.Contains(a.body, "upload the table again") {
				t.Errorf("%s: %d", gone, a.status)
			}
		}
		a = u.upload(campaignFields("draft", kept[1], "table", "\n"))
		if a.status != 422 || !strings.Contains(a.body, "Choose it again") {
			t.Errorf("%d\n%s", a.status, faultsIn(a.body))
		}
	})
}

// TestSendScopes: what each kind of key may do with a campaign.
func TestSendScopes(t *testing.T) {
	_, rdb := redistest.Mini(t)
	s := newSite(t, rdb)
	reader, sender, all := s.as(readKey), s.as(oneAppKey), s.as(operateKey)
	path := sender.uploaded()
	other := all.upload(campaignFields("app", otherApp)).location
	for _, tt := range []struct {
		u    *user
		path string
		want int
		text string
	}{
		{reader, "/send", 403, "scope enqueue"},
		{reader, path, 200, "sign in with a key that has the scope enqueue"},
		{reader, path + "/report", 200, "not enqueued"},
		{reader, "/send?draft=" + strings.TrimPrefix(path, "/send/"), 403, "scope enqueue"},
		{sender, "/send", 200, "Check the table"},
		{sender, other, 403, "may not use the app"},
		{sender, other + "/report", 403, "may not use the app"},
		{sender, "/send?draft=" + strings.TrimPrefix(other, "/send/"), 403, "may not use the app"},
		{all, other, 200, "Send 3 messages"},
		{all, "/send/" + testApp + "/x", 404, "upload the table again"},
		{all, "/send/x/y", 404, "upload the table again"},
		{s.visitor(), path, 303, ""},
		{s.visitor(), path + "/report", 303, ""},
	} {
		if a := tt.u.get(tt.path); a.status != tt.want || !strings.Contains(a.body, tt.text) {
			t.Errorf("%s: %d, want %d\n%s", tt.path, a.status, tt.want, faultsIn(a.body))
		}
	}
	for _, action := range []string{"/confirm", "/check", "/discard"} {
		for _, u := range []*user{reader, sender} {
			of := map[*user]string{reader: path, sender: other}[u]
			if a := u.post(of+action, nil); a.status != 403 {
				t.Errorf("%s: %d", of+action, a.status)
			}
		}
		if a := sender.send("POST", path+action, map[string][]string{"token": {"x"}}); a.status != 403 {
			t.Errorf("%s without the token: %d", action, a.status)
		}
	}
	s.enqueued("spring", 0)
	page := reader.get(path).body
	if strings.Contains(page, "<form method=\"post\" action=\""+path) {
		t.Error("a key without the scope is shown a form")
	}
}

// TestScriptInCampaign: a name with markup is shown as text, also in the preview and as a column.
func TestScriptInCampaign(t *testing.T) {
	_, rdb := redistest.Mini(t)
	u := newSite(t, rdb).as(oneAppKey)
	path := u.uploaded("table", script+".csv\nopenid,name,"+script+"\no1,"+script+",y\no2,Zhang,z\no2,x,"+script+"\n")
	page := u.get(path).body
	if strings.Contains(page, script) || strings.Count(page, "&lt;script&gt;") < 3 {
		t.Error(page)
	}
}

// TestTooLarge: a form above its limit is refused.
func TestTooLarge(t *testing.T) {
	_, rdb := redistest.Mini(t)
	u := newSite(t, rdb).as(oneAppKey)
	row := strings.Repeat("o,Zhang\n", 1<<10)
	if a := u.upload(campaignFields("table", "people.csv\nopenid,name\n"+strings.Repeat(row, maxTable/len(row)+8))); a.status != 422 || !strings.Contains(a.body, "larger than 32 MB") {
		t.Errorf("a table of more than 32 MB: %d\n%s", a.status, faultsIn(a.body))
	}
	if a := u.upload(campaignFields("table", "people.csv\nopenid,name\n"+strings.Repeat(row, MaxUpload/len(row)+8))); a.status != 400 || !strings.Contains(a.body, "cannot be read") {
		t.Errorf("a form of more than its limit: %d\n%s", a.status, faultsIn(a.body))
	}
	if keys, err := rdb.Keys(t.Context(), "*draft*").Result(); err != nil || len(keys) > 0 {
		t.Errorf("%v, %v", keys, err)
	}
}

// TestExamples: the template of each type is one, in both languages, for the table that it needs.
func TestExamples(t *testing.T) {
	cells := map[string]string{
		"openid": "oPerson", "姓名": "张三", "name": "Zhang", "订单号": "A-1", "order": "A-1", "金额": "3.50元", "amount": "3.50元",
		"图片": "https://example.com/a.png", "image": "https://example.com/a.png", "内容": "您好", "text": "hello",
	}
	for _, typ := range tasks.Types() {
		for _, lang := range languages() {
			template, err := campaign.ParseTemplate([]byte(exampleOf(typ, lang)))
			if err != nil {
				t.Errorf("%s: %v", typ, err)
				continue
			}
			var row []string
			for _, name := range template.Columns() {
				row = append(row, cells[name])
				if cells[name] == "" || lang == english && len(name) != len([]rune(name)) {
					t.Errorf("%s in %s: the column %s", typ, lang, name)
				}
			}
			content := []byte(strings.Join(template.Columns(), ",") + "\n" + strings.Join(row, ",") + "\n")
			people, err := table.Open(bytes.NewReader(content), int64(len(content)), "people.csv")
			if err != nil {
				t.Fatal(err)
			}
			plan, err := campaign.Plan{App: testApp, Type: typ, Batch: "b", Table: people, Template: template}.Complete()
			if err != nil {
				t.Fatal(err)
			}
			checked, err := campaign.Check(t.Context(), plan, time.Now())
			if err != nil || checked.Valid != 1 {
				t.Errorf("%s in %s: %+v, %v", typ, lang, checked, err)
			}
		}
	}
}

// blockingHook stops the second chunk of a campaign until its context ends or it is released.
type blockingHook struct {
	once    sync.Once
	chunks  int
	reached chan struct{} // closed when the second chunk begins
	release chan struct{}
}

func newBlockingHook() *blockingHook {
	return &blockingHook{reached: make(chan struct{}), release: make(chan struct{})}
}

func (*blockingHook) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*blockingHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h *blockingHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if args := cmd.Args(); len(args) > 1 && cmd.Name() == "set" && strings.HasSuffix(fmt.Sprint(args[1]), ":unsure") {
				if h.chunks++; h.chunks == 2 {
					h.once.Do(func() { close(h.reached) })
					select {
					case <-ctx.Done():
						return ctx.Err()
					case <-h.release:
					}
				}
			}
		}
		return next(ctx, cmds)
	}
}

// TestContinued: another gateway continues what one that shut down, or was killed, has begun, and what
// a revoked key had begun. Each person gets one message.
func TestContinued(t *testing.T) {
	const rows = 1100 // a whole chunk and a part of one
	for name, tt := range map[string]struct {
		stop func(t *testing.T, one *site, hook *blockingHook)
		text string
	}{
		"shut down": {func(_ *testing.T, one *site, _ *blockingHook) { one.console.Drain() }, "The gateway that sent it has stopped"},
		"killed": {func(t *testing.T, one *site, _ *blockingHook) { // its lock ends, and it goes on too late
			if err := one.Redis.Del(t.Context(), "wxcourier:{"+testApp+"}:campaign_lock:spring").Err(); err != nil {
				t.Fatal(err)
			}
		}, "The gateway that sent it has stopped"},
		"revoked": {func(t *testing.T, one *site, _ *blockingHook) {
			if err := apikey.Revoke(one.file, []string{oneAppKey}); err != nil {
				t.Fatal(err)
			}
			if err := one.Keys.Load(); err != nil {
				t.Fatal(err)
			}
		}, "The key that began the sending was revoked"},
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			rdb, blocked := server.Client(t), server.Client(t)
			hook := newBlockingHook()
			blocked.AddHook(hook)
			one, two := newSite(t, blocked), newSite(t, rdb)
			u, v := one.as(oneAppKey), two.as(oneAppKey)
			path := u.uploaded("table", "people.csv\n"+people(rows))
			if a := u.post(path+"/confirm", nil); a.status != 303 {
				t.Fatalf("%d\n%s", a.status, faultsIn(a.body))
			}
			<-hook.reached
			if page := v.get(path).body; !strings.Contains(page, ">Sending<") || strings.Contains(page, path+"/confirm") {
				t.Errorf("while it is sent:\n%s", page)
			}
			if a := v.post(path+"/confirm", nil); a.status != 409 || !strings.Contains(a.body, "being sent at the moment") {
				t.Errorf("while it is sent: %d", a.status)
			}
			tt.stop(t, one, hook)
			v.until(path, tt.text, "Continue")
			if name == "revoked" {
				if a := u.get(path); a.status != 303 || !strings.HasPrefix(a.location, "/signin") {
					t.Errorf("with the revoked key: %d", a.status)
				}
			}
			if a := v.post(path+"/confirm", nil); a.status != 303 {
				t.Fatalf("continued: %d\n%s", a.status, faultsIn(a.body))
			}
			v.until(path, "All rows are enqueued", "1,100 of 1,100 rows enqueued", "1,000 rows earlier")
			close(hook.release)
			one.console.Close()
			two.enqueued("spring", rows)
			v.until(path, "All rows are enqueued") // also after the first one
		})
	}
}

// TestChangedTable: a batch continues with another table only if that is accepted.
func TestChangedTable(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newSite(t, rdb)
		u := s.as(oneAppKey)
		first := u.uploaded()
		u.post(first+"/confirm", nil)
		u.until(first, "All rows are enqueued")
		second := u.uploaded("table", "people.csv\n"+people(5))
		if page := u.get(second).body; !strings.Contains(page, "Send 2 messages") || !strings.Contains(page, "The table is not the one with which this batch began") {
			t.Errorf("%s", faultsIn(page))
		}
		if a := u.post(second+"/confirm", nil); a.status != 409 || !strings.Contains(a.body, "accept the change") {
			t.Errorf("not accepted: %d", a.status)
		}
		s.enqueued("spring", 3)
		if a := u.post(second+"/confirm", map[string][]string{"accept_change": {"1"}}); a.status != 303 {
			t.Errorf("accepted: %d\n%s", a.status, faultsIn(a.body))
		}
		u.until(second, "All rows are enqueued")
		s.enqueued("spring", 5)
		third := u.uploaded("batch", "summer", "strict", "1", "table", "people.csv\n"+people(2)+",x\n")
		if page := u.get(third).body; !strings.Contains(page, "you chose to send nothing then") {
			t.Errorf("strict: %s", faultsIn(page))
		}
		if a := u.post(third+"/confirm", nil); a.status != 409 {
			t.Errorf("strict: %d", a.status)
		}
	})
}
