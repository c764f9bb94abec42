package ratelimit

import "fmt"

// Config is the section "pace" of the configuration.
type Config struct {
	// Margin is the share of each limit per second and minute that stays unused, so that calls
	// with unequal network delays do not exceed the limit at WeChat: 0 ≤ margin < 0.5. The
	// default 0.05 absorbs about 50 ms of jitter; 0.02 fits a quiet network. Limits per day and
	// lifetime are used in full.
	Margin float64 `yaml:"margin" json:"margin"`
}

// DefaultConfig returns a margin of 5 %.
func DefaultConfig() Config { return Config{Margin: 0.05} }

// Validate reports a margin outside of [0, 0.5).
func (c Config) Validate() error {
	if c.Margin >= 0 && c.Margin < 0.5 { // also refuses NaN
		return nil
	}
	return fmt.Errorf("margin: %v is outside of 0 ≤ margin < 0.5 (0.05 keeps 5 %% of a limit free)", c.Margin)
}
