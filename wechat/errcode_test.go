package wechat

import (
	"net/url"
	"strings"
	"testing"
)

func TestCodeTable(t *testing.T) {
	type key struct {
		ep   Endpoint
		code int
	}
	seen := make(map[key]bool)
	defaults := make(map[int]bool)
	for _, row := range Codes() {
		if seen[key{row.Endpoint, row.Code}] {
			t.Errorf("%s %d: two rows", row.Endpoint, row.Code)
		}
		seen[key{row.Endpoint, row.Code}] = true
		if row.Endpoint == "" {
			defaults[row.Code] = true
		}
		if got := Classify(row.Endpoint, row.Code); got != row.Class || got == ClassUnlisted {
			t.Errorf("Classify(%q, %d) = %v, the row has %v", row.Endpoint, row.Code, got, row.Class)
		}
		if row.Meaning == "" || strings.ContainsAny(row.Meaning, "|\n") {
			t.Errorf("%s %d: meaning %q does not fit a table", row.Endpoint, row.Code, row.Meaning)
		}
		if row.Chinese == "" || strings.ContainsAny(row.Chinese, "|\n") {
			t.Errorf("%s %d: Chinese meaning %q does not fit a table", row.Endpoint, row.Code, row.Chinese)
		}
		if got, listed := LookUp(row.Endpoint, row.Code); !listed || got != row {
			t.Errorf("LookUp(%q, %d) = %+v, %v", row.Endpoint, row.Code, got, listed)
		}
		page, err := url.Parse(row.Source)
		official := err == nil && page.Host == "developers.weixin.qq.com"
		if !official && !strings.HasPrefix(row.Source, "SDK enum: ") && !strings.HasPrefix(row.Source, "user reports: ") {
			t.Errorf("%s %d: source %q", row.Endpoint, row.Code, row.Source)
		}
	}
	for _, row := range Codes() {
		if !defaults[row.Code] {
			t.Errorf("%s %d: the code has no default row", row.Endpoint, row.Code)
		}
	}
}

func TestClassify(t *testing.T) {
	tests := []struct {
		ep    Endpoint
		want  Class
		codes []int
	}{
		{"", ClassOK, []int{0}},
		{"", ClassToken, []int{40001, 40014, 42001}},
		{"", ClassBusy, []int{-1, 61504, 85431, 85449}},
		{"", ClassRateSecond, []int{44990}},
		{"", ClassRateMinute, []int{45011, 44991}},
		{"", ClassQuotaDay, []int{45009, 44993, 85406}},
		{"", ClassPerUser, []int{43108}},
		{"", ClassPerUserLong, []int{43117}},
		{"", ClassConfig, []int{
			40164, 61004, 45035, 40090, 40125, 40243, 41002, 41004, 50004, 50007,
			89501, 89502, 89503, 89504, 89505, 89506, 89507,
			40230, 40231, 40232, 40233, 40234, 40235, 40236, 40237, 40238, 40239,
		}},
		{"", ClassAccount, []int{48001, 48004, 50001, 50002, 85079, 85407, 85408, 43104, 61017, 61028, 42005, 41033}},
		{"", ClassUnauthorized, []int{61003, 61023}},
		{EndpointAuthorizerToken, ClassUnauthorized, []int{61003, 61007, 61023, 42007}},
		{"", ClassTemplate, []int{43107, 43116, 40249}},
		{"", ClassRefused, []int{43101, 43004, 43019, 48002, 45015, 45047, 70000, 40226}},
		{"", ClassRejected, []int{
			40003, 40037, 47003, 45168, 45002, 45008, 41030, 40165, 40212, 40159, 40169, 40129, 40097, 40225, 40066,
			61010, 87020, 40029, 40163, 45029, 85400, 85401, 85402, 85403, 85405, 41001, 43001, 43002, 43003, 44002, 47001,
			47002, 41009, 45166, 40101, 41011, 45021,
		}},
		{"", ClassRetired, []int{45109, 45103, 46101}},
		{"", ClassRisky, []int{87014}},
		{"", ClassUnlisted, []int{1, 99999, -2}},

		// A code with different meanings on different endpoints.
		{EndpointToken, ClassConfig, []int{40001, 40002, 40013, 40125, 40164, 40243, 41002, 41004, 50004, 50007, 89503}},
		{EndpointStableToken, ClassConfig, []int{40001, 40002, 40013, 40125, 40164, 41002, 41004, 43002, 89503, 89506, 89507}},
		{EndpointStableToken, ClassQuotaDay, []int{45009}},
		{EndpointStableToken, ClassRateMinute, []int{45011}},
		{EndpointSubscribe, ClassToken, []int{40001, 40014, 42001}},
		{EndpointScheme, ClassAccount, []int{40002, 40013, 85407, 85408}},
		{EndpointURLLink, ClassAccount, []int{40002, 40013, 85407, 85408}},
		{EndpointURLLink, ClassRejected, []int{85088}},
		{EndpointTemplate, ClassRejected, []int{40013}},
		{EndpointTemplate, ClassBusy, []int{43100}},
		{EndpointUnlimitedCode, ClassRateMinute, []int{45009}},
		{EndpointUnlimitedCode, ClassRejected, []int{40129, 40169, 41030, 40097}},
		{EndpointCode, ClassQuotaDay, []int{45009}},
		{EndpointCode, ClassRejected, []int{45029}},
		{EndpointQRCode, ClassRejected, []int{45029, 40159}},
		{EndpointShortLink, ClassQuotaDay, []int{45009}},
		{EndpointShortLink, ClassAccount, []int{43104}},
		{EndpointTextCheck, ClassRejected, []int{40129, 43104}},
		{EndpointTextCheck, ClassRefused, []int{61010}},
		{EndpointImageCheck, ClassRisky, []int{87014}},
		{EndpointUniform, ClassRetired, []int{45109, 45103, 46101}},
		{EndpointUniform, ClassRejected, []int{41031, 41032, 41033, 41034, 41035}},
		{EndpointMediaCheck, ClassRejected, []int{43104}},
		{EndpointSubscribe, ClassAccount, []int{43104}},

		// Codes that occur on one kind of endpoint only.
		{EndpointUnlimitedCode, ClassAccount, []int{45063}},
		{EndpointCode, ClassAccount, []int{45063}},
		{EndpointQRCode, ClassAccount, []int{45063}},
		{EndpointUnlimitedCode, ClassRejected, []int{40184, 40189}},
		{EndpointCode, ClassRejected, []int{40184, 40189}},
		{EndpointQRCode, ClassRejected, []int{40184, 40189}},
		{EndpointImageCheck, ClassRejected, []int{41005, 40006, 40137, 40009, 40005, 44001, 45001}},
		{EndpointCustom, ClassAccount, []int{45087, 45094, 45501, 45093}},
		{EndpointCustom, ClassRejected, []int{
			41006, 46001, 40118, 40121, 40128, 45003, 45004, 45005, 45006, 45050, 45086, 45098, 45099, 40155, 61451, 61452, 65401,
		}},
		{EndpointCustom, ClassRefused, []int{45037}},
		{EndpointTemplate, ClassRejected, []int{40166, 40034, 40035, 40038, 45012, 45013, 45014, 45051}},
		{EndpointToken, ClassConfig, []int{40090}},
		{EndpointStableToken, ClassConfig, []int{40090}},
	}
	for _, tt := range tests {
		for _, code := range tt.codes {
			if got := Classify(tt.ep, code); got != tt.want {
				t.Errorf("Classify(%q, %d) = %v, want %v", tt.ep, code, got, tt.want)
			}
		}
	}
}

