package sandbox

import (
	"errors"
	"fmt"

	"github.com/wxcourier/wxcourier/sandbox/internal/pushwire"
)

// The statuses of a Choice.
const (
	Accept = "accept"
	Reject = "reject"
)

// unlimited is the number of credits of a person who accepts any number of messages.
const unlimited = -1

// Choice is what a person chose for one template.
type Choice struct {
	Template string `json:"template"`
	Status   string `json:"status"` // Accept or Reject
}

// Popup lets a person answer the question whether to subscribe, as wx.requestSubscribeMessage asks it, and pushes
// subscribe_msg_popup_event. Accepting a one-time template adds one credit, and a long-term one any number; rejecting adds
// none. The choice makes a person whose credits were not set, or were unlimited by Options.Credits, start at 0.
func (s *Server) Popup(app, openid string, choices ...Choice) error {
	if err := checkChoices(openid, choices, Accept, Reject); err != nil {
		return err
	}
	return s.choose(app, openid, eventPopup, choices, func(template string, status string) int {
		left := s.creditsOf(app, openid, template)
		key := s.hashOf(app, openid, template)
		if _, known := s.state.credits[key]; !known && s.opts.Credits <= 0 {
			left = 0
		}
		switch {
		case status != Accept || left == unlimited:
			return left
		case s.longTerm(app, template):
			return unlimited
		}
		return left + 1
	})
}

// Change lets a person reject templates in the settings, and pushes subscribe_msg_change_event. No credits are left.
func (s *Server) Change(app, openid string, choices ...Choice) error {
	if err := checkChoices(openid, choices, Reject); err != nil {
		return err
	}
	return s.choose(app, openid, eventChange, choices, func(string, string) int { return 0 })
}

func checkChoices(openid string, choices []Choice, statuses ...string) error {
	if !validOpenID(openid) {
		return errors.New("sandbox: openid is not one")
	}
	if len(choices) == 0 {
		return errors.New("sandbox: choices is empty")
	}
	for i, c := range choices {
		if c.Template == "" {
			return fmt.Errorf("sandbox: choices[%d].template is missing", i)
		}
		if !oneOf(c.Status, statuses...) {
			return fmt.Errorf("sandbox: choices[%d].status %q is none of %q", i, c.Status, statuses)
		}
	}
	return nil
}

// choose sets the credits after each choice, and pushes the event.
func (s *Server) choose(app, openid, name string, choices []Choice, credits func(template, status string) int) error {
	s.mu.Lock()
	if _, known := s.findApp(app); !known {
		s.mu.Unlock()
		return fmt.Errorf("sandbox: unknown app %q", app)
	}
	for _, c := range choices {
		s.state.credits[s.hashOf(app, openid, c.Template)] = credits(c.Template, c.Status)
	}
	pushes := s.planEvent(s.choiceEvent(app, openid, name, choices))
	s.mu.Unlock()
	s.pushes.enqueue(pushes...)
	return nil
}

func (s *Server) choiceEvent(app, openid, name string, choices []Choice) event {
	e := event{name: name, app: app, openid: openid, at: s.opts.Clock()}
	member, list := "SubscribeMsgChangeEvent", pushwire.List{}
	if name == eventPopup {
		member = "SubscribeMsgPopupEvent"
	}
	for _, c := range choices {
		o := pushwire.Object{{Name: "TemplateId", Value: pushwire.Text(c.Template)}, {Name: "SubscribeStatusString", Value: pushwire.Text(c.Status)}}
		if name == eventPopup {
			o = append(o, pushwire.Element{Name: "PopupScene", Value: pushwire.Digits("0")}) // on a page of the mini program
		}
		list = append(list, o)
	}
	if len(choices) == 1 {
		e.template = choices[0].Template
	}
	e.members = func(string) []pushwire.Element { return nested(member, list) }
	return e
}

// SetCredits sets how many more subscribe messages of a template a person accepts; negative: unlimited.
func (s *Server) SetCredits(app, openid, template string, credits int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.credits[s.hashOf(app, openid, template)] = max(credits, unlimited)
}

// Credits returns how many more subscribe messages of a template a person accepts; negative: unlimited.
func (s *Server) Credits(app, openid, template string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.creditsOf(app, openid, template)
}

// creditsOf is Credits for a caller that holds s.mu.
func (s *Server) creditsOf(app, openid, template string) int {
	if left, known := s.state.credits[s.hashOf(app, openid, template)]; known {
		return left
	}
	if s.opts.Credits <= 0 || s.longTerm(app, template) {
		return unlimited
	}
	return s.opts.Credits
}

// spendCredit uses up a credit of a message's receiver; it reports whether there was one. Long-term templates use up none.
func (s *Server) spendCredit(x *exchange) bool {
	left := s.creditsOf(x.app.id, x.openid(), x.template())
	if left > 0 && !s.longTerm(x.app.id, x.template()) {
		s.state.credits[s.hashOf(x.app.id, x.openid(), x.template())] = left - 1
	}
	return left != 0
}
