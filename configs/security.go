package configs

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/wxcourier/wxcourier/wechat"
)

// checkSecurity checks the key material of the API security mode.
func (d *decoder) checkSecurity(key string, app App) {
	if !app.Security.Configured() {
		return
	}
	_, err := wechat.NewSecurity(app.ID, app.Security)
	for _, fault := range flatten(err) {
		name, problem, _ := strings.Cut(fault.Error(), ": ")
		// A file that could not be read is reported already.
		if !d.hasProblem(key+"."+name+"_file") && !d.hasProblem(key+"."+strings.TrimSuffix(name, "pem")+"file") {
			d.problem(key+"."+name, "%s", problem)
		}
	}
}

// securityFiles reads the files of the API security mode.
func (d *decoder) securityFiles(key string, c *wechat.SecurityConfig) {
	d.secretFile(key+".symmetric_key_file", c.SymmetricKeyFile, &c.SymmetricKey)
	text := d.pemFile(key+".private_key_file", c.PrivateKeyFile, "private_key", c.PrivateKey != "")
	if text != "" {
		c.PrivateKey = wechat.Secret(text)
	}
	for i := range c.Certificates {
		one := &c.Certificates[i]
		if text := d.pemFile(fmt.Sprintf("%s.certificates[%d].file", key, i), one.File, "pem", one.PEM != ""); text != "" {
			one.PEM = text
		}
	}
}

// maxPEM is the maximum size of a file in PEM, in bytes.
const maxPEM = 64 << 10

// pemFile reads a file in PEM. other is the key that may be set in place of it, and set whether it is.
func (d *decoder) pemFile(key, path, other string, set bool) string {
	if path == "" {
		return ""
	}
	if set {
		d.problem(key, "set together with %s: remove one of the two", other)
		return ""
	}
	d.paths = append(d.paths, path)
	text, err := readFile(path, maxPEM)
	switch {
	case err == nil && len(text) > maxPEM:
		err = errors.New(path + " is larger than 64 KB")
	case err == nil && len(bytes.TrimSpace(text)) == 0:
		err = errors.New(path + " is empty")
	}
	if err != nil {
		d.problem(key, "cannot read it: %v", err)
		return ""
	}
	return string(text)
}
