package ratelimit

import "fmt"

// Config is the pace section of the configuration.
type Config struct {
	// Margin is the part of every second's and minute's limit that stays unused, so that
	// calls which the network delays unequally do not meet at WeChat: 0 ≤ margin < 0.5.
	// The default 0.05 absorbs about 50 ms of jitter; 0.02 fits a quiet network. Days and
	// lifetime totals are used in full.
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
