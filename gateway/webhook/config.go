package webhook

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/wxcourier/wxcourier/internal/suggest"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// Endpoint is an entry of the list `webhooks` of the configuration.
type Endpoint struct {
	// Name names the endpoint, in commands, metrics and Redis: a-z, 0-9 and "-", at most 40
	// characters. With a new name the endpoint starts anew, with the results from then on.
	Name string `yaml:"name"`
	// URL is where results are sent, by POST: https, or http for an address in AllowPrivate.
	URL string `yaml:"url"`
	// Secret signs the calls: "whsec_" and at least 24 bytes in base64, or a text of at least 24
	// bytes.
	Secret wechat.Secret `yaml:"secret"`
	// SecretFile is the path of a file with the secret, used in place of Secret.
	SecretFile string `yaml:"secret_file"`
	// Apps are the apps whose results are sent. Default: all.
	Apps []string `yaml:"apps"`
	// Types are the task types whose results are sent, such as send:subscribe, or a kind, such as
	// send:*. Default: all.
	Types []string `yaml:"types"`
	// Outcomes are the outcomes that are sent. Default: all, and none if Receipts is set.
	Outcomes []tasks.Outcome `yaml:"outcomes"`
	// Receipts are the receipts that are sent, as results of their own. Default: all, and none if
	// Outcomes is set.
	Receipts []tasks.DeliveryReceipt `yaml:"receipts"`
	// AllowPrivate are addresses and networks (10.1.2.3, 10.0.0.0/8, ::1) that the URL may lead to
	// although they are not public. Default: none.
	AllowPrivate []string `yaml:"allow_private"`
}

const (
	secretPrefix = "whsec_"
	minSecret    = 24 // bytes, as Standard Webhooks asks for
	maxName      = 40
)

