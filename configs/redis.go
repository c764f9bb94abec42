package configs

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/wechat"
)

// Redis configures the connection to Redis. The zero value means that no Redis is configured.
type Redis struct {
	// Addrs are host:port. One: a single server. Several: the nodes of a cluster or, with
	// MasterName, the sentinels. Default: none.
	Addrs []string `yaml:"addrs"`
	// MasterName is the name of the master in the sentinels' configuration.
	MasterName string `yaml:"master_name"`
	// Username is the Redis ACL user; "" is the default user.
	Username string `yaml:"username"`
	// Password is the user's password.
	Password wechat.Secret `yaml:"password"`
	// PasswordFile is the path of a file with the password, used in place of Password.
	PasswordFile string `yaml:"password_file"`
	// DB is the number of the database; a cluster has only 0.
	DB int `yaml:"db"`
	// TLS encrypts the connection; the certificate is verified with the system's root CAs.
	TLS bool `yaml:"tls"`
	// AllowEviction lets a worker start on a Redis that evicts keys, and so may lose tasks, when
	// its memory is full.
	AllowEviction bool `yaml:"allow_eviction"`
}

// Configured reports whether a Redis is configured.
func (r Redis) Configured() bool { return len(r.Addrs) > 0 }

// Address returns the address of Redis for messages.
func (r Redis) Address() string {
	address := strings.Join(r.Addrs, ",")
	if r.MasterName != "" {
		address = r.MasterName + " of the sentinels " + address
	}
	return address
}

// Validate reports all problems at once, each with its key.
func (r Redis) Validate() error {
	var faults []error
	for i, addr := range r.Addrs {
		host, port, err := net.SplitHostPort(addr)
		if err != nil || host == "" || port == "" || strings.ContainsAny(addr, "/@ ") {
			faults = append(faults, fmt.Errorf("addrs[%d]: is not host:port, such as 127.0.0.1:6379; the password goes in redis.password", i))
		}
	}
	switch cluster := len(r.Addrs) > 1 && r.MasterName == ""; {
	case r.DB < 0:
		faults = append(faults, fmt.Errorf("db: %d is not a database number: they start at 0", r.DB))
	case cluster && r.DB > 0:
		faults = append(faults, fmt.Errorf("db: %d with several addrs: a cluster has only the database 0 (if these are sentinels, set master_name)", r.DB))
	}
	if r.MasterName != "" && !r.Configured() {
		faults = append(faults, errors.New("master_name: requires the sentinels' addresses in addrs"))
	}
	return errors.Join(faults...)
}

// Settings of the connections. A replica has hundreds of slots, which mostly wait for WeChat and
// not for Redis, so they share few connections.
const (
	// A replica has two clients, each with this pool and go-redis' separate pool for pipelines,
	// and some subscriptions: fewer than 100 connections.
	poolSize         = 35
	pipelinePoolSize = 10
	dialTimeout      = 3 * time.Second
	ioTimeout        = 4 * time.Second
	// A command and its reply have a few hundred bytes. go-redis' default is four times this size,
	// with two buffers per connection; the buffers for pipelines keep the default.
	bufferSize = 8 << 10
)

// NewClient returns a client, which the caller closes. It does no I/O.
func (r Redis) NewClient() redis.UniversalClient {
	options := &redis.UniversalOptions{
		Addrs: r.Addrs, MasterName: r.MasterName,
		Username: r.Username, Password: r.Password.Reveal(), DB: r.DB,
		ClientName: "wxcourier", PoolSize: poolSize, PipelinePoolSize: pipelinePoolSize,
		DialTimeout: dialTimeout, ReadTimeout: ioTimeout, WriteTimeout: ioTimeout,
		ContextTimeoutEnabled: true,
		ReadBufferSize:        bufferSize, WriteBufferSize: bufferSize,
	}
	if r.TLS {
		options.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return redis.NewUniversalClient(options)
}
