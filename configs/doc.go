// Package configs puts the configuration of wxcourier together: each part owns its
// own section, with its defaults and its checks, and this package reads them all from
// one YAML file and from the environment.
//
//	cfg, err := configs.Load("wxcourier.yaml", os.Environ())
//
// Reading is strict. A key that does not exist is a mistake, and so is a value that
// cannot be; all mistakes are reported at once, each with its key and its line. A
// secret is never part of a message.
//
// Every key has a variable in the environment, which outweighs the file: its path in
// capitals, joined with underscores, after WXCOURIER_. So redis.addrs is
// WXCOURIER_REDIS_ADDRS=10.0.0.1:6379,10.0.0.2:6379, and the secret of an app is
// WXCOURIER_APPS_WX0123456789ABCDEF_SECRET, which also adds the app when the file does
// not have it. A variable that is empty counts as one that is not set.
//
// wxcourier.yaml beside this file is the commented reference of all keys.
package configs
