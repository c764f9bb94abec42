package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/printable"
)

type keyCommand struct {
	New    keyNewCommand    `cmd:"" help:"Make a key and print it."`
	List   keyListCommand   `cmd:"" help:"List the keys and what they allow."`
	Revoke keyRevokeCommand `cmd:"" help:"Revoke keys."`
}

func (keyCommand) Help() string {
	return `Maintains gateway.keys_file, the keys with which clients of the gateway identify themselves. The file has one key a line, as JSON, with the SHA-256 of the key in place of the key. Gateways read it again within 10 s of a change.`
}

type keyNewCommand struct {
	ID      string   `required:"" placeholder:"ID" help:"Name of the key, such as the service that uses it."`
	App     []string `placeholder:"ID" help:"Only this app; may be repeated. Default: all apps."`
	Scope   []string `default:"enqueue,read" placeholder:"SCOPE" help:"What the key allows: enqueue, read, operate, token, call (default ${default})."`
	Rate    float64  `placeholder:"N" help:"At most so many requests per second to each gateway; a batch is one request."`
	MaxBody string   `placeholder:"SIZE" help:"Maximum size of a request, such as 512KiB. Default: 16MiB, and none for a batch."`
	Path    []string `placeholder:"PATTERN" help:"With the scope call: also these paths of WeChat, such as /wxa/business/*; may be repeated."`
	Expires string   `placeholder:"TIME" help:"When the key ends: after a time such as 90d or 12h, or at one such as 2026-12-01T08:00:00+08:00."`
}

func (keyNewCommand) Help() string {
	return `Prints the key alone on standard output, and adds its line to gateway.keys_file. The key itself is stored nowhere: who loses it needs a new one.

Scopes: enqueue (enqueue and cancel tasks), read (tasks, results, batches, holds; the asynq web UI), operate (redrive, hold, release), token (get WeChat's access token), call (call WeChat's own paths under /wechat/).

Examples:
    wxcourier key new --id orders > orders.key
    wxcourier key new --id shop --app wx0123456789abcdef --scope enqueue,read --rate 200 --expires 90d
    wxcourier key new --id php-sdk --scope call --path '/wxa/business/*'`
}

// Run makes a key.
func (c *keyNewCommand) Run(p *program) error {
	path, cfg, err := p.keysFile()
	if err != nil {
		return err
	}
	k, err := c.key(time.Now())
	if err != nil {
		return err
	}
	key, err := apikey.Add(path, k)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(p.stdout, key); err != nil {
		return errors.Join(err, apikey.Revoke(path, []string{c.ID})) // the key was not printed, so it cannot be used
	}
	p.notef("The key %s was added to %s. It is shown only this once. Gateways accept it within 10 s, as the header\nAuthorization: Bearer KEY", c.ID, path)
	for _, id := range k.Apps {
		if !app.Known(cfg.Apps, id) {
			p.notef("note: app %s is not configured in %s", id, p.configName())
		}
	}
	p.noteLooseMode(path)
	return nil
}

// key returns the key that the flags describe.
func (c *keyNewCommand) key(now time.Time) (apikey.Key, error) {
	k := apikey.Key{ID: c.ID, Apps: c.App, Rate: c.Rate, Paths: c.Path}
	if !apikey.ValidID(c.ID) {
		return k, usageErrorf(`--id: %.80q is not an id: 1 to 64 of a-z, 0-9, "-" and ".", and not "local"`, c.ID)
	}
	if err := apikey.CheckApps(c.App); err != nil {
		return k, usageErrorf("--app: %v", err)
	}
	var err error
	if k.Scopes, err = apikey.ParseScopes(c.Scope); err != nil {
		return k, usageErrorf("--scope: %v", err)
	}
	if c.Rate != 0 {
		if err := apikey.CheckRate(c.Rate); err != nil {
			return k, usageErrorf("--rate: %v", err)
		}
	}
	if c.MaxBody != "" {
		if k.MaxBody, err = apikey.ParseSize(c.MaxBody); err != nil {
			return k, usageErrorf("--max-body: %v", err)
		}
	}
	if err := apikey.CheckPaths(c.Path); err != nil {
		return k, usageErrorf("--path: %v", err)
	}
	if len(c.Path) > 0 && !k.Allows(apikey.Call) {
		return k, usageErrorf("--path: only keys with the scope call may call WeChat's paths; add --scope call")
	}
	k.Expires, err = keyExpiry(c.Expires, now)
	return k, err
}

// keyExpiry returns when a key ends; zero: never.
func keyExpiry(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		var after time.Duration
		if days, found := strings.CutSuffix(text, "d"); found {
			n, dayErr := strconv.ParseUint(days, 10, 16)
			after, err = time.Duration(n)*24*time.Hour, dayErr
		} else {
			after, err = time.ParseDuration(text)
		}
		at = now.Add(after).UTC().Truncate(time.Second)
	}
	if err != nil {
		return at, usageErrorf("--expires: %.80q is not a time such as 90d, 12h or 2026-12-01T08:00:00+08:00", text)
	}
	if !at.After(now) {
		return at, usageErrorf("--expires: %.80s has passed; the time is %s", text, now.Format(time.RFC3339))
	}
	return at, nil
}

