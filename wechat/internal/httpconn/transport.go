package httpconn

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"
)

// NewTransport returns a transport, with a connection pool of its own, whose connections are those of
// this package. Proxies come from the environment.
func NewTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	protocols := new(http.Protocols)
	// Only HTTP/1: a connection carries one request at a time, so the bytes written on
	// it show whether the request was sent. With HTTP/2, net/http would also resend
	// requests by itself after a GOAWAY.
	protocols.SetHTTP1(true)
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return dialPlain(ctx, dialer, network, addr)
		},
		Protocols:           protocols,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: handshakeTimeout,
		// All connections go to one host: with the default of 2 idle connections a
		// busy client would keep closing and reopening nearly all of them.
		MaxIdleConns:        2048,
		MaxIdleConnsPerHost: 1024,
		// Shorter than the idle timeout of common servers (60 to 75 s): if the client
		// closes first, no request is lost to a closing server.
		IdleConnTimeout: 45 * time.Second,
	}
	t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		return dialTLS(ctx, dialer, network, addr, t.TLSClientConfig)
	}
	return t
}

// dialPlain connects without TLS: to a sandbox or a proxy.
func dialPlain(ctx context.Context, dialer *net.Dialer, network, addr string) (net.Conn, error) {
	conn, err := dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return Wrap(conn), nil
}

// Wrap returns a connection of this package over conn, which carries plain-text HTTP. It is for a
// transport that dials by itself.
func Wrap(conn net.Conn) net.Conn { return &answerConn{Conn: &countingConn{Conn: conn}} }

// dialTLS connects with TLS when no proxy is in between. It does the handshake itself, not
// net/http, because answerConn must wrap the TLS connection.
func dialTLS(ctx context.Context, dialer *net.Dialer, network, addr string, cfg *tls.Config) (net.Conn, error) {
	conn, err := dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	secure, err := handshake(ctx, &countingConn{Conn: conn}, addr, cfg)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &answerConn{Conn: secure}, nil
}

const handshakeTimeout = 5 * time.Second

// handshake performs the TLS handshake with the host of addr.
func handshake(ctx context.Context, conn net.Conn, addr string, cfg *tls.Config) (*tls.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if cfg = cfg.Clone(); cfg.ServerName == "" {
		cfg.ServerName = host
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	secure := tls.Client(conn, cfg)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return secure, nil
}
