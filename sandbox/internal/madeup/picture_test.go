package madeup

import (
	"bytes"
	"testing"
)

// Clients may request any width; the cache keeps a bounded number.
func TestPictureCacheIsBounded(t *testing.T) {
	var p Pictures
	for i := range keptPictures + 5 {
		if image := p.Draw(Picture{Width: 280 + i}); !bytes.HasPrefix(image, []byte("\xff\xd8\xff")) {
			t.Fatalf("width %d: not a JPEG", 280+i)
		}
	}
	if got := len(p.drawn); got != keptPictures {
		t.Errorf("%d images are cached, want %d", got, keptPictures)
	}
}
