package console

import (
	"embed"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// language is a language of the pages.
type language string

// The languages.
const (
	english language = "en"
	chinese language = "zh"
)

func languages() []language { return []language{english, chinese} }

// Other returns the language to which the button switches.
func (l language) Other() language {
	if l == chinese {
		return english
	}
	return chinese
}

// languageOf returns the language that was chosen, or else the one that the browser prefers.
func languageOf(r *http.Request) language {
	if cookie, err := r.Cookie(languageCookie); err == nil && slices.Contains(languages(), language(cookie.Value)) {
		return language(cookie.Value)
	}
	for _, tag := range strings.Split(r.Header.Get("Accept-Language"), ",") {
		switch {
		case strings.HasPrefix(strings.TrimSpace(tag), "zh"):
			return chinese
		case strings.HasPrefix(strings.TrimSpace(tag), "en"):
			return english
		}
	}
	return english
}

// textFiles are the texts of the pages: by their ids, in each language. A text may have verbs of
// package fmt, the same in each language.
//
//go:embed texts/*.yaml
var textFiles embed.FS

// texts are the texts by id and language.
type texts map[string]map[language]string

func readTexts() (texts, error) {
	all := texts{}
	files, err := fs.Glob(textFiles, "texts/*.yaml")
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		content, err := textFiles.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var some texts
		if err := yaml.Unmarshal(content, &some); err != nil {
			return nil, fmt.Errorf("console: %s: %w", file, err)
		}
		for id, text := range some {
			if _, twice := all[id]; twice {
				return nil, fmt.Errorf("console: %s: the text %s is there twice", file, id)
			}
			all[id] = text
		}
	}
	return all, nil
}

// in returns a text in a language.
func (t texts) in(lang language, id string, args ...any) (string, error) {
	text, ok := t[id][lang]
	if !ok {
		return "", fmt.Errorf("console: no text %q in %s", id, lang)
	}
	if len(args) > 0 {
		text = fmt.Sprintf(text, args...)
	}
	return text, nil
}
