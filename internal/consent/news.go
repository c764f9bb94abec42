package consent

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Choice is what a person chose for a template.
type Choice int

// The choices.
const (
	Accepted  Choice = iota + 1 // in a dialogue: one credit
	Declined                    // in a dialogue
	TurnedOff                   // in the settings, or on a message
	TurnedOn                    // in the settings: no credit
)

// News is a choice of a person, as it was heard of. The same news may come again.
type News struct {
	OpenID   string
	Template string
	Choice   Choice
	At       time.Time // zero: now
	// Reported by the mini program; otherwise WeChat pushed it.
	Reported bool
	// ID of a report: one that has it is the same for an hour. "": each report is another one.
	ID string
}

// Grant applies the news of persons to their entries, in their order, in one round trip. After an
// error all of it may be repeated.
func (s *Store) Grant(ctx context.Context, app string, news ...News) error {
	if len(news) == 0 {
		return nil
	}
	keys := make([]string, len(news))
	for i, n := range news {
		key, err := s.personKey(ctx, app, n.OpenID)
		if err != nil {
			return err
		}
		keys[i] = key
	}
	err := s.apply(ctx, keys, news, (*redis.Script).EvalSha)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		err = s.apply(ctx, keys, news, (*redis.Script).Eval)
	}
	if err != nil {
		return fmt.Errorf("note the choices of persons: %w", err)
	}
	return nil
}

func (s *Store) apply(ctx context.Context, keys []string, news []News, eval func(*redis.Script, context.Context, redis.Scripter, []string, ...any) *redis.Cmd) error {
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, n := range news {
			script, args := s.call(n)
			eval(script, ctx, p, keys[i:i+1], s.args(n.Template, args)...)
		}
		return nil
	})
	return err
}

// call returns the script of a choice, and its arguments after those of all scripts.
func (s *Store) call(n News) (*redis.Script, []any) {
	at := n.At.Unix()
	if n.At.IsZero() {
		at = s.now().Unix()
	}
	switch n.Choice {
	case Declined:
		return refuseScript, []any{at, "x"}
	case TurnedOff:
		return refuseScript, []any{at, "o"}
	case Accepted, TurnedOn:
	}
	src, id, credits := "p", "", 1
	if n.Reported {
		src = "r"
	}
	if n.ID != "" {
		id = short(n.ID)
	}
	if n.Choice == TurnedOn {
		credits = 0
	}
	return grantScript, []any{at, src, id, credits}
}
