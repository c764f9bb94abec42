package app

import (
	"context"
	"net/http"

	"github.com/wxcourier/wxcourier/gateway/proxy"
	"github.com/wxcourier/wxcourier/internal/templates"
	"github.com/wxcourier/wxcourier/internal/templates/refresh"
	"github.com/wxcourier/wxcourier/wechat"
)

// Templates returns what is known of the message templates of an app, nil for nothing.
func (p *Parts) Templates(ctx context.Context, app string) (*templates.Registry, error) {
	return templates.Read(ctx, p.Redis, app)
}

// RefreshTemplates asks WeChat for the message templates of an app now, under its holds, and returns
// what is known then. The error is refresh.ErrBusy or one of Redis; WeChat's are in the registry.
func (p *Parts) RefreshTemplates(ctx context.Context, app string) (*templates.Registry, error) {
	caller, err := proxy.NewCaller(p.Config.Gateway.Wait, proxy.CallerDeps{
		Redis: p.Redis, Limiter: p.Limiter, WeChat: p.WeChat, Log: p.Log, Tracer: p.Tracer(),
	})
	if err != nil {
		return nil, err
	}
	defer caller.Close()
	var mode templates.Mode
	for _, configured := range p.Current().Apps {
		if configured.ID == app {
			mode = configured.Templates.Mode()
		}
	}
	call := func(ctx context.Context, app string, endpoint wechat.Endpoint) (wechat.RawAnswer, error) {
		return caller.Do(ctx, proxy.Request{App: app, Path: string(endpoint), Method: http.MethodGet})
	}
	return refresh.New(p.Redis, call, p.Log, nil).Refresh(ctx, app, mode)
}
