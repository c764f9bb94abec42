package console

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/inspect"
)

func readAllTexts(t *testing.T) texts {
	t.Helper()
	all, err := readTexts()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestTexts: each text is there in both languages, with the same verbs.
func TestTexts(t *testing.T) {
	verb := regexp.MustCompile(`%(\[\d+\])?[a-z]`)
	for id, text := range readAllTexts(t) {
		for _, lang := range languages() {
			if strings.TrimSpace(text[lang]) == "" {
				t.Errorf("%s: no text in %s", id, lang)
			}
		}
		if len(text) != len(languages()) {
			t.Errorf("%s: %d languages", id, len(text))
		}
		verbs := func(lang language) []string {
			found := verb.FindAllString(strings.ReplaceAll(text[lang], "%%", ""), -1)
			if strings.Contains(text[lang], "%[") { // in any order, and each at least once
				slices.Sort(found)
				return slices.Compact(found)
			}
			return found
		}
		en, zh := verbs(english), verbs(chinese)
		if len(en) != len(zh) || !strings.Contains(text[english]+text[chinese], "%[") && !slices.Equal(en, zh) {
			t.Errorf("%s: the verbs %v in English, %v in Chinese", id, en, zh)
		}
	}
}

// sources returns the sources that use texts: the templates, and the code without its tests.
func sources(t *testing.T) (templates, code string) {
	t.Helper()
	files, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := templateFiles.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		templates += string(content)
	}
	goFiles, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range goFiles {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		content, err := os.ReadFile(file) //nolint:gosec // our own files
		if err != nil {
			t.Fatal(err)
		}
		code += string(content)
	}
	return templates, code
}

// TestTextsInUse: each text that is used is there, and each that is there is used.
func TestTextsInUse(t *testing.T) {
	all := readAllTexts(t)
	templates, code := sources(t)
	used := make(map[string]bool)
	find := func(text, pattern string, must bool) {
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			if must && all[m[1]] == nil {
				t.Errorf("no text %s", m[1])
			}
			used[m[1]] = true
		}
	}
	const id = `"([a-z0-9]+(?:[._][a-z0-9]+)*)"`
	templates = regexp.MustCompile(`(?s)\{\{/\*.*?\*/\}\}`).ReplaceAllString(templates, "") // without the comments
	find(templates, `\bt `+id, true)
	find(code, `faultf\([^,]+, `+id, true)
	find(code, `\.(?:notice|text)\(`+id, true)
	find(code, `texts\.in\([a-z.]+, `+id, true)
	find(code, id, false)
	var prefixes []string // of texts whose ids are put together
	for _, m := range regexp.MustCompile(`"([a-z0-9.]+\.)(?:%s[a-z._]*"|" ?\+)`).FindAllStringSubmatch(templates+code, -1) {
		prefixes = append(prefixes, m[1])
	}
	for _, id := range []string{"fault.title", "signin.title"} {
		used[id] = true
	}
	for _, p := range (&Console{}).pages() {
		if used[p.name+".title"] = true; all[p.name+".title"] == nil {
			t.Errorf("no text %s.title", p.name)
		}
	}
	for id := range all {
		if !used[id] && !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(id, p) }) {
			t.Errorf("the text %s is not used", id)
		}
	}
}

// TestReasons: all reasons of holds are explained, and all outcomes and places have a text.
func TestReasons(t *testing.T) {
	for id := range readAllTexts(t) {
		reason, ok := strings.CutPrefix(id, "remedy.")
		if ok && !dispatch.IsHoldReason(reason) && !inspect.IsSpentReason(reason) {
			t.Errorf("%s: there is no such reason", id)
		}
	}
	all := readAllTexts(t)
	for _, reason := range []string{
		"rate_second", "rate_minute", "quota_day", "quota_total", "quota_reserved", "app_config", "token_rejected", "token_unavailable",
		"capability", "unlisted_code", "template_held",
	} {
		if all["reason."+reason] == nil || all["remedy."+reason] == nil {
			t.Errorf("the reason %s is not explained", reason)
		}
	}
	for name := range tones() {
		if all["badge."+name] == nil {
			t.Errorf("no text badge.%s", name)
		}
	}
}
