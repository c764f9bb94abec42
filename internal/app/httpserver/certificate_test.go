package httpserver_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/app/httpserver"
	"github.com/wxcourier/wxcourier/internal/e2e"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// writeCertificate makes a certificate for 127.0.0.1 with a serial number.
func writeCertificate(t *testing.T, certFile, keyFile string, serial int64, until time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "wxcourier"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: certificate}, keyFile: {Type: "EC PRIVATE KEY", Bytes: private}} {
		if file == "" {
			continue
		}
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCertificateIsReadAgain: a renewed certificate is served without a restart; one that does not
// fit its key, or has expired, is logged, and the one before stays.
func TestCertificateIsReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	later := time.Now().Add(time.Hour)
	writeCertificate(t, certFile, keyFile, 1, later)
	logged := &e2e.Output{}
	log := slog.New(slog.NewTextHandler(logged, nil))
	certificate, err := httpserver.LoadCertificate(certFile, keyFile, log)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, httpserver.Config{Handler: http.NotFoundHandler(), TLS: certificate.Config(), Log: log})
	if !strings.HasPrefix(s.URL(), "https://127.0.0.1:") {
		t.Error(s.URL())
	}
	served := func() int64 {
		dialer := &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}} //nolint:gosec // the test looks at it itself
		conn, err := dialer.DialContext(t.Context(), "tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		state := conn.(*tls.Conn).ConnectionState()
		if state.NegotiatedProtocol != "h2" || state.Version < tls.VersionTLS12 {
			t.Errorf("%+v", state)
		}
		return state.PeerCertificates[0].SerialNumber.Int64()
	}
	if got := served(); got != 1 {
		t.Errorf("certificate %d", got)
	}
	for _, bad := range []struct {
		write func()
		want  string
	}{
		{func() { writeCertificate(t, certFile, "", 2, later) }, "private key does not match"},
		{func() { writeCertificate(t, certFile, keyFile, 3, time.Now().Add(-time.Minute)) }, "expired at"},
		{func() { _ = os.Remove(keyFile) }, "no such file"},
	} {
		bad.write()
		redistest.Until(t, 20*time.Second, bad.want+" is logged", func() bool {
			if got := served(); got != 1 {
				t.Fatalf("certificate %d", got)
			}
			return strings.Contains(logged.String(), bad.want)
		})
	}
	writeCertificate(t, certFile, keyFile, 4, later)
	redistest.Until(t, 20*time.Second, "the renewed certificate is served", func() bool { return served() == 4 })
	if strings.Contains(logged.String(), "PRIVATE KEY") {
		t.Errorf("the key is logged:\n%s", logged)
	}
	if _, err := httpserver.LoadCertificate(certFile, filepath.Join(dir, "none"), log); err == nil {
		t.Error("a certificate without a key")
	}
}
