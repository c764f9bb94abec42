package gateway

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/suggest"
	"github.com/wxcourier/wxcourier/wechat/callback"
)

// Config is the section `gateway` of the configuration.
type Config struct {
	// Listen is the address of the API, host:port. Without a KeysFile it must be a loopback
	// address. Default 127.0.0.1:8080.
	Listen string `yaml:"listen"`
	// Hosts are further host names that clients use, without ports.
	Hosts []string `yaml:"hosts"`
	// KeysFile is the file of the keys, which `wxcourier key` maintains. Default none.
	KeysFile string `yaml:"keys_file"`
	// TLS makes the gateway serve HTTPS. Default HTTP.
	TLS TLS `yaml:"tls"`
	// CallbackListen is the address of the receiver of WeChat's pushes, host:port: the one listener
	// that is reachable from outside, mostly through a proxy. Default none.
	CallbackListen string `yaml:"callback_listen"`
	// CallbackTLS makes the receiver serve HTTPS. Default HTTP, behind a proxy.
	CallbackTLS TLS `yaml:"callback_tls"`
	// CallbackMaxAge is by how much the timestamp of a push may differ from the own clock. Default 1 h.
	CallbackMaxAge time.Duration `yaml:"callback_max_age"`
	// Monitor is the asynq web UI at /monitor: off, read or full. Default read.
	Monitor Monitor `yaml:"monitor"`
	// Wait is how long a call to one of WeChat's own paths waits for a permit. Default 5 s.
	Wait time.Duration `yaml:"wait"`
	// ShutdownTimeout is how long a shutdown waits for the requests under way. Default 25 s.
	ShutdownTimeout time.Duration `yaml:"shutdown_timeout"`
}

// TLS is a certificate. The files are read again when they change.
type TLS struct {
	CertFile string `yaml:"cert_file"` // PEM: the certificate, then those of its issuers
	KeyFile  string `yaml:"key_file"`  // PEM: its private key
}

// Configured reports whether there is a certificate.
func (t TLS) Configured() bool { return t.CertFile != "" || t.KeyFile != "" }

// Monitor is what the asynq web UI may do.
type Monitor string

// The values of Monitor.
const (
	MonitorOff  Monitor = "off"  // it is not served
	MonitorRead Monitor = "read" // it shows, and changes nothing
	MonitorFull Monitor = "full" // it also changes, for keys with the scope operate
)

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		Listen: "127.0.0.1:8080", Monitor: MonitorRead, Wait: 5 * time.Second, ShutdownTimeout: 25 * time.Second,
		CallbackMaxAge: callback.DefaultMaxAge,
	}
}

// Validate reports all problems at once, each with its key.
func (c Config) Validate() error {
	var faults []error
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		faults = append(faults, fmt.Errorf("listen: %q is not host:port, such as 127.0.0.1:8080", c.Listen))
	}
	for i, host := range c.Hosts {
		if host == "" || strings.ContainsAny(host, "/:@ *") {
			faults = append(faults, fmt.Errorf("hosts[%d]: %q is not a host name, such as courier.example.com: no port, no scheme, no *", i, host))
		}
	}
	faults = append(faults, c.TLS.validate("tls"), c.validateCallbacks(), c.Monitor.validate())
	if c.Wait < 0 || c.Wait > time.Minute {
		faults = append(faults, fmt.Errorf("wait: %v is not between 0s and 1m", c.Wait))
	}
	if c.ShutdownTimeout <= 0 || c.ShutdownTimeout > time.Hour {
		faults = append(faults, fmt.Errorf("shutdown_timeout: %v is not more than 0s and at most 1h", c.ShutdownTimeout))
	}
	return errors.Join(faults...)
}

// validateCallbacks reports the problems of the receiver of pushes.
func (c Config) validateCallbacks() error {
	faults := []error{c.CallbackTLS.validate("callback_tls")}
	if c.CallbackListen != "" {
		_, port, err := net.SplitHostPort(c.CallbackListen)
		switch {
		case err != nil:
			faults = append(faults, fmt.Errorf("callback_listen: %q is not host:port, such as :8081", c.CallbackListen))
		case c.CallbackListen == c.Listen && port != "0":
			faults = append(faults, errors.New("callback_listen: is the address of listen; the receiver is open to the internet, and needs one of its own"))
		}
	} else if c.CallbackTLS.Configured() {
		faults = append(faults, errors.New("callback_tls: needs callback_listen, the address to serve on"))
	}
	if c.CallbackMaxAge < time.Minute || c.CallbackMaxAge > maxCallbackAge {
		faults = append(faults, fmt.Errorf("callback_max_age: %v is not between 1m and %v", c.CallbackMaxAge, maxCallbackAge))
	}
	return errors.Join(faults...)
}

// maxCallbackAge bounds for how long Redis keeps the marks that drop repetitions.
const maxCallbackAge = 24 * time.Hour

func (t TLS) validate(key string) error {
	switch {
	case t.CertFile == "" && t.KeyFile != "":
		return fmt.Errorf("%[1]s.cert_file: missing; %[1]s.key_file is its private key", key)
	case t.CertFile != "" && t.KeyFile == "":
		return fmt.Errorf("%[1]s.key_file: missing; it is the private key of %[1]s.cert_file", key)
	}
	return nil
}

func (m Monitor) validate() error {
	all := []string{string(MonitorOff), string(MonitorRead), string(MonitorFull)}
	if slices.Contains(all, string(m)) {
		return nil
	}
	if best, ok := suggest.Name(string(m), all); ok {
		return fmt.Errorf("monitor: %q is none of off, read and full; did you mean %s?", string(m), best)
	}
	return fmt.Errorf("monitor: %q is none of off, read and full", string(m))
}
