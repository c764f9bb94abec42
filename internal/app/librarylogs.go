package app

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/printable"
)

// RedirectLibraryLogs gives the loggers that libraries write to by themselves an output that is safe
// to print, for the whole process. go-redis' is silenced: it returns its errors from each call, and
// would only repeat them.
func RedirectLibraryLogs(w io.Writer) {
	redis.SetLogger(discardLogger{})
	log.SetOutput(stdLogWriter{w})
}

type discardLogger struct{}

func (discardLogger) Printf(context.Context, string, ...any) {}

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
