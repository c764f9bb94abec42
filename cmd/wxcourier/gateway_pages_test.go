package main

import (
	"crypto/x509"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestGatewayTLS: a gateway serves HTTPS by its certificate, and healthcheck works without the name
// in it.
func TestGatewayTLS(t *testing.T) {
	env, _ := newEnv(t)
	keys, path := keysEnv(t)
	env = append(env, keys...)
	issued := httptest.NewTLSServer(nil)
	defer issued.Close()
	private, err := x509.MarshalPKCS8PrivateKey(issued.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile := filepath.Join(filepath.Dir(path), "cert.pem"), filepath.Join(filepath.Dir(path), "key.pem")
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: issued.Certificate().Raw}, keyFile: {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := command(t, env, "", "key", "new", "--id", "a"); got.status != statusDone {
		t.Fatalf("%+v", got)
	}
	env = append(env, "WXCOURIER_GATEWAY_TLS_CERT_FILE="+certFile)
	got := command(t, env, "", "gateway")
	mentions(t, "the message", got.stderr, "gateway.tls.key_file: missing")
	env = append(env, "WXCOURIER_GATEWAY_TLS_KEY_FILE="+keyFile)
	_, stderr, stop := background(t, env, "gateway", "--listen", ":0")
	addr := waitForAddress(t, stderr, `msg=listening addr=(\S+)`)
	url := "https://127.0.0.1" + addr[strings.LastIndex(addr, ":"):]
	if got := command(t, nil, "", "healthcheck", url+"/readyz"); got.status != statusDone {
		t.Errorf("%+v", got)
	}
	mentions(t, "healthcheck without a key", command(t, nil, "", "healthcheck", url+"/v1/lanes").stderr, "401")
	if code := stop(); code != statusDone {
		t.Errorf("status %d\n%s", code, stderr)
	}
}

// TestDevWithKeys: where gateway.keys_file is configured, the API, the console and the asynq web UI of dev
// need a key; the start page and the metrics do not.
func TestDevWithKeys(t *testing.T) {
	env, _ := keysEnv(t)
	made := command(t, env, "", "key", "new", "--id", "a")
	_, stderr, stop := background(t, env, "dev", "--listen", "127.0.0.1:0", "--rate", "0")
	url := strings.TrimSuffix(waitForAddress(t, stderr, `Console +(\S+)`), "/")
	for path, want := range map[string]int{"/v1/lanes": 401, "/": 401, "/monitor": 401, "/start": 200, "/metrics": 200} {
		if got := (request{method: "GET", url: url + path}).status(t); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	if strings.Contains(stderr.String(), strings.TrimSpace(made.stdout)) {
		t.Errorf("the key is shown:\n%s", stderr)
	}
	if code := stop(); code != statusDone {
		t.Errorf("status %d\n%s", code, stderr)
	}
}
