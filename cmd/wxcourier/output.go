package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/wxcourier/wxcourier/internal/printable"
	"github.com/wxcourier/wxcourier/tasks"
)

// jsonLines writes values as JSON Lines. It is safe for concurrent use. After the first error it
// writes nothing more.
type jsonLines struct {
	mu      sync.Mutex
	buffer  *bufio.Writer // guarded by mu
	encoder *json.Encoder // guarded by mu
	err     error         // guarded by mu
}

// escapedJSON writes JSON with terminal control characters escaped. Each Write must be a whole
// value.
type escapedJSON struct{ w io.Writer }

func (e escapedJSON) Write(value []byte) (int, error) {
	if _, err := e.w.Write(printable.EscapeJSON(value)); err != nil {
		return 0, err
	}
	return len(value), nil
}

func newJSONLines(w io.Writer) *jsonLines {
	buffer := bufio.NewWriterSize(w, 64<<10)
	encoder := json.NewEncoder(escapedJSON{buffer}) // Encode makes one Write per value
	encoder.SetEscapeHTML(false)
	return &jsonLines{buffer: buffer, encoder: encoder}
}

func (l *jsonLines) write(v any) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = l.encoder.Encode(v)
	}
	return l.err
}

func (l *jsonLines) flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = l.buffer.Flush()
	}
	return l.err
}

// imageFolder is the folder that images of codes are written to; with "" none are written.
type imageFolder string

func (dir imageFolder) prepare() error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(string(dir), 0o755); err != nil { //nolint:gosec // pictures for others to look at
		return fmt.Errorf("make the folder for images: %w", err)
	}
	return nil
}

// suffixes returns the file name suffixes of images by media type.
func suffixes() map[string]string {
	return map[string]string{"image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif"}
}

func (dir imageFolder) name(r tasks.Result, suffix string) string {
	return filepath.Join(string(dir), r.App+"-"+r.ID+suffix)
}

// has reports whether the image of a result exists; true for a result without one.
func (dir imageFolder) has(r tasks.Result) bool {
	if dir == "" || r.Image == "" {
		return true
	}
	for _, suffix := range suffixes() {
		if _, err := os.Stat(dir.name(r, suffix)); err == nil {
			return true
		}
	}
	_, err := os.Stat(dir.name(r, ""))
	return err == nil
}

// save writes the image of a result, if it has one, to DIR/<app>-<id>.png. With fsync the file is
// synced to disk.
func (dir imageFolder) save(ctx context.Context, client *tasks.Client, r tasks.Result, fsync bool) error {
	if dir == "" || r.Image == "" {
		return nil
	}
	image, err := client.Image(ctx, r.App, r.ID)
	if errors.Is(err, tasks.ErrNotFound) {
		return fmt.Errorf("the image of task %s is no longer kept", r.ID)
	}
	if err != nil {
		return fmt.Errorf("read the image of task %s: %w", r.ID, err)
	}
	if err := writeImage(dir.name(r, suffixes()[tasks.ImageType(image)]), image, fsync); err != nil {
		return fmt.Errorf("write the image of task %s: %w", r.ID, err)
	}
	return nil
}

func writeImage(name string, image []byte, fsync bool) error {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644) //nolint:gosec // a picture for others to look at
	if err != nil {
		return err
	}
	_, err = file.Write(image)
	if err == nil && fsync {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}
