package main

import (
	"bytes"
	"fmt"
	"io"

	"github.com/wxcourier/wxcourier/internal/printable"
)

// stdLogWriter is the output of the process' standard logger, which only net/http uses. net/http
// quotes received bytes there, which may hold a token or an openid; stdLogWriter omits them.
// (Package wechat keeps such bytes from net/http, except under the TLS of a connection through a
// proxy.)
type stdLogWriter struct{ w io.Writer }

func (l stdLogWriter) Write(line []byte) (int, error) {
	text, _, cut := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" starting with "))
	if cut {
		text = append(bytes.Clone(text), " (its bytes are omitted)"...)
	}
	if _, err := fmt.Fprintln(l.w, printable.Escape(string(text))); err != nil {
		return 0, err
	}
	return len(line), nil
}
