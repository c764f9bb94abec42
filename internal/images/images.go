// Package images writes the images of codes, which results name but do not contain, as files of a
// folder.
//
//	dir := images.Folder("codes")
//	err := dir.Make()
//	err = dir.Save(ctx, client, result, false) // codes/<app>-<id>.png
package images

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/wxcourier/wxcourier/tasks"
)

// Folder is the path of the folder that images are written to; with "" none are written.
type Folder string

// Make makes the folder, unless it exists.
func (dir Folder) Make() error {
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

func (dir Folder) name(r tasks.Result, suffix string) string {
	return filepath.Join(string(dir), r.App+"-"+r.ID+suffix)
}

// Has reports whether the image of a result exists; true for a result without one.
func (dir Folder) Has(r tasks.Result) bool {
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

// Save reads the image of a result, if it has one, from Redis and writes it to <app>-<id>.png, or
// .jpg or .gif by its format. With fsync the file is synced to disk.
func (dir Folder) Save(ctx context.Context, client *tasks.Client, r tasks.Result, fsync bool) error {
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
