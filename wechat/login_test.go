package wechat_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/wechat"
)

const (
	loginApp    = "wx0123456789abcdef"
	loginSecret = "0123456789abcdef0123456789abcdef"
)

// loginRig is a client of a sandbox over HTTP, which keeps its tokens in a miniredis.
type loginRig struct {
	*wechat.Client
	sandbox *sandbox.Server
	store   *miniredis.Miniredis
	log     *bytes.Buffer
	mu      sync.Mutex
	answers []string // the bodies of the sandbox's answers, guarded by mu
}

func newLoginRig(t *testing.T) *loginRig {
	t.Helper()
	r := &loginRig{sandbox: sandbox.New(sandbox.Options{Apps: map[string]string{loginApp: loginSecret}}), store: miniredis.RunT(t), log: &bytes.Buffer{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		recorder := httptest.NewRecorder()
		r.sandbox.ServeHTTP(recorder, req)
		r.mu.Lock()
		r.answers = append(r.answers, recorder.Body.String())
		r.mu.Unlock()
		w.WriteHeader(recorder.Code)
		_, _ = w.Write(recorder.Body.Bytes())
	}))
	rdb := redis.NewClient(&redis.Options{Addr: r.store.Addr()})
	cfg := wechat.DefaultConfig()
	cfg.BaseURL = server.URL
	tokens := wechat.NewTokens(cfg, rdb, func(app string) (wechat.Credential, bool) {
		return wechat.Credential{App: app, Secret: loginSecret}, app == loginApp
	}, wechat.WithLogger(slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	r.Client = wechat.NewClient(cfg, tokens)
	t.Cleanup(func() {
		r.CloseIdle()
		server.Close()
		tokens.Close()
		_ = rdb.Close()
	})
	return r
}

// wantCode fails the test unless err is an APIError with the code.
func wantCode(t *testing.T, err error, code int, class wechat.Class) {
	t.Helper()
	var apiErr *wechat.APIError
	if !errors.As(err, &apiErr) || apiErr.Code != code || apiErr.Class() != class {
		t.Errorf("%v, want errcode %d of class %s", err, code, class)
	}
}

func TestCode2Session(t *testing.T) {
	r := newLoginRig(t)
	session, err := r.Code2Session(t.Context(), loginApp, "0a3Kfp1w3XYZ")
	if err != nil || len(session.Key.Reveal()) != 24 || len(session.OpenID.Reveal()) != 28 || session.UnionID != "" {
		t.Fatalf("%d %d %v", len(session.Key.Reveal()), len(session.OpenID.Reveal()), err)
	}
	if n := r.sandbox.Count(sandbox.Filter{Path: string(wechat.EndpointStableToken)}); n != 0 {
		t.Errorf("%d calls for a token; a login needs none", n)
	}
	_, err = r.Code2Session(t.Context(), loginApp, "0a3Kfp1w3XYZ")
	wantCode(t, err, 40163, wechat.ClassRejected)
	for code, want := range map[string]int{"": 41008, "a b": 40029} {
		_, err = r.Code2Session(t.Context(), loginApp, code)
		wantCode(t, err, want, wechat.ClassRejected)
	}
	for code, class := range map[int]wechat.Class{
		-1: wechat.ClassBusy, 40226: wechat.ClassRefused, 45011: wechat.ClassPerUser, 40125: wechat.ClassConfig,
	} {
		if _, err := r.sandbox.AddFault(sandbox.Fault{ErrCode: code, Path: string(wechat.EndpointSession), Count: 1}); err != nil {
			t.Fatal(err)
		}
		_, err = r.Code2Session(t.Context(), loginApp, fmt.Sprint("code", code))
		wantCode(t, err, code, class)
		if strings.Contains(fmt.Sprint(err), loginSecret) {
			t.Errorf("the secret is in: %v", err)
		}
	}
	if _, err := r.Code2Session(t.Context(), "wxffffffffffffffff", "c"); !errors.Is(err, wechat.ErrNoCredentials) || wechat.Written(err) {
		t.Errorf("an app without a credential: %v", err)
	}
	if _, err := r.Code2Session(t.Context(), loginApp, "lost-c1"); err == nil || !wechat.Written(err) {
		t.Errorf("no answer: %v, want an error after which the code may be used", err)
	}
}

// A token source that knows no credentials cannot log in, and an incomplete answer is no session.
func TestCode2SessionWithoutSession(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"openid":"oPerson"}`)
	}))
	defer server.Close()
	cfg := wechat.DefaultConfig()
	cfg.BaseURL = server.URL
	client := wechat.NewClient(cfg, noCredentials{})
	defer client.CloseIdle()
	if _, err := client.Code2Session(t.Context(), loginApp, "c"); !errors.Is(err, wechat.ErrNoCredentials) {
		t.Errorf("no credentials: %v", err)
	}
	client = wechat.NewClient(cfg, someCredentials{})
	defer client.CloseIdle()
	var answerErr *wechat.AnswerError
	if _, err := client.Code2Session(t.Context(), loginApp, "c"); !errors.As(err, &answerErr) || strings.Contains(err.Error(), "oPerson") {
		t.Errorf("no session_key: %v", err)
	}
}

type noCredentials struct{}

func (noCredentials) Token(context.Context, string) (wechat.Token, error) {
	return wechat.Token{Value: "T"}, nil
}

func (noCredentials) Renew(context.Context, string, wechat.Token) (wechat.Token, error) {
	return wechat.Token{}, wechat.ErrTokenRejected
}

type someCredentials struct{ noCredentials }

func (someCredentials) Credential(app string) (wechat.Credential, bool) {
	return wechat.Credential{App: app, Secret: loginSecret}, true
}

func TestPhoneNumber(t *testing.T) {
	r := newLoginRig(t)
	phone, err := r.PhoneNumber(t.Context(), loginApp, "c1")
	if err != nil || len(phone.Number.Reveal()) != 11 || phone.PureNumber != phone.Number || phone.CountryCode != "86" ||
		time.Since(phone.Time).Abs() > time.Minute {
		t.Fatalf("%+v %v", phone, err)
	}
	_, err = r.PhoneNumber(t.Context(), loginApp, "c1")
	wantCode(t, err, 40029, wechat.ClassRejected)
	_, err = r.PhoneNumber(t.Context(), loginApp, "")
	wantCode(t, err, 41008, wechat.ClassRejected)
	for code, class := range map[int]wechat.Class{-1: wechat.ClassBusy, 40013: wechat.ClassRejected, 45011: wechat.ClassRateMinute} {
		if _, err := r.sandbox.AddFault(sandbox.Fault{ErrCode: code, Path: string(wechat.EndpointPhone), Count: 1}); err != nil {
			t.Fatal(err)
		}
		_, err = r.PhoneNumber(t.Context(), loginApp, fmt.Sprint("code", code))
		wantCode(t, err, code, class)
	}
	// A refused token is renewed, and the code is still good.
	r.sandbox.Revoke(loginApp)
	if _, err := r.PhoneNumber(t.Context(), loginApp, "c2"); err != nil {
		t.Errorf("after a refused token: %v", err)
	}
}

func TestAnalysis(t *testing.T) {
	r := newLoginRig(t)
	yesterday := time.Now().AddDate(0, 0, -1)
	trend, err := r.DailyVisitTrend(t.Context(), loginApp, yesterday)
	if err != nil || len(trend) != 1 {
		t.Fatalf("%+v %v", trend, err)
	}
	day := yesterday.In(time.FixedZone("", 8*3600)).Format("20060102")
	if got := trend[0]; got.Date != day || got.PageViews != 3*got.Sessions || got.Visitors < 100 || got.NewVisitors != got.Visitors/10 ||
		got.StayVisitor != 112500*time.Millisecond || got.StaySession != 90*time.Second || got.PagesVisited != 2.5 {
		t.Errorf("%+v", got)
	}
	_, err = r.DailyVisitTrend(t.Context(), loginApp, time.Now().AddDate(0, 0, 2))
	wantCode(t, err, 61501, wechat.ClassRejected)

	portrait, err := r.UserPortrait(t.Context(), loginApp, yesterday.AddDate(0, 0, -6), yesterday)
	if err != nil || !strings.HasSuffix(portrait.Dates, "-"+day) || len(portrait.Visitors.Genders) != 3 || len(portrait.NewVisitors.Ages) != 4 {
		t.Fatalf("%+v %v", portrait, err)
	}
	if got := portrait.Visitors.Provinces[0]; got.ID != 1 || got.Name != "广东" || got.Visitors <= 0 {
		t.Errorf("%+v", got)
	}
	_, err = r.UserPortrait(t.Context(), loginApp, yesterday.AddDate(0, 0, -3), yesterday)
	wantCode(t, err, 61501, wechat.ClassRejected)
	for code, class := range map[int]wechat.Class{61504: wechat.ClassBusy, 61500: wechat.ClassRejected, -1: wechat.ClassBusy} {
		for _, path := range []wechat.Endpoint{wechat.EndpointVisitTrend, wechat.EndpointUserPortrait} {
			if _, err := r.sandbox.AddFault(sandbox.Fault{ErrCode: code, Path: string(path), Count: 1}); err != nil {
				t.Fatal(err)
			}
		}
		_, err = r.DailyVisitTrend(t.Context(), loginApp, yesterday)
		wantCode(t, err, code, class)
		_, err = r.UserPortrait(t.Context(), loginApp, yesterday, yesterday)
		wantCode(t, err, code, class)
	}
}

func TestLive(t *testing.T) {
	r := newLoginRig(t)
	rooms, err := r.LiveRooms(t.Context(), loginApp, 0, 2)
	if err != nil || rooms.Total != 3 || len(rooms.Rooms) != 2 {
		t.Fatalf("%+v %v", rooms, err)
	}
	room := rooms.Rooms[0]
	if room.ID != 1 || room.Status != wechat.LiveEnded || room.Name != "直播间" || room.Anchor != "主播" || room.End.Sub(room.Start) != 2*time.Hour || room.CoverImage == "" {
		t.Errorf("%+v", room)
	}
	if rooms, err := r.LiveRooms(t.Context(), loginApp, 3, 2); err != nil || len(rooms.Rooms) != 0 { // 9410000
		t.Errorf("past the last room: %+v %v", rooms, err)
	}
	_, err = r.LiveRooms(t.Context(), loginApp, 0, 0)
	wantCode(t, err, 40097, wechat.ClassRejected)

	replays, err := r.LiveReplays(t.Context(), loginApp, room.ID, 0, 10)
	if err != nil || replays.Total != 1 || len(replays.Replays) != 1 {
		t.Fatalf("%+v %v", replays, err)
	}
	if got := replays.Replays[0]; got.URL == "" || !got.Created.Equal(room.End) || !got.Expires.Equal(room.End.UTC().AddDate(0, 1, 0)) {
		t.Errorf("%+v", got)
	}
	if _, err := r.sandbox.AddFault(sandbox.Fault{ErrCode: 1007, Path: string(wechat.EndpointLive), Count: 1}); err != nil {
		t.Fatal(err)
	}
	if replays, err := r.LiveReplays(t.Context(), loginApp, 2, 0, 10); err != nil || len(replays.Replays) != 0 {
		t.Errorf("no data: %+v %v", replays, err)
	}
	_, err = r.LiveReplays(t.Context(), loginApp, 99, 0, 10)
	wantCode(t, err, 40097, wechat.ClassRejected)
}

func TestCallInfo(t *testing.T) {
	r := newLoginRig(t)
	const openid = "oPersonOfTheRid"
	body := `{"touser":"` + openid + `","template_id":"","data":{}}`
	_, err := r.Call(t.Context(), loginApp, wechat.Request{Path: wechat.EndpointSubscribe, Body: []byte(body)})
	var refused *wechat.APIError
	if !errors.As(err, &refused) || refused.RID == "" {
		t.Fatal(err)
	}
	info, err := r.CallInfo(t.Context(), loginApp, refused.RID)
	if err != nil || info.Request.Reveal() != body || !strings.Contains(info.Response.Reveal(), fmt.Sprint(refused.Code)) ||
		!strings.HasPrefix(info.URL, string(wechat.EndpointSubscribe)) || info.ClientIP != "127.0.0.1" || time.Since(info.Time).Abs() > time.Minute {
		t.Errorf("%+v %v", info, err)
	}
	if text := fmt.Sprintf("%+v", info); strings.Contains(text, openid) {
		t.Errorf("the receiver is in: %s", text)
	}
	old := fmt.Sprintf("%08x-00000000-00000000", time.Now().AddDate(0, 0, -8).Unix())
	unknown := fmt.Sprintf("%08x-00000000-00000000", time.Now().Unix())
	for rid, want := range map[string]int{"": 76002, "nonsense": 76002, unknown: 76001, old: 76004} {
		_, err := r.CallInfo(t.Context(), loginApp, rid)
		wantCode(t, err, want, wechat.ClassRejected)
	}
}

// What the calls learn about a person is not stored, not logged, and not printed with its type.
func TestPersonalDataStaysWithTheCaller(t *testing.T) {
	r := newLoginRig(t)
	session, err := r.Code2Session(t.Context(), loginApp, "codeOfALogin")
	if err != nil {
		t.Fatal(err)
	}
	phone, err := r.PhoneNumber(t.Context(), loginApp, "codeOfAPhone")
	if err != nil {
		t.Fatal(err)
	}
	data, err := wechat.DecryptUserData(sampleKey, sampleData, sampleIV, sampleApp)
	if err != nil {
		t.Fatal(err)
	}
	var printed bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&printed, nil))
	for _, v := range []any{session, phone, data} {
		_, _ = fmt.Fprintf(&printed, "%v %+v %#v %s %x", v, v, v, v, v)
		log.Info("got", "v", v)
		if err := json.NewEncoder(&printed).Encode(v); err != nil {
			t.Fatal(err)
		}
	}
	for _, code := range []string{"codeOfALogin", "codeOfAPhone"} { // used: their errors
		_, sessionErr := r.Code2Session(t.Context(), loginApp, code)
		_, phoneErr := r.PhoneNumber(t.Context(), loginApp, code)
		_, _ = fmt.Fprintln(&printed, sessionErr, phoneErr)
	}
	private := []string{
		session.Key.Reveal(), session.OpenID.Reveal(), phone.Number.Reveal(), "oGZUI0egBJY1zhBYw2KhdUfwVJJE", loginSecret,
		"codeOfALogin", "codeOfAPhone",
	}
	r.mu.Lock()
	answers := strings.Join(r.answers, "")
	r.mu.Unlock()
	for _, known := range private[:3] {
		if !strings.Contains(answers, known) {
			t.Fatalf("the sandbox did not answer %q", known)
		}
	}
	for _, value := range private {
		for where, text := range map[string]string{"print": printed.String(), "log": r.log.String(), "Redis": r.store.Dump()} {
			if strings.Contains(text, value) || strings.Contains(text, fmt.Sprintf("%x", value)) {
				t.Errorf("%s has %q", where, value)
			}
		}
	}
}
