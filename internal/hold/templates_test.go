package hold

import (
	"testing"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestTemplates: one query per template and second. A change is seen after Forget, and without it
// after templateTTL.
func TestTemplates(t *testing.T) {
	m, rdb := redistest.Mini(t)
	s := NewStore(rdb)
	templates := NewTemplates(s)
	is := func(id, reason string, want bool) {
		t.Helper()
		if got, held := templates.Held(t.Context(), testApp, id); held != want || got != reason {
			t.Errorf("%s: held %v for %q", id, held, got)
		}
	}
	is("T1", "", false)
	set(t, s, Hold{App: testApp, Scope: TemplateScope("T1"), Reason: "legal"})
	sent := redistest.Count(rdb)
	is("T1", "", false)
	if trips := sent.Trips(); trips != 0 {
		t.Errorf("%d round trips for a cached template", trips)
	}
	templates.Forget("wx1111111111111111")
	is("T1", "", false)
	templates.Forget(testApp)
	is("T1", "legal", true)
	is("T2", "", false)
	if _, err := s.Lift(t.Context(), testApp, TemplateScope("T1")); err != nil {
		t.Fatal(err)
	}
	redistest.Until(t, 5*templateTTL, "the end of the hold is seen", func() bool {
		_, held := templates.Held(t.Context(), testApp, "T1")
		return !held
	})
	m.SetError("LOADING Redis is loading the dataset in memory")
	is("T3", "", false)
}
