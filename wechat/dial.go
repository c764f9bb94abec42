package wechat

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"
)

// dialPlain connects without TLS: to a sandbox or a proxy.
func dialPlain(ctx context.Context, dialer *net.Dialer, network, addr string) (net.Conn, error) {
	conn, err := dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &answerConn{Conn: &countingConn{Conn: conn}}, nil
}

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
