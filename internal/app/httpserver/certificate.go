package httpserver

import (
	"crypto/tls"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificateInterval is how long a certificate is served without a look at its files.
const certificateInterval = time.Second

// Certificate is a certificate with its private key, read again when their files change. Create it
// with LoadCertificate.
type Certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex
	served  *tls.Certificate // guarded by mu
	state   [2]fs.FileInfo   // guarded by mu; of the files when they were read last
	checked time.Time        // guarded by mu; when the files were looked at last
}

// LoadCertificate reads two PEM files: a certificate followed by those of its issuers, and its
// private key.
func LoadCertificate(certFile, keyFile string, log *slog.Logger) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile, log: log, checked: time.Now()}
	c.state = c.look()
	var err error
	c.served, err = c.read()
	return c, err
}

// Config returns the configuration of a server with the certificate.
func (c *Certificate) Config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}
}

// Expires returns when the certificate ends.
func (c *Certificate) Expires() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.served.Leaf.NotAfter
}

// get returns the certificate for a handshake. When the files have changed and what they hold cannot
// be used, that is logged, and the certificate stays.
func (c *Certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Sub(c.checked) < certificateInterval {
		return c.served, nil
	}
	c.checked = now
	state := c.look()
	if same(state[0], c.state[0]) && same(state[1], c.state[1]) {
		return c.served, nil
	}
	c.state = state
	renewed, err := c.read()
	if err != nil {
		c.log.Error("the new certificate cannot be used; the one before stays", "err", err)
		return c.served, nil
	}
	c.log.Info("the certificate was read again", "until", renewed.Leaf.NotAfter)
	c.served = renewed
	return c.served, nil
}

// read reads the files.
func (c *Certificate) read() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return nil, fmt.Errorf("the certificate %s with the key %s: %w", c.certFile, c.keyFile, err)
	}
	if until := pair.Leaf.NotAfter; time.Now().After(until) {
		return nil, fmt.Errorf("the certificate %s expired at %s", c.certFile, until.Format(time.RFC3339))
	}
	return &pair, nil
}

func (c *Certificate) look() (all [2]fs.FileInfo) {
	for i, name := range []string{c.certFile, c.keyFile} {
		all[i], _ = os.Stat(name) // nil: it is not there
	}
	return all
}

// same reports whether a file did not change between two calls of Stat.
func same(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == b
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}
