// Command producer shows how a business service uses wxcourier: a small shop that notifies
// people when their order is shipped, and makes links that open its mini program.
//
//	go run ./examples/producer -redis 127.0.0.1:6379 -app wx0123456789abcdef -template TEMPLATE_ID
//
//	curl -X POST localhost:8081/orders/42/shipped -d '{"openid":"oSubscriber42","tracking":"SF1234567890"}'
//	curl localhost:8081/orders/42/shipped
//	curl -X POST localhost:8081/link -d '{"path":"pages/index/index","query":"id=123"}'
//
// It only enqueues. wxcourier worker on the same Redis delivers the tasks; for a trial use
// wxcourier dev, which prints the address of its Redis and its apps.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/tasks"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		slog.Error("producer failed", "err", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	listen := flag.String("listen", "127.0.0.1:8081", "where to serve HTTP")
	addr := flag.String("redis", "127.0.0.1:6379", "the Redis that the workers share")
	app := flag.String("app", "wx0123456789abcdef", "the mini program's app id")
	template := flag.String("template", "TEMPLATE_ID", "the id of the template of the shipping message")
	flag.Parse()

	rdb := redis.NewClient(&redis.Options{Addr: *addr})
	defer func() { _ = rdb.Close() }()
	client := tasks.NewClient(rdb)
	defer client.Close()
	s := &shop{
		tasks: client, app: *app, template: *template,
		linkTimeout: 10 * time.Second, now: time.Now,
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", *listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", *listen, err)
	}
	slog.Info("listening", "addr", l.Addr().String())
	return serve(ctx, l, s.handler())
}

// serve serves HTTP on l until ctx ends, and then finishes the requests in progress.
func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	err := server.Shutdown(grace)
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
