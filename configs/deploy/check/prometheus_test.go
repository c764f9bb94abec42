package check

import (
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// rules is a file of rules, with the fields that ours uses.
type rules struct {
	Groups []struct {
		Name     string `json:"name"`
		Interval string `json:"interval,omitempty"`
		Rules    []rule `json:"rules"`
	} `json:"groups"`
}

// rule is an alert, or an expression whose result is recorded.
type rule struct {
	Alert       string            `json:"alert,omitempty"`
	Record      string            `json:"record,omitempty"`
	Expr        string            `json:"expr"`
	For         string            `json:"for,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// ruleTests is a file of tests for promtool, with the fields that ours use.
type ruleTests struct {
	Files    []string `json:"rule_files"`
	Interval string   `json:"evaluation_interval"`
	Tests    []struct {
		Name     string              `json:"name"`
		Interval string              `json:"interval"`
		Series   []map[string]string `json:"input_series"`
		Rules    []struct {
			Alert  string           `json:"alertname"`
			At     string           `json:"eval_time"`
			Alerts []map[string]any `json:"exp_alerts"`
		} `json:"alert_rule_test"`
	} `json:"tests"`
}

// allRules returns the alerts and the recorded expressions.
func allRules(t *testing.T) []rule {
	t.Helper()
	var file rules
	mustDecode(t, "rules.yaml", read(t, deploy, "prometheus/rules.yaml"), &file)
	var all []rule
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("no rules")
	}
	return all
}

func alerts(t *testing.T) []rule {
	t.Helper()
	return slices.DeleteFunc(allRules(t), func(r rule) bool { return r.Alert == "" })
}

// ruleTestFiles are the files of tests for promtool.
func ruleTestFiles() []string {
	return []string{"rules_test.yaml", "quota_test.yaml", "receipts_test.yaml"}
}

func TestPrometheusFiles(t *testing.T) {
	t.Parallel()
	promtool := tool(t, "promtool")
	commands := [][]string{{"check", "config", "prometheus.yaml"}} // and the rules that it names
	for _, name := range ruleTestFiles() {
		commands = append(commands, []string{"test", "rules", name})
	}
	for _, args := range commands {
		args[2] = filepath.Join(deploy, "prometheus", args[2])
		if out, err := run(t, nil, promtool, args...); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// TestAlerts: each alert says what happened and where to read on, and has a test in which it fires
// and one in which it does not.
func TestAlerts(t *testing.T) {
	t.Parallel()
	fires, quiet := make(map[string]bool), make(map[string]bool)
	for _, name := range ruleTestFiles() {
		var file ruleTests
		mustDecode(t, name, read(t, deploy, "prometheus", name), &file)
		for _, test := range file.Tests {
			for _, r := range test.Rules {
				fires[r.Alert] = fires[r.Alert] || len(r.Alerts) > 0
				quiet[r.Alert] = quiet[r.Alert] || len(r.Alerts) == 0
			}
		}
	}
	for _, r := range alerts(t) {
		if !fires[r.Alert] || !quiet[r.Alert] {
			t.Errorf("%s: a test in which it fires: %v; one in which it does not: %v", r.Alert, fires[r.Alert], quiet[r.Alert])
		}
		if got, want := slices.Sorted(maps.Keys(r.Annotations)), []string{"description", "runbook_url", "summary"}; !slices.Equal(got, want) {
			t.Errorf("%s has the annotations %v, want %v", r.Alert, got, want)
		}
		if !slices.Contains([]string{"critical", "warning"}, r.Labels["severity"]) {
			t.Errorf("%s has the severity %q", r.Alert, r.Labels["severity"])
		}
		checkRunbook(t, r)
		for _, page := range []string{"docs/operations.md", "docs/zh-CN/operations.md"} {
			if !strings.Contains(read(t, root, page), "| `"+r.Alert+"` |") {
				t.Errorf("%s does not list %s", page, r.Alert)
			}
		}
	}
	for _, page := range []string{"docs/operations.md", "docs/zh-CN/operations.md"} {
		if listed := found(read(t, root, page), "\\| `(Wxcourier\\w+)` \\|"); len(listed) != len(alerts(t)) {
			t.Errorf("%s lists %v, which are not the alerts", page, listed)
		}
	}
}

// checkRunbook checks that the page and the heading exist to which the alert leads.
func checkRunbook(t *testing.T, r rule) {
	t.Helper()
	page, ok := strings.CutPrefix(r.Annotations["runbook_url"], "https://github.com/wxcourier/wxcourier/blob/main/")
	if !ok {
		t.Errorf("%s: the runbook is %q", r.Alert, r.Annotations["runbook_url"])
		return
	}
	path, anchor, _ := strings.Cut(page, "#")
	for _, heading := range found(read(t, root, path), `(?m)^## +(.+?)\s*$`) {
		name := strings.ReplaceAll(strings.ToLower(regexp.MustCompile(`[^\w -]`).ReplaceAllString(heading, "")), " ", "-")
		if name == anchor {
			return
		}
	}
	t.Errorf("%s: %s has no heading %q", r.Alert, path, anchor)
}

