package dev

import (
	"html/template"
	"net/http"
)

// startPath is the path of the page with the first steps.
const startPath = "/start"

// startPage is the page with the first steps.
type startPage struct {
	Command string // that starts this program
	Redis   string // address
	WeChat  string // URL
	Apps    []string
	Host    string // of the request, which the guard has checked
}

// ServeHTTP shows the page.
func (p startPage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	page := template.Must(template.New("start").Parse(startPageHTML))
	p.Host = r.Host
	_ = page.Execute(w, p) // the reader may have gone
}

const startPageHTML = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>First steps · wxcourier dev</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem; color: #222; background: #fff }
pre { background: #f4f4f4; padding: .8rem; overflow-x: auto } code { font-size: .9em }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818 } pre { background: #262626 } a { color: #8bf } }
</style>
<h1>wxcourier dev</h1>
<p>Redis, a worker, the gateway and a stand-in for WeChat run in this process. No messages are sent, and nothing is kept after exit.</p>
<ul>
<li><a href="/">Console</a>: what waits, what is held until when, how much of today is left, and what became of each task.</li>
<li><a href="/monitor">Queues</a>: the asynq web UI. Pause one queue: the others continue. Completed tasks stay for ten minutes (<code>results.asynq_retention</code>). Its page Servers lists this worker as <code>wxcourier-replica</code>, also while it is idle; <code>wxcourier status</code> lists the workers with their versions.</li>
<li><a href="/metrics">Metrics</a> for Prometheus, <a href="/healthz">health</a>, <a href="/readyz">readiness</a>.</li>
<li><a href="{{.WeChat}}/sandbox/counts">Calls to WeChat</a>, and <a href="{{.WeChat}}/sandbox/duplicates">messages delivered twice</a> (always empty).</li>
</ul>
<h2>Try</h2>
<p>Enqueue a task of your own, in another terminal, in the folder in which you started this:</p>
<pre tabindex="0"><code>echo '{"type":"send:custom","app":"{{index .Apps 0}}","body":{"touser":"oMe","msgtype":"text","text":{"content":"Hello"}}}' |
  WXCOURIER_REDIS_ADDRS={{.Redis}} {{.Command}} enqueue -</code></pre>
<p>Or over HTTP, from a service in any language (<a href="/docs">the API</a>):</p>
<pre tabindex="0"><code>curl -d '{"type":"send:custom","app":"{{index .Apps 0}}","body":{"touser":"oMe","msgtype":"text","text":{"content":"Hello"}}}' http://{{.Host}}/v1/tasks</code></pre>
<p>Follow the results:</p>
<pre tabindex="0"><code>WXCOURIER_REDIS_ADDRS={{.Redis}} {{.Command}} results --follow</code></pre>
<p>Let WeChat answer the next 20 calls with "busy":</p>
<pre tabindex="0"><code>curl -d '{"fault":"busy","count":20}' {{.WeChat}}/sandbox/faults</code></pre>
<p>A Go service enqueues with <code>tasks.NewClient</code>, or with any asynq client, at <code>{{.Redis}}</code>. Apps served here:</p>
<ul>{{range .Apps}}<li><code>{{.}}</code></li>{{end}}</ul>
</html>
`
