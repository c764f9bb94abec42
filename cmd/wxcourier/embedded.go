package main

import (
	"crypto/rand"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/embedded"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/wechat"
	"github.com/wxcourier/wxcourier/worker"
)

// embeddedResults keeps the embedded Redis small and quick. The stream need not hold more
// than the results of the open tasks: each is read within moments.
func embeddedResults() worker.ResultsConfig {
	return worker.ResultsConfig{Retention: 2 * time.Minute, StreamMaxLen: windowEmbedded + windowEmbedded/4}
}

// startEmbedded starts a Redis inside the process and points the configuration at it. It
// is open to whoever can reach the loopback.
func startEmbedded(cfg *configs.Config) (stop func(), err error) {
	server, err := embedded.Start()
	if err != nil {
		return nil, err
	}
	cfg.Redis = configs.Redis{Addrs: []string{server.Addr()}}
	return server.Close, nil
}

// startProtected is startEmbedded for a Redis that holds real tokens: it lets in this
// process alone.
func startProtected(cfg *configs.Config) (stop func(), err error) {
	server, err := embedded.Start()
	if err != nil {
		return nil, err
	}
	password := rand.Text()
	server.Protect(password)
	cfg.Redis = configs.Redis{Addrs: []string{server.Addr()}, Password: wechat.Secret(password)}
	return server.Close, nil
}

// startSandbox starts a stand-in for WeChat inside the process and points the
// configuration at it.
func startSandbox(cfg *configs.Config, options sandbox.Options) (stop func()) {
	cfg.WeChat.BaseURL, stop = sandbox.New(options).Start()
	return stop
}

// sandboxCredential is what apps have in the sandbox, which takes any: no real secret, and no
// token service, is asked for there.
func sandboxCredential(app string) (wechat.Credential, bool) {
	return wechat.Credential{App: app, Secret: "sandbox"}, true
}
