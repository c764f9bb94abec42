package console

import (
	_ "embed" // of the file
	"fmt"
	"regexp"

	"github.com/goccy/go-yaml"
)

// problemFile has the problems of package campaign in Chinese, in the order in which they are tried.
//
//go:embed problems.yaml
var problemFile []byte

// problemText is a problem in both languages.
type problemText struct {
	English string `yaml:"en"` // a regular expression of the whole problem
	Chinese string `yaml:"zh"` // $1 is the text of its first group
	whole   *regexp.Regexp
}

func readProblems() ([]problemText, error) {
	var all []problemText
	if err := yaml.Unmarshal(problemFile, &all); err != nil {
		return nil, fmt.Errorf("console: problems.yaml: %w", err)
	}
	for i := range all {
		var err error
		if all[i].whole, err = regexp.Compile("^(?s:" + all[i].English + ")$"); err != nil {
			return nil, fmt.Errorf("console: problems.yaml: %w", err)
		}
	}
	return all, nil
}

var (
	problemLine = regexp.MustCompile(`^line (\d+): (.*)$`)
	problemPath = regexp.MustCompile(`^([A-Za-z_][\w.\[\]"-]*): (.*)$`)
	// problemRule is a fault of a field's value, and the rule of its kind.
	problemRule = regexp.MustCompile(`^(.+); (a \w+ keyword takes .+)$`)
)

// problem returns a problem of a table or a template in a language. One that is not known in Chinese
// stays in English.
func (v *views) problem(lang language, text string) string {
	if lang != chinese {
		return text
	}
	if at := problemLine.FindStringSubmatch(text); at != nil {
		return "第 " + at[1] + " 行：" + v.problem(lang, at[2])
	}
	if parts := problemRule.FindStringSubmatch(text); parts != nil {
		return v.problem(lang, parts[1]) + "；" + v.problem(lang, parts[2])
	}
	for _, p := range v.problems {
		if match := p.whole.FindStringSubmatchIndex(text); match != nil {
			return string(p.whole.ExpandString(nil, p.Chinese, text, match))
		}
	}
	if at := problemPath.FindStringSubmatch(text); at != nil {
		return at[1] + "：" + v.problem(lang, at[2])
	}
	return text
}
