package redisserver_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redisinfo"
	"github.com/wxcourier/wxcourier/internal/redisserver"
)

// TestClose: the server answers, and reports its figures, until Close.
func TestClose(t *testing.T) {
	server, err := redisserver.Start(t.Context(), redisserver.Config{})
	if errors.Is(err, redisserver.ErrNotInstalled) {
		t.Skip("skipped: redis-server is not installed")
	}
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer func() { _ = rdb.Close() }()
	info, err := redisinfo.Read(t.Context(), rdb)
	if err != nil {
		t.Fatal(err)
	}
	commands, _ := info.Int(redisinfo.Commands)
	memory, _ := info.Int(redisinfo.Memory)
	cpu, _ := info.CPU()
	if commands <= 0 || memory <= 0 || cpu <= 0 || info[redisinfo.Version] == "" || info[redisinfo.Cluster] != "0" {
		t.Errorf("its figures: %v", info)
	}
	server.Close()
	if err := rdb.Ping(t.Context()).Err(); err == nil {
		t.Error("the server still answers")
	}
	if _, err := os.Stat(server.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its data folder is still there: %v", err)
	}
}

// TestStartFails: the error contains the server's output.
func TestStartFails(t *testing.T) {
	_, err := redisserver.Start(t.Context(), redisserver.Config{Args: []string{"--no-such-option", "yes"}})
	if errors.Is(err, redisserver.ErrNotInstalled) {
		t.Skip("skipped: redis-server is not installed")
	}
	if err == nil || !strings.Contains(err.Error(), "no-such-option") {
		t.Errorf("%v", err)
	}
}

// TestNotInstalled: without a redis-server on the PATH the error is ErrNotInstalled.
func TestNotInstalled(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := redisserver.Start(t.Context(), redisserver.Config{}); !errors.Is(err, redisserver.ErrNotInstalled) {
		t.Errorf("%v", err)
	}
}
