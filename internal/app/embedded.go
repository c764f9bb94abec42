package app

import (
	"context"
	"crypto/rand"
	"log/slog"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/app/httpserver"
	"github.com/wxcourier/wxcourier/internal/embedded"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/wechat"
)

// StartRedis starts a Redis inside the process and points the configuration at it, until stop is
// called. Any process on this machine can connect to it.
func StartRedis(cfg *configs.Config) (stop func(), err error) {
	server, err := embedded.Start()
	if err != nil {
		return nil, err
	}
	cfg.Redis = configs.Redis{Addrs: []string{server.Addr()}}
	return server.Close, nil
}

// StartPrivateRedis is StartRedis with a random password, for a Redis that holds real tokens.
func StartPrivateRedis(cfg *configs.Config) (stop func(), err error) {
	server, err := embedded.Start()
	if err != nil {
		return nil, err
	}
	password := rand.Text()
	server.Protect(password)
	cfg.Redis = configs.Redis{Addrs: []string{server.Addr()}, Password: wechat.Secret(password)}
	return server.Close, nil
}

// StartSandbox starts a stand-in for WeChat inside the process and points the configuration at it,
// until stop is called.
func StartSandbox(cfg *configs.Config, options sandbox.Options) (wx *sandbox.Server, stop func()) {
	wx = sandbox.New(options)
	cfg.WeChat.BaseURL, stop = wx.Start()
	return wx, stop
}

// ServeSandbox serves a stand-in for WeChat to clients of this and other machines. hosts are further
// host names for its control API, see httpguard.New.
func ServeSandbox(ctx context.Context, wx *sandbox.Server, address string, hosts []string, log *slog.Logger) (*httpserver.Server, error) {
	return httpserver.Start(ctx, httpserver.Config{
		Address: address, Handler: wx.Handler(address, hosts...), Log: log,
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: -1, // clients keep connections, as they do with WeChat
	})
}

// SandboxCredentials returns credentials for the sandbox, which accepts any app and any secret. So no
// real secret and no token service is used.
func SandboxCredentials() Credentials {
	return func(app string) (wechat.Credential, bool) {
		return wechat.Credential{App: app, Secret: "sandbox"}, true
	}
}
