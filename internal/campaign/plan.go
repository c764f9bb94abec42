package campaign

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/campaign/table"
	"github.com/wxcourier/wxcourier/internal/strictjson"
	"github.com/wxcourier/wxcourier/internal/suggest"
	"github.com/wxcourier/wxcourier/internal/templates"
	"github.com/wxcourier/wxcourier/tasks"
)

// MaxRate is the highest Plan.Rate.
const MaxRate = 100_000

// Plan is what to send to whom.
type Plan struct {
	App, Type, Batch string
	Table            *table.Table
	Template         *Template
	// Templates is what is known of the message templates of the app: rows are compared with theirs. nil:
	// nothing.
	Templates *templates.Registry

	// At is the time from which on the messages may be sent; zero: at once.
	At time.Time
	// Rate is the highest number of messages a second, from At on; 0: the limits of the app alone.
	// Each row gets a process_at for it, in whole seconds.
	Rate float64
}

// PlanError lists all mistakes of a plan.
type PlanError struct{ Problems []PlanProblem }

// PlanProblem is a mistake of a plan.
type PlanProblem struct {
	Field   string // app, type, batch, template, at, rate
	Problem string
}

// Error joins the mistakes, each on its line.
func (e *PlanError) Error() string {
	lines := make([]string, 0, len(e.Problems))
	for _, p := range e.Problems {
		lines = append(lines, p.Field+": "+p.Problem)
	}
	return strings.Join(lines, "\n")
}

func (e *PlanError) add(field, format string, args ...any) {
	e.Problems = append(e.Problems, PlanProblem{field, fmt.Sprintf(format, args...)})
}

// Complete takes App, Type and Batch from the template where the plan has none, and checks all
// fields and the columns that the template uses. The error is a *[PlanError].
func (p Plan) Complete() (Plan, error) {
	var faults PlanError
	for _, f := range []struct {
		name       string
		mine       *string
		inTemplate string
	}{{"app", &p.App, p.Template.App}, {"type", &p.Type, p.Template.Type}, {"batch", &p.Batch, p.Template.Batch}} {
		if *f.mine != "" && f.inTemplate != "" && *f.mine != f.inTemplate {
			faults.add(f.name, "%s, but the template says %s: change one of them", strictjson.Quote(*f.mine), strictjson.Quote(f.inTemplate))
		}
		*f.mine = cmp.Or(*f.mine, f.inTemplate)
	}
	p.checkNames(&faults)
	if p.Template.fields["process_at"] && (!p.At.IsZero() || p.Rate != 0) {
		faults.add("template", "it has process_at: leave that out, or give neither a time nor a rate")
	}
	if math.IsNaN(p.Rate) || p.Rate < 0 || p.Rate > MaxRate || p.Rate > 0 && p.Rate < 1.0/3600 {
		faults.add("rate", "must be a number of messages a second, from one an hour to %d", MaxRate)
	}
	p.checkColumns(&faults)
	if len(faults.Problems) > 0 {
		return p, &faults
	}
	return p, nil
}

func (p Plan) checkNames(faults *PlanError) {
	switch {
	case p.App == "":
		faults.add("app", "required: the app id, such as wx0123456789abcdef")
	case !tasks.ValidApp(p.App):
		faults.add("app", `%s is not an app id: "wx" and 16 of the characters 0-9 and a-f`, strictjson.Quote(p.App))
	}
	switch _, known := tasks.Lookup(p.Type); {
	case p.Type == "":
		faults.add("type", "required, such as %s", tasks.TypeSubscribe)
	case !known:
		hint := "the types are " + strings.Join(tasks.Types(), ", ")
		if meant, ok := suggest.Name(p.Type, tasks.Types()); ok {
			hint = fmt.Sprintf("did you mean %q?", meant)
		}
		faults.add("type", "%s is not a task type: %s", strictjson.Quote(p.Type), hint)
	}
	switch {
	case p.Batch == "":
		faults.add("batch", "required: a name for the campaign, such as spring-sale")
	case !tasks.ValidBatch(p.Batch):
		faults.add("batch", "%s is not the name of a batch: 1 to 64 of the characters A-Z a-z 0-9 . _ ~ -", strictjson.Quote(p.Batch))
	}
}

// checkColumns finds columns of the template that the table does not have.
func (p Plan) checkColumns(faults *PlanError) {
	for _, name := range p.Template.Columns() {
		if slices.Contains(p.Table.Columns, name) {
			continue
		}
		hint := "the columns are " + columnList(p.Table.Columns)
		if meant, ok := suggest.Name(name, p.Table.Columns); ok {
			hint = fmt.Sprintf("did you mean {{%s}}?", meant)
		}
		faults.add("template", "the table has no column {{%s}}: %s", shorten(name), hint)
	}
	if len(p.Template.Columns()) == 0 {
		faults.add("template", "it uses no column, so that every row would be the same message: write {{column}} in its strings")
	}
}

// columnList names columns for a message.
func columnList(names []string) string {
	const most = 20
	quoted := make([]string, 0, min(len(names), most)+1)
	for i, name := range names {
		if i == most {
			quoted = append(quoted, "…")
			break
		}
		quoted = append(quoted, strictjson.Quote(name))
	}
	return strings.Join(quoted, ", ")
}

// shorten limits a name for a message.
func shorten(name string) string {
	if r := []rune(name); len(r) > 32 {
		return string(r[:32]) + "…"
	}
	return name
}
