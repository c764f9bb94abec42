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

// Redis says where Redis is. The zero value means that none is configured.
type Redis struct {
	// Addrs are host:port. One: a single server. Several: the nodes of a cluster, or
	// with MasterName the sentinels. Default none.
	Addrs []string `yaml:"addrs"`
	// MasterName is what the sentinels call the master.
	MasterName string `yaml:"master_name"`
	// Username is for Redis' access control lists; "" is Redis' default user.
	Username string `yaml:"username"`
	// Password is the user's password.
	Password wechat.Secret `yaml:"password"`
	// PasswordFile names a file that holds the password, in its place.
	PasswordFile string `yaml:"password_file"`
	// DB is the number of the database; a cluster has 0 alone.
	DB int `yaml:"db"`
	// TLS encrypts the connection; the certificate is checked by the system's authorities.
	TLS bool `yaml:"tls"`
	// AllowEviction lets a worker start on a Redis that may throw keys away when its
	// memory is full, and with them tasks.
	AllowEviction bool `yaml:"allow_eviction"`
}

// Configured tells whether there is a Redis.
func (r Redis) Configured() bool { return len(r.Addrs) > 0 }

// Address is where Redis is, for people to read.
func (r Redis) Address() string {
	address := strings.Join(r.Addrs, ",")
	if r.MasterName != "" {
		address = r.MasterName + " of the sentinels " + address
	}
	return address
}

// Validate reports all mistakes at once, each with its key.
func (r Redis) Validate() error {
	var faults []error
	for i, addr := range r.Addrs {
		host, port, err := net.SplitHostPort(addr)
		if err != nil || host == "" || port == "" || strings.ContainsAny(addr, "/@ ") {
			faults = append(faults, fmt.Errorf("addrs[%d]: is not host:port, such as 127.0.0.1:6379; the password has a key of its own", i))
		}
	}
	switch cluster := len(r.Addrs) > 1 && r.MasterName == ""; {
	case r.DB < 0:
		faults = append(faults, fmt.Errorf("db: %d is not a database: they count from 0", r.DB))
	case cluster && r.DB > 0:
		faults = append(faults, fmt.Errorf("db: %d with several addrs: a cluster has the database 0 alone (name the master in master_name if these are sentinels)", r.DB))
	}
	if r.MasterName != "" && !r.Configured() {
		faults = append(faults, errors.New("master_name: needs the sentinels' addresses in addrs"))
	}
	return errors.Join(faults...)
}

// How connections are used. A replica has hundreds of slots, each of which spends most
// of its time waiting for WeChat and not for Redis, so that they can share connections.
const (
	// A replica has two clients, each with this pool and one of go-redis' own for pipelines,
	// and some subscriptions: less than 100 connections.
	poolSize         = 35
	pipelinePoolSize = 10
	dialTimeout      = 3 * time.Second
	ioTimeout        = 4 * time.Second
	// A command and its reply have some hundred bytes. go-redis' own buffers are four times
	// this, and there are two for each connection; those for pipelines stay as they are.
	bufferSize = 8 << 10
)

// NewClient makes a client. It does no I/O. The caller closes it.
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
