package main

import (
	"bytes"
	"fmt"
	"io"

	"github.com/wxcourier/wxcourier/internal/printable"
)

// stdLogWriter is where the standard logger of the process writes to. Our own code does not
// use that logger; net/http does, and quotes the bytes of a connection there, which may be
// an answer with a token or an openid in it. Those are left out. (Package wechat keeps them
// from net/http, except under the TLS of a connection through a proxy.)
type stdLogWriter struct{ w io.Writer }

func (l stdLogWriter) Write(line []byte) (int, error) {
	text, _, cut := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" starting with "))
	if cut {
		text = append(bytes.Clone(text), " (its bytes are left out)"...)
	}
	if _, err := fmt.Fprintln(l.w, printable.Escape(string(text))); err != nil {
		return 0, err
	}
	return len(line), nil
}
