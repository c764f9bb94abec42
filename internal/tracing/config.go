package tracing

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// config is where and how spans are sent.
type config struct {
	url     *url.URL
	header  http.Header
	timeout time.Duration // of one batch, with its retries
	gzip    bool
	tls     *tls.Config // nil: the defaults
}

// defaultEndpoint is the usual address of a collector on the same host, for OTLP over HTTP.
const defaultEndpoint = "http://localhost:4318"

// variable returns the value of a variable of the exporter: the one for traces, else the general one.
func variable(getenv func(string) string, name string) string {
	return cmp.Or(getenv("OTEL_EXPORTER_OTLP_TRACES_"+name), getenv("OTEL_EXPORTER_OTLP_"+name))
}

// readConfig reads the variables of the exporter
// (https://opentelemetry.io/docs/specs/otel/protocol/exporter/). No error has the value of a
// variable that may be a secret.
func readConfig(getenv func(string) string) (config, error) {
	cfg := config{header: http.Header{}, timeout: 10 * time.Second}
	if p := variable(getenv, "PROTOCOL"); p != "" && p != "http/protobuf" {
		return cfg, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL: %q is not supported; use http/protobuf, with the collector's port for it (mostly 4318)", p)
	}
	address := getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") // complete, while the general one lacks the path
	if address == "" {
		address = strings.TrimRight(cmp.Or(getenv("OTEL_EXPORTER_OTLP_ENDPOINT"), defaultEndpoint), "/") + "/v1/traces"
	}
	var err error
	if cfg.url, err = url.Parse(address); err != nil || cfg.url.Host == "" || cfg.url.Scheme != "http" && cfg.url.Scheme != "https" {
		return cfg, errors.New("OTEL_EXPORTER_OTLP_ENDPOINT: not an http or https URL, such as " + defaultEndpoint)
	}
	for pair := range strings.SplitSeq(variable(getenv, "HEADERS"), ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if name = strings.TrimSpace(name); !ok || name == "" || err != nil {
			return cfg, errors.New("OTEL_EXPORTER_OTLP_HEADERS: not a list name=value,name=value with URL-encoded values")
		}
		cfg.header.Set(name, value)
	}
	if text := variable(getenv, "TIMEOUT"); text != "" {
		ms, err := strconv.Atoi(text)
		if err != nil || ms <= 0 {
			return cfg, fmt.Errorf("OTEL_EXPORTER_OTLP_TIMEOUT: %q is not a number of milliseconds, such as 10000", text)
		}
		cfg.timeout = time.Duration(ms) * time.Millisecond
	}
	switch compression := variable(getenv, "COMPRESSION"); compression {
	case "gzip":
		cfg.gzip = true
	case "", "none":
	default:
		return cfg, fmt.Errorf("OTEL_EXPORTER_OTLP_COMPRESSION: %q is neither gzip nor none", compression)
	}
	cfg.tls, err = readTLS(variable(getenv, "CERTIFICATE"), variable(getenv, "CLIENT_CERTIFICATE"), variable(getenv, "CLIENT_KEY"))
	return cfg, err
}

// readTLS returns the TLS configuration for the files of a CA, and of the client's certificate and
// key; each may be "".
func readTLS(ca, certificate, key string) (*tls.Config, error) {
	if ca == "" && certificate == "" && key == "" {
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca) //nolint:gosec // the operator's file
		if err != nil {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_CERTIFICATE: %w", err)
		}
		if cfg.RootCAs = x509.NewCertPool(); !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("OTEL_EXPORTER_OTLP_CERTIFICATE: the file has no certificate in PEM form")
		}
	}
	if certificate != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE, OTEL_EXPORTER_OTLP_CLIENT_KEY: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}
