// Package configs loads the configuration of wxcourier from one YAML file and the environment.
// Each part of the program owns its section, with its defaults and its validation.
//
//	cfg, err := configs.Load("wxcourier.yaml", os.Environ())
//
// Reading is strict: an unknown key or an invalid value is a problem. All problems are reported at
// once, each with its key and its line. Messages never contain secrets.
//
// Every key has an environment variable, which takes precedence over the file: WXCOURIER_ and the
// path of the key in capitals, joined with underscores. So redis.addrs is
// WXCOURIER_REDIS_ADDRS=10.0.0.1:6379,10.0.0.2:6379, and the secret of an app is
// WXCOURIER_APPS_WX0123456789ABCDEF_SECRET, which also adds the app when the file does not have
// it. An empty variable counts as not set.
//
// wxcourier.yaml beside this file is the commented reference of all keys.
package configs
