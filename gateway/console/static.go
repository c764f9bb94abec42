package console

import (
	"embed"
	"net/http"
)

//go:embed static
var staticFiles embed.FS

func (c *Console) serveStatic() {
	c.mux.Handle("GET /static/", http.FileServerFS(staticFiles))
}
