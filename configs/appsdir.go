package configs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
)

const (
	// appsDirKey is the key of Config.AppsDir, and appsDirVariable its variable. The variables of
	// apps apply to those of the folder too, so that the folder is read before the environment.
	appsDirKey      = "apps_dir"
	appsDirVariable = variablePrefix + "APPS_DIR"
	// appFile is what the name of a file of the folder ends with. Other files, and those whose names
	// begin with a dot, are ignored: editors and Kubernetes keep their own there.
	appFile = ".yaml"
)

// appsDir adds the apps of the folder cfg.AppsDir, in the order of the names of their files. path
// is the main file, "" for none.
func (d *decoder) appsDir(path string, environ []string, cfg *Config) {
	dir := cfg.AppsDir
	for _, entry := range environ {
		if value, ok := strings.CutPrefix(entry, appsDirVariable+"="); ok && value != "" {
			dir = value
		}
	}
	if dir == "" {
		return
	}
	if path != "" && !filepath.IsAbs(dir) {
		dir = filepath.Join(filepath.Dir(path), dir)
	}
	d.paths = append(d.paths, dir)
	names, err := AppFiles(dir)
	if err != nil {
		d.problem(appsDirKey, "cannot read the folder: %v", err)
		return
	}
	for _, name := range names {
		d.appFile(filepath.Join(dir, name), cfg)
	}
}

// AppFiles returns the sorted names of the files of a folder that hold apps, as apps_dir reads it.
func AppFiles(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") || !strings.HasSuffix(name, appFile) {
			continue
		}
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.IsDir() { // a symbolic link counts as its file
			continue
		}
		names = append(names, name)
	}
	return names, nil
}

// appFile adds the app of one file.
func (d *decoder) appFile(path string, cfg *Config) {
	key := appKey(len(cfg.Apps))
	d.reading = path
	d.from[key] = origin{file: path}
	added := len(cfg.Apps)
	defer func() {
		d.reading = ""
		if len(cfg.Apps) == added {
			delete(d.from, key)
		}
	}()
	clear(d.anchors) // of another file
	text, err := d.readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return // deleted since the folder was listed
		}
	}
	if err != nil {
		d.problems = append(d.problems, Problem{File: path, Message: fmt.Sprintf("cannot read the file: %v", errors.Unwrap(err))})
		return
	}
	var app App
	problems := len(d.problems)
	d.document(text, reflect.ValueOf(&app).Elem(), key)
	if app.ID == "" && len(d.problems) > problems {
		return // not YAML, or another mistake that hides the id
	}
	cfg.Apps = append(cfg.Apps, app)
}

// appPlace names the place of an app in the configuration: its file in apps_dir, or else its key.
func (d *decoder) appPlace(i int) string {
	switch from := d.from[appKey(i)]; {
	case from.file != "":
		return "in " + from.file
	case from.line > 0:
		return fmt.Sprintf("%s in line %d", appKey(i), from.line)
	}
	return appKey(i)
}
