package wechat

import (
	"bytes"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"regexp"
	"strings"
)

var imageMediaType = regexp.MustCompile(`^image/[a-z0-9.+-]+$`)

// multipartMedia builds the form that img_sec_check requires: one file in the field "media".
// The part must have a file name; WeChat detects the format from the content.
// https://developers.weixin.qq.com/miniprogram/dev/server/API/sec-center/sec-check/api_imgseccheck.html
func multipartMedia(media []byte, mediaType string) (body []byte, contentType string, err error) {
	if mediaType == "" {
		mediaType = http.DetectContentType(media)
	}
	if !imageMediaType.MatchString(mediaType) {
		return nil, "", fmt.Errorf("media type %q is not an image type", mediaType)
	}
	name := "media." + strings.TrimPrefix(mediaType, "image/")
	var buf bytes.Buffer
	buf.Grow(len(media) + 512)
	w := multipart.NewWriter(&buf)
	part, err := w.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {fmt.Sprintf(`form-data; name="media"; filename=%q`, name)},
		"Content-Type":        {mediaType},
	})
	if err != nil {
		return nil, "", fmt.Errorf("build the form: %w", err)
	}
	if _, err := part.Write(media); err != nil {
		return nil, "", fmt.Errorf("build the form: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, "", fmt.Errorf("build the form: %w", err)
	}
	return buf.Bytes(), w.FormDataContentType(), nil
}

// ImageForm returns the body and the content type of an upload of an image, as the checks of images
// take it.
func ImageForm(image []byte) (body []byte, contentType string, err error) {
	return multipartMedia(image, "")
}