type keyListCommand struct {
	JSON bool `help:"Print JSON, one line per key."`
}

func (keyListCommand) Help() string {
	return `Lists the keys of gateway.keys_file, with what they allow. The keys themselves, and their hashes, are not shown.

Examples:
    wxcourier key list
    wxcourier key list --json`
}

// keyEntry is a line of key list --json.
type keyEntry struct {
	ID      string         `json:"id"`
	Apps    []string       `json:"apps,omitempty"` // none: all
	Scopes  []apikey.Scope `json:"scopes"`
	Rate    float64        `json:"rate,omitempty"`     // 0: unlimited
	MaxBody int64          `json:"max_body,omitempty"` // 0: the default
	Paths   []string       `json:"paths,omitempty"`
	Created *time.Time     `json:"created,omitempty"`
	Expires *time.Time     `json:"expires,omitempty"`
	Expired bool           `json:"expired"`
}

// Run lists the keys.
func (c *keyListCommand) Run(p *program) error {
	path, _, err := p.keysFile()
	if err != nil {
		return err
	}
	keys, err := apikey.List(path)
	if err != nil {
		return err
	}
	p.noteLooseMode(path)
	now := time.Now()
	if c.JSON {
		out := printable.NewJSONLines(p.stdout)
		for _, k := range keys {
			_ = out.Write(entryOf(k, now)) // Flush returns the error
		}
		return out.Flush()
	}
	if len(keys) == 0 {
		p.notef("%s has no keys; `wxcourier key new --id ID` makes one", path)
		return nil
	}
	return writeKeys(p.stdout, keys, now)
}

func entryOf(k *apikey.Key, now time.Time) keyEntry {
	entry := keyEntry{ID: k.ID, Apps: k.Apps, Scopes: k.Scopes, Rate: k.Rate, MaxBody: k.MaxBody, Paths: k.Paths}
	if !k.Created.IsZero() {
		entry.Created = &k.Created
	}
	if !k.Expires.IsZero() {
		entry.Expires, entry.Expired = &k.Expires, !now.Before(k.Expires)
	}
	return entry
}

func writeKeys(w io.Writer, keys []*apikey.Key, now time.Time) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "ID\tSCOPES\tAPPS\tRATE\tMAX BODY\tPATHS\tCREATED\tEXPIRES")
	for _, k := range keys {
		var scopes []string
		for _, s := range k.Scopes {
			scopes = append(scopes, string(s))
		}
		limit, size, expires := "-", "-", cmp.Or(stamp(k.Expires), "-")
		if k.Rate > 0 {
			limit = strconv.FormatFloat(k.Rate, 'g', -1, 64) + "/s"
		}
		if k.MaxBody > 0 {
			size = apikey.FormatSize(k.MaxBody)
		}
		if entryOf(k, now).Expired {
			expires += " (expired)"
		}
		_, _ = fmt.Fprintln(table, strings.Join([]string{
			k.ID, strings.Join(scopes, ","), cmp.Or(strings.Join(k.Apps, ","), "all"), limit, size,
			cmp.Or(printable.Escape(strings.Join(k.Paths, ",")), "-"), cmp.Or(stamp(k.Created), "-"), expires,
		}, "\t"))
	}
	return table.Flush()
}

type keyRevokeCommand struct {
	IDs []string `arg:"" name:"id" help:"Ids of the keys."`
}

func (keyRevokeCommand) Help() string {
	return `Removes keys from gateway.keys_file. Within 10 s gateways refuse them, and end the streams and tickets that were opened with them.

Examples:
    wxcourier key revoke orders
    wxcourier key revoke shop php-sdk`
}

// Run revokes keys.
func (c *keyRevokeCommand) Run(p *program) error {
	path, _, err := p.keysFile()
	if err != nil {
		return err
	}
	if err := apikey.Revoke(path, c.IDs); err != nil {
		return err
	}
	p.notef("Revoked: %s. Gateways refuse them within 10 s.", strings.Join(c.IDs, ", "))
	p.noteLooseMode(path)
	return nil
}

// keysFile returns the path of the configured file of keys.
func (p *program) keysFile() (path string, cfg configs.Config, err error) {
	cfg, err = p.configuration()
	if err == nil && cfg.Gateway.KeysFile == "" {
		err = usageErrorf("key: no file for the keys is configured.\nSet gateway.keys_file in %s, or $WXCOURIER_GATEWAY_KEYS_FILE, to a path such as /etc/wxcourier/keys.", p.configName())
	}
	return cfg.Gateway.KeysFile, cfg, err
}

// noteLooseMode warns when other users can read or change the file of the keys.
func (p *program) noteLooseMode(path string) {
	if mode, loose := apikey.LooseMode(path); loose {
		p.notef("note: other users can read or change %s (mode %04o): chmod 600 it", path, mode)
	}
}
