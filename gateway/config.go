package gateway

import (
	"errors"
	"fmt"
	"net"
	"time"
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
	// Wait is how long a call to one of WeChat's own paths waits for a permit. Default 5 s.
	Wait time.Duration `yaml:"wait"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{Listen: "127.0.0.1:8080", Wait: 5 * time.Second}
}

// Validate reports all problems at once, each with its key.
func (c Config) Validate() error {
	var faults []error
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		faults = append(faults, fmt.Errorf("listen: %q is not host:port, such as 127.0.0.1:8080", c.Listen))
	}
	if c.Wait < 0 || c.Wait > time.Minute {
		faults = append(faults, fmt.Errorf("wait: %v is not between 0s and 1m", c.Wait))
	}
	return errors.Join(faults...)
}
