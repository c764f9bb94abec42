package printable_test

import (
	"encoding/json"
	"testing"
	"unicode"

	"github.com/wxcourier/wxcourier/internal/printable"
)

func TestEscape(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"user refuse to accept the msg", "user refuse to accept the msg"},
		{"订单已发货　(全角空格) 👩‍🚀 é", "订单已发货　(全角空格) 👩‍🚀 é"},
		{"a\nb\r\tc", `a\nb\r\tc`},
		{"\x1b[31mred\x1b]0;title\a", `\x1b[31mred\x1b]0;title\a`},
		{"\x00\x7f", `\x00\x7f`},
		{"\u009b31m", `\u009b31m`},
		{"\u202egnp.exe\u2066\u200f", `\u202egnp.exe\u2066\u200f`},
		{"a\u2028b\u2029c\ufeff", `a\u2028b\u2029c\ufeff`},
		{"\xff\xfe订", `\xff\xfe订`},
	} {
		if got := printable.Escape(tt.in); got != tt.want {
			t.Errorf("%q: %s, want %s", tt.in, got, tt.want)
		}
	}
}

func FuzzEscapeJSON(f *testing.F) {
	for _, s := range []string{"a", "\x1b[31m\u009b\u202e\u2028", "订单\U000e0001", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		plain, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var want, got string
		escaped := printable.EscapeJSON(plain)
		if json.Unmarshal(plain, &want) != nil || json.Unmarshal(escaped, &got) != nil || got != want {
			t.Errorf("%q became %s, which means %q", s, escaped, got)
		}
		for _, r := range string(escaped) {
			if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
				t.Errorf("%U is in %q", r, escaped)
			}
		}
	})
}