var namePattern = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$`)

// Validate reports all problems of a list at once, each of the form "[0].url: problem".
func Validate(endpoints []Endpoint) error {
	var faults []error
	first := make(map[string]int)
	for i, e := range endpoints {
		fault := func(key, format string, args ...any) {
			faults = append(faults, fmt.Errorf("[%d]%s: %s", i, key, fmt.Sprintf(format, args...)))
		}
		switch earlier, twice := first[e.Name]; {
		case e.Name == "":
			fault(".name", "required: a name such as crm")
		case len(e.Name) > maxName || !namePattern.MatchString(e.Name):
			fault(".name", "%q is not a name: a-z, 0-9 and - between them, at most %d characters", e.Name, maxName)
		case twice:
			fault(".name", "%s is configured twice; the first is webhooks[%d]", e.Name, earlier)
		default:
			first[e.Name] = i
		}
		e.validate(fault)
	}
	return errors.Join(faults...)
}

// validate reports the problems of one endpoint but those of its name.
func (e Endpoint) validate(fault func(key, format string, args ...any)) {
	e.validateTarget(fault)
	for i, app := range e.Apps {
		if !tasks.ValidApp(app) {
			fault(fmt.Sprintf(".apps[%d]", i), `%q is not an app id: "wx" and 16 of the characters 0-9 and a-f`, app)
		}
	}
	names := append(tasks.Types(), kinds()...)
	for i, name := range e.Types {
		if !slices.Contains(names, name) {
			fault(fmt.Sprintf(".types[%d]", i), "there is no task type %q%s", name, nearest(name, names))
		}
	}
	var outcomes []string
	for _, o := range tasks.Outcomes() {
		outcomes = append(outcomes, string(o))
	}
	for i, o := range e.Outcomes {
		if !slices.Contains(outcomes, string(o)) {
			fault(fmt.Sprintf(".outcomes[%d]", i), "%q is not an outcome; they are %s", o, strings.Join(outcomes, ", "))
		}
	}
	for i, receipt := range e.Receipts {
		if !slices.Contains(tasks.DeliveryReceipts(), receipt) {
			fault(fmt.Sprintf(".receipts[%d]", i), "%q is not a receipt; they are delivered, blocked, failed", receipt)
		}
	}
}

// validateTarget reports the problems of where the calls go, and of what signs them.
func (e Endpoint) validateTarget(fault func(key, format string, args ...any)) {
	for i, text := range e.AllowPrivate {
		if _, err := parseNetwork(text); err != nil {
			fault(fmt.Sprintf(".allow_private[%d]", i), "%q is neither an address nor a network, such as 10.1.2.3 or 10.0.0.0/8", text)
		}
	}
	e.validateURL(fault)
	if e.Secret == "" {
		fault(".secret", "required: secret_file, or secret; `openssl rand -base64 32` makes one")
	} else if _, err := e.key(); err != nil {
		fault(".secret", "%v", err)
	}
}

// validateURL does not quote the URL, which may hold a password or a key.
func (e Endpoint) validateURL(fault func(key, format string, args ...any)) {
	u, err := url.Parse(e.URL)
	switch {
	case e.URL == "":
		fault(".url", "required: the address that results are sent to, such as https://crm.example.com/wechat")
		return
	case err != nil || u.Hostname() == "":
		fault(".url", "is not an address such as https://crm.example.com/wechat")
		return
	case u.User != nil:
		fault(".url", "holds a user name or a password; calls are signed with secret instead")
	case u.Fragment != "":
		fault(".url", "holds a fragment (#…), which is never sent")
	}
	switch {
	case u.Scheme == "http" && len(e.AllowPrivate) == 0:
		fault(".url", "must begin with https://; http is for addresses in allow_private alone")
	case u.Scheme != "http" && u.Scheme != "https":
		fault(".url", "must begin with https://")
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil {
		if err := e.guard().check(ip); err != nil {
			fault(".url", "%v; add it to allow_private if results are to be sent there", err)
		}
	}
}

// key returns the bytes that sign. Its error does not quote the secret.
func (e Endpoint) key() ([]byte, error) {
	text := e.Secret.Reveal()
	key := []byte(text)
	if encoded, ok := strings.CutPrefix(text, secretPrefix); ok {
		var err error
		if key, err = base64.StdEncoding.DecodeString(encoded); err != nil {
			return nil, errors.New("is not base64 after whsec_")
		}
	}
	if len(key) < minSecret {
		return nil, fmt.Errorf("has %d bytes, at least %d are required; `openssl rand -base64 32` makes one", len(key), minSecret)
	}
	return key, nil
}

// guard returns what the endpoint may be connected to. AllowPrivate is valid.
func (e Endpoint) guard() guard {
	g := guard{onlyAllowed: strings.HasPrefix(e.URL, "http:")}
	for _, text := range e.AllowPrivate {
		if network, err := parseNetwork(text); err == nil {
			g.allowed = append(g.allowed, network)
		}
	}
	return g
}

// wants reports whether a result is sent. Its type, outcome, receipt and finished_at are set.
func (e Endpoint) wants(r tasks.Result) bool {
	if len(e.Outcomes)+len(e.Receipts) > 0 {
		wanted := slices.Contains(e.Outcomes, r.Outcome)
		if r.IsReceipt() {
			wanted = slices.Contains(e.Receipts, r.Receipt)
		}
		if !wanted {
			return false
		}
	}
	kind, _, _ := strings.Cut(r.Type, ":")
	return len(e.Types) == 0 || slices.Contains(e.Types, r.Type) || slices.Contains(e.Types, kind+":*")
}

// WantsApp reports whether the results of an app are sent.
func (e Endpoint) WantsApp(app string) bool { return len(e.Apps) == 0 || slices.Contains(e.Apps, app) }

func (e Endpoint) equal(o Endpoint) bool {
	return e.Name == o.Name && e.URL == o.URL && e.Secret == o.Secret && slices.Equal(e.Apps, o.Apps) &&
		slices.Equal(e.Types, o.Types) && slices.Equal(e.Outcomes, o.Outcomes) && slices.Equal(e.Receipts, o.Receipts) && slices.Equal(e.AllowPrivate, o.AllowPrivate)
}

// fingerprint changes with the URL. Redis keeps it with an endpoint that an answer 410 has disabled.
func (e Endpoint) fingerprint() string {
	sum := sha256.Sum256([]byte(e.URL))
	return hex.EncodeToString(sum[:8])
}

// kinds returns the kinds of the task types, such as send:*.
func kinds() []string {
	var all []string
	for _, typ := range tasks.Types() {
		kind, _, _ := strings.Cut(typ, ":")
		all = append(all, kind+":*")
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func nearest(name string, names []string) string {
	if best, ok := suggest.Name(name, names); ok {
		return "; did you mean " + best + "?"
	}
	return "; they are " + strings.Join(names, ", ")
}
