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

// embeddedResults keeps the embedded Redis small and fast. The stream holds little more than the
// results of the unfinished tasks, since each result is read at once.
func embeddedResults() worker.ResultsConfig {
	return worker.ResultsConfig{Retention: 2 * time.Minute, StreamMaxLen: windowEmbedded + windowEmbedded/4}
}

// startEmbedded starts a Redis inside the process and points the configuration at it. Any process
// on this machine can connect to it.
func startEmbedded(cfg *configs.Config) (stop func(), err error) {
	server, err := embedded.Start()
	if err != nil {
		return nil, err
	}
	cfg.Redis = configs.Redis{Addrs: []string{server.Addr()}}
	return server.Close, nil
}

// startProtected is startEmbedded with a random password, for a Redis that holds real tokens.
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

// sandboxCredential returns the credentials of an app for the sandbox, which accepts any secret.
// So no real secret and no token service is used.
func sandboxCredential(app string) (wechat.Credential, bool) {
	return wechat.Credential{App: app, Secret: "sandbox"}, true
}