// TestMetricNames: rules, dashboard and autoscaler use metrics that exist. docs/operations.md lists
// them all, as a test of the main module checks.
func TestMetricNames(t *testing.T) {
	t.Parallel()
	exist := found(read(t, root, "docs/operations.md"), "\\| `(wxcourier_[a-z_]+)")
	if len(exist) < 20 {
		t.Fatalf("docs/operations.md lists only %v", exist)
	}
	var texts strings.Builder
	for _, panel := range expressions(t) {
		texts.WriteString(panel.expr + "\n")
	}
	texts.WriteString(variableQuery(t))
	for _, r := range allRules(t) {
		texts.WriteString(r.Expr + "\n")
	}
	texts.WriteString(adapterQuery(t))
	used := found(texts.String(), `\b(wxcourier_[a-z_]+)\b`)
	histogram := regexp.MustCompile(`_(bucket|sum|count)$`)
	for _, name := range used {
		if !slices.Contains(exist, name) && !slices.Contains(exist, histogram.ReplaceAllString(name, "")) {
			t.Errorf("the metric %s does not exist", name)
		}
	}
	for _, name := range exist {
		if !slices.ContainsFunc(used, func(u string) bool { return histogram.ReplaceAllString(u, "") == name }) {
			t.Errorf("neither the dashboard nor a rule uses %s: add a panel to grafana/wxcourier.json", name)
		}
	}
}

// adapterQuery returns the query of the autoscaler's metric, as prometheus-adapter fills it in.
func adapterQuery(t *testing.T) string {
	t.Helper()
	var file struct {
		Rules struct {
			External []struct {
				SeriesQuery string `json:"seriesQuery"`
				Resources   struct {
					Overrides map[string]map[string]string `json:"overrides"`
				} `json:"resources"`
				Name         map[string]string `json:"name"`
				MetricsQuery string            `json:"metricsQuery"`
			} `json:"external"`
		} `json:"rules"`
	}
	mustDecode(t, "adapter-values.yaml", read(t, deploy, "kubernetes/monitoring/adapter-values.yaml"), &file)
	if len(file.Rules.External) != 1 || file.Rules.External[0].Name["as"] != "wxcourier_lane_waiting" {
		t.Fatalf("adapter-values.yaml: %+v", file)
	}
	query := strings.NewReplacer("<<.Series>>", file.Rules.External[0].SeriesQuery, "<<.LabelMatchers>>", `namespace="wxcourier"`).
		Replace(file.Rules.External[0].MetricsQuery)
	if strings.Contains(query, "<<") {
		t.Errorf("adapter-values.yaml: %s", query)
	}
	return query
}

// TestExpressions: Prometheus parses each expression of the dashboard, and the autoscaler's.
func TestExpressions(t *testing.T) {
	t.Parallel()
	promtool := tool(t, "promtool")
	var file strings.Builder
	file.WriteString("groups:\n- name: dashboard\n  rules:\n")
	for i, panel := range expressions(t) {
		fmt.Fprintf(&file, "  - {record: 'panel:%d', expr: '%s'}\n", i, strings.ReplaceAll(panel.expr, "'", "''"))
	}
	fmt.Fprintf(&file, "  - {record: 'autoscaler', expr: '%s'}\n", adapterQuery(t))
	path := write(t, t.TempDir(), "rules.yaml", file.String())
	if out, err := run(t, nil, promtool, "check", "rules", path); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestGrafanaProvisioning: what compose.yaml mounts into Grafana points at Prometheus and at the
// dashboard. (Grafana is not here to read it.)
func TestGrafanaProvisioning(t *testing.T) {
	t.Parallel()
	var sources struct {
		APIVersion  int `json:"apiVersion"`
		Datasources []struct {
			Name      string            `json:"name"`
			Type      string            `json:"type"`
			Access    string            `json:"access"`
			URL       string            `json:"url"`
			IsDefault bool              `json:"isDefault"`
			JSONData  map[string]string `json:"jsonData"`
		} `json:"datasources"`
	}
	mustDecode(t, "datasources", read(t, deploy, "grafana/provisioning/datasources/prometheus.yaml"), &sources)
	p := project(t)
	at, err := url.Parse(sources.Datasources[0].URL)
	if err != nil || p.Services[at.Hostname()].Name == "" {
		t.Errorf("compose.yaml has no service %s", at)
	}
	var dashboards struct {
		APIVersion int `json:"apiVersion"`
		Providers  []struct {
			Name    string            `json:"name"`
			Type    string            `json:"type"`
			Options map[string]string `json:"options"`
		} `json:"providers"`
	}
	mustDecode(t, "dashboards", read(t, deploy, "grafana/provisioning/dashboards/wxcourier.yaml"), &dashboards)
	folder := dashboards.Providers[0].Options["path"]
	for _, volume := range p.Services["grafana"].Volumes {
		if volume.Target == folder+"/wxcourier.json" {
			if _, err := os.Stat(volume.Source); err != nil {
				t.Error(err)
			}
			return
		}
	}
	t.Errorf("compose.yaml does not mount wxcourier.json into %s", folder)
}
