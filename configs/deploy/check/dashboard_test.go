package check

import (
	"encoding/json"
	"strings"
	"testing"
)

// panel is a panel of Grafana with the fields that a check needs; Grafana's own types are no
// library, therefore unknown fields are not refused.
type panel struct {
	ID      int    `json:"id"`
	Type    string `json:"type"`
	Title   string `json:"title"`
	GridPos struct {
		X, Y, W, H int
	} `json:"gridPos"`
	Datasource struct {
		UID string `json:"uid"`
	} `json:"datasource"`
	Targets []struct {
		Expr       string `json:"expr"`
		Datasource struct {
			UID string `json:"uid"`
		} `json:"datasource"`
	} `json:"targets"`
}

type dashboard struct {
	UID        string  `json:"uid"`
	Title      string  `json:"title"`
	Timezone   string  `json:"timezone"`
	Panels     []panel `json:"panels"`
	Templating struct {
		List []struct {
			Name       string `json:"name"`
			Type       string `json:"type"`
			Definition string `json:"definition"`
		} `json:"list"`
	} `json:"templating"`
}

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal([]byte(read(t, deploy, "grafana/wxcourier.json")), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// An expression of a panel, with values in place of Grafana's variables.
type expression struct{ panel, expr string }

func expressions(t *testing.T) []expression {
	t.Helper()
	values := strings.NewReplacer("$app", ".*", "$__rate_interval", "5s", "$__range", "1m")
	var all []expression
	for _, p := range readDashboard(t).Panels {
		for _, target := range p.Targets {
			all = append(all, expression{p.Title, values.Replace(target.Expr)})
		}
	}
	if len(all) < 30 {
		t.Fatalf("the dashboard has only %d expressions", len(all))
	}
	return all
}

func variableQuery(t *testing.T) string {
	t.Helper()
	for _, v := range readDashboard(t).Templating.List {
		if v.Name == "app" {
			return v.Definition
		}
	}
	t.Fatal("the dashboard has no variable app")
	return ""
}

// TestDashboard: panels have ids and places of their own, and ask the data source that is chosen.
func TestDashboard(t *testing.T) {
	t.Parallel()
	d := readDashboard(t)
	ids, taken := make(map[int]bool), make(map[[2]int]string)
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("%s: the id %d is taken", p.Title, p.ID)
		}
		ids[p.ID] = true
		if p.GridPos.X+p.GridPos.W > 24 || p.GridPos.W == 0 || p.GridPos.H == 0 {
			t.Errorf("%s: %+v", p.Title, p.GridPos)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other, is := taken[[2]int{x, y}]; is {
					t.Fatalf("%s covers %s", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if len(p.Targets) == 0 || p.Datasource.UID != "${datasource}" {
			t.Errorf("%s: data source %q, %d targets", p.Title, p.Datasource.UID, len(p.Targets))
		}
		for _, target := range p.Targets {
			if target.Datasource.UID != "${datasource}" || target.Expr == "" {
				t.Errorf("%s: %+v", p.Title, target)
			}
		}
	}
	if d.Timezone != "Asia/Shanghai" || d.UID != "wxcourier" {
		t.Errorf("%s: the time zone is %s", d.UID, d.Timezone)
	}
}
