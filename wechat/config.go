package wechat

import (
	"errors"
	"fmt"
	"net/url"
	"time"
)

// Config holds the address of WeChat's API and the timeouts of calls.
type Config struct {
	// BaseURL is the scheme and host of the API, without a path. Default
	// https://api.weixin.qq.com. api2.weixin.qq.com is WeChat's own fallback host.
	BaseURL string `yaml:"base_url"`
	// Timeout bounds one HTTP exchange: connecting, writing and reading the answer.
	// Default 10s.
	Timeout time.Duration `yaml:"timeout"`
	// AttemptTimeout bounds a whole attempt: fetching a token, the exchange, and a
	// resend after WeChat refused the token. Default 15s, at least Timeout.
	AttemptTimeout time.Duration `yaml:"attempt_timeout"`
}

// DefaultConfig returns a Config for WeChat's servers with the default timeouts.
func DefaultConfig() Config {
	return Config{
		BaseURL:        "https://api.weixin.qq.com",
		Timeout:        10 * time.Second,
		AttemptTimeout: 15 * time.Second,
	}
}

// Validate returns every mistake at once, each with its key.
func (c Config) Validate() error {
	var errs []error
	if err := checkBaseURL(c.BaseURL); err != nil {
		errs = append(errs, err)
	}
	if c.Timeout <= 0 {
		errs = append(errs, fmt.Errorf("timeout: %v is not a positive duration, such as 10s", c.Timeout))
	}
	if c.AttemptTimeout <= 0 {
		errs = append(errs, fmt.Errorf("attempt_timeout: %v is not a positive duration, such as 15s", c.AttemptTimeout))
	} else if c.AttemptTimeout < c.Timeout {
		errs = append(errs, fmt.Errorf("attempt_timeout: %v is shorter than timeout (%v), which it includes", c.AttemptTimeout, c.Timeout))
	}
	return errors.Join(errs...)
}

// checkBaseURL allows only scheme and host: the endpoints provide the path, and a user or
// query in the address would put a secret into every error.
func checkBaseURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("base_url: is not a URL, such as https://api.weixin.qq.com")
	case u.Scheme != "https" && u.Scheme != "http", u.Host == "":
		return fmt.Errorf("base_url: %q does not start with https:// or http:// and a host", u.Redacted())
	case u.User != nil, u.RawQuery != "", u.Fragment != "", u.Path != "" && u.Path != "/":
		return fmt.Errorf("base_url: %q has more than scheme and host", u.Scheme+"://"+u.Host)
	}
	return nil
}
