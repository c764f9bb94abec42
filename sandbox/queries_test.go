package sandbox

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestRequestIDs(t *testing.T) {
	clock := newClock()
	s := New(Options{Clock: clock.Now})
	const body = `{"touser":"","template_id":"T"}`
	refused := post(t, s, pathTemplate, body)
	_, rid, _ := strings.Cut(refused.ErrMsg, " rid: ")
	query := func(rid string) (answer, ridFigures) {
		t.Helper()
		a := post(t, s, pathRID, `{"rid":"`+rid+`"}`)
		var got struct {
			Request ridFigures `json:"request"`
		}
		if err := json.Unmarshal([]byte(a.raw), &got); err != nil {
			t.Fatal(err)
		}
		return a, got.Request
	}
	a, got := query(rid)
	if a.ErrCode != 0 || got.InvokeTime != clock.Now().Unix() || got.RequestBody != body || got.ResponseBody != refused.raw || got.ClientIP == "" || !strings.Contains(got.RequestURL, pathTemplate) {
		t.Errorf("%s: %+v", rid, got)
	}
	if strings.Contains(a.raw, stableToken(t, s)) {
		t.Error("the token is in the answer")
	}
	const unknown = "-00000000-00000001"
	for rid, code := range map[string]int{"": 76002, "x": 76002, rid[:8] + unknown: 76001, "00000001" + unknown: 76004} {
		if a, _ := query(rid); a.ErrCode != code {
			t.Errorf("rid %q: %s, want %d", rid, a.raw, code)
		}
	}
	clock.move(ridLife + time.Second)
	if a, _ := query(rid); a.ErrCode != 76004 {
		t.Errorf("a rid of last week: %s", a.raw)
	}
	elsewhere := postAs(t, s, "wxffffffffffffffff", pathTemplate, body)
	_, rid, _ = strings.Cut(elsewhere.ErrMsg, " rid: ")
	if a, _ := query(rid); a.ErrCode != 76003 {
		t.Errorf("a rid of another app: %s", a.raw)
	}
}

// postAs calls an endpoint as the given app.
func postAs(t *testing.T, s *Server, app, path, body string) answer {
	t.Helper()
	token := do(t, s, "POST", pathStableToken, `{"grant_type":"client_credential","appid":"`+app+`","secret":"x"}`).Token
	return do(t, s, s.rows[path].method, path+"?access_token="+token, body)
}

func TestTemplateList(t *testing.T) {
	s := New(Options{})
	list := func(app string) (ids []string) {
		t.Helper()
		a := postAs(t, s, app, pathTemplates, "")
		var got struct {
			Data []privateTemplate `json:"data"`
		}
		if err := json.Unmarshal([]byte(a.raw), &got); err != nil || a.ErrCode != 0 || !strings.Contains(a.raw, `"errcode":0`) {
			t.Fatalf("%s: %v", a.raw, err)
		}
		for _, tmpl := range got.Data {
			if !strings.Contains(tmpl.Content, ".DATA}}") || tmpl.Type < 2 || tmpl.Type > 3 || len(tmpl.ID) != 43 {
				t.Errorf("%+v", tmpl)
			}
			ids = append(ids, tmpl.ID)
		}
		return ids
	}
	mine, others := list(testApp), list("wxffffffffffffffff")
	if len(mine) != 2 || mine[0] == mine[1] || mine[0] == others[0] {
		t.Errorf("%v, of another app %v", mine, others)
	}
	if got := list(testApp); got[0] != mine[0] || got[1] != mine[1] {
		t.Errorf("second list: %v, want %v", got, mine)
	}
}

func TestInvalidDatacubeAndLiveRequests(t *testing.T) {
	clock := newClock() // 1 December 2026
	for body, want := range map[string]struct{ trend, portrait int }{
		`{"begin_date":"20261130","end_date":"20261130"}`:   {0, 0},
		`{"begin_date":"20261201","end_date":"20261201"}`:   {61501, 61501},
		`{"begin_date":"20261129","end_date":"20261130"}`:   {61501, 61501},
		`{"begin_date":"20261124","end_date":"20261130"}`:   {61501, 0},
		`{"begin_date":"20261101","end_date":"20261130"}`:   {61501, 0},
		`{"begin_date":"20261130","end_date":"20261101"}`:   {61501, 61501},
		`{"begin_date":"2026-11-30","end_date":"20261130"}`: {61500, 61500},
		`{"begin_date":"20261130"}`:                         {61500, 61500},
		`{"begin_date":20261130,"end_date":20261130}`:       {47001, 47001},
	} {
		s := New(Options{Clock: clock.Now})
		if a := post(t, s, pathVisitTrend, body); a.ErrCode != want.trend {
			t.Errorf("trend %s: %s, want %d", body, a.raw, want.trend)
		}
		if a := post(t, s, pathPortrait, body); a.ErrCode != want.portrait {
			t.Errorf("portrait %s: %s, want %d", body, a.raw, want.portrait)
		}
	}
	for body, want := range map[string]struct {
		code int
		has  string
	}{
		`{"start":0}`:                                             {47001, ""},
		`{"limit":1}`:                                             {47001, ""},
		`{"start":-1,"limit":1}`:                                  {40097, ""},
		`{"start":0,"limit":0}`:                                   {40097, ""},
		`{"start":3,"limit":1}`:                                   {9410000, ""},
		`{"start":2,"limit":9223372036854775807}`:                 {0, `"live_status":102`},
		`{"start":0,"limit":1}`:                                   {0, `"total":3,"room_info":[{"name":"直播间","roomid":1,`},
		`{"start":0,"limit":1,"action":"x"}`:                      {40097, ""},
		`{"start":0,"limit":1,"action":"get_replay"}`:             {40097, ""},
		`{"start":0,"limit":1,"action":"get_replay","room_id":4}`: {40097, ""},
		`{"start":0,"limit":1,"action":"get_replay","room_id":2}`: {0, `"total":0,"live_replay":[]`},
		`{"start":1,"limit":1,"action":"get_replay","room_id":1}`: {0, `"total":0,"live_replay":[]`},
		`{"start":0,"limit":1,"action":"get_replay","room_id":1}`: {0, `"media_url":"https://`},
	} {
		if a := post(t, New(Options{Clock: clock.Now}), pathLive, body); a.ErrCode != want.code || !strings.Contains(a.raw, want.has) {
			t.Errorf("live %s: %s, want %d %s", body, a.raw, want.code, want.has)
		}
	}
}