func TestClassOfMessage(t *testing.T) {
	tests := []struct {
		ep   Endpoint
		code int
		msg  string
		want Class
	}{
		{EndpointSubscribe, 45009, "reach max api daily quota limit", ClassQuotaDay},
		{EndpointSubscribe, 45009, "reach max api minute quota limit", ClassRateMinute},
		{EndpointScheme, 44993, "more than 100 per second", ClassRateSecond},
		{EndpointUnlimitedCode, 45009, "reach max api daily quota limit", ClassRateMinute}, // the errmsg never lengthens the window
		{EndpointSubscribe, 43101, "just a minute", ClassRefused},
	}
	for _, tt := range tests {
		if got := (&APIError{Endpoint: tt.ep, Code: tt.code, Msg: tt.msg}).Class(); got != tt.want {
			t.Errorf("%s %d %q: %v, want %v", tt.ep, tt.code, tt.msg, got, tt.want)
		}
	}
}

// There is advice for each code that stops an app or an API, and for no other.
func TestAdviceOfCodes(t *testing.T) {
	for _, row := range Codes() {
		stops := row.Class == ClassConfig || row.Class == ClassAccount || row.Class == ClassUnauthorized
		if got := Advice(&APIError{Endpoint: row.Endpoint, Code: row.Code}); (got != "") != stops {
			t.Errorf("%s %d, of class %s: advice %q", row.Endpoint, row.Code, row.Class, got)
		}
	}
	for code := range configAdvice {
		if got := Classify(EndpointToken, code); got != ClassConfig {
			t.Errorf("configAdvice has %d, whose class is %s", code, got)
		}
	}
	for code := range accountAdvice {
		if got := Classify("", code); got != ClassAccount {
			t.Errorf("accountAdvice has %d, whose class is %s", code, got)
		}
	}
	if got := Advice(&APIError{Endpoint: EndpointToken, Code: 40090}); got != adviceIP {
		t.Errorf("advice about 40090: %q", got)
	}
	if got := Advice(&APIError{Endpoint: EndpointCode, Code: 45063}); !strings.Contains(got, "mini program") {
		t.Errorf("advice about 45063: %q", got)
	}
}

func TestClassLabels(t *testing.T) {
	seen := make(map[string]bool)
	for _, c := range Classes() {
		if label := c.String(); label == "" || seen[label] {
			t.Errorf("class %d: label %q is empty or taken", c, label)
		}
		seen[c.String()] = true
	}
	if got := Class(200).String(); got != "unlisted" {
		t.Errorf("an undefined class is %q", got)
	}
}

func TestWriteCodeTable(t *testing.T) {
	var b strings.Builder
	if err := WriteCodeTable(&b); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	if want := len(Codes()) + 2; len(lines) != want {
		t.Errorf("%d lines, want %d", len(lines), want)
	}
	for _, want := range []string{
		"| code | where | meaning | class |",
		"| 43101 | everywhere | person has not subscribed, has no credit left, or refused | `refused` |",
		"| 45009 | elsewhere | daily quota of the API used up | `quota_day` |",
		"| 45009 | `/wxa/getwxacodeunlimit` | too many calls in a minute (5000) | `rate_minute` |",
	} {
		if !strings.Contains(b.String(), want+"\n") {
			t.Errorf("no line %q", want)
		}
	}
}
