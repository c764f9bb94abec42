package wechat

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// SecurityConfig is the key material of WeChat's API security mode (API 安全) for one mini program, as its
// console shows it under 开发管理, 开发设置, API安全: with it the requests to the endpoints that support it
// are encrypted (AES256_GCM) and signed (RSAwithSHA256), and the answers verified and decrypted. Source:
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/getting_started/api_signature.html
type SecurityConfig struct {
	// SymmetricSN is the number of the symmetric key (对称密钥编号).
	SymmetricSN string `yaml:"symmetric_sn"`
	// SymmetricKey is that key: 32 bytes in base64.
	SymmetricKey     Secret `yaml:"symmetric_key"`
	SymmetricKeyFile string `yaml:"symmetric_key_file"`
	// PrivateSN is the number of the asymmetric key (非对称密钥编号).
	PrivateSN string `yaml:"private_sn"`
	// PrivateKey is its private key, an RSA key in PEM.
	PrivateKey     Secret `yaml:"private_key"`
	PrivateKeyFile string `yaml:"private_key_file"`
	// Certificates are the platform certificates (平台证书): one, and two while WeChat replaces it.
	Certificates []PlatformCertificate `yaml:"certificates"`
	// Paths are further endpoints whose page says that they support encryption
	// (本接口支持服务通信二次加密和签名); see [SecuredEndpoints].
	Paths []string `yaml:"paths"`
}

// PlatformCertificate is a certificate with which WeChat signs its answers.
type PlatformCertificate struct {
	// SN is its number in the console (证书编号); not the serial number inside of the certificate.
	SN string `yaml:"sn"`
	// PEM is the certificate; File is a file that holds it.
	PEM  string `yaml:"pem"`
	File string `yaml:"file"`
}

// Configured reports whether there is any key material.
func (c SecurityConfig) Configured() bool {
	return c.SymmetricSN != "" || c.SymmetricKey != "" || c.SymmetricKeyFile != "" || c.PrivateSN != "" ||
		c.PrivateKeyFile != "" || c.PrivateKey != "" || len(c.Certificates) > 0 || len(c.Paths) > 0
}

// Security encrypts and signs requests, and verifies and decrypts answers. [NewSecurity] makes one. It
// is safe for concurrent use.
type Security struct {
	app          string
	aead         cipher.AEAD
	symmetricSN  string
	private      *rsa.PrivateKey
	privateSN    string
	certificates map[string]*x509.Certificate // by number
	paths        []Endpoint                   // besides securedEndpoints
	warned       atomic.Bool                  // that WeChat replaces the certificate
}

// SecuredEndpoints returns the endpoints of this package that support the API security mode. Sources: the
// column 是否支持加密 of https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/ and the pages of the
// checks. The pages of the endpoints for messages and links do not say that they support it.
func SecuredEndpoints() []Endpoint { return slices.Clone(securedEndpoints) }

// securedEndpoints must not be modified.
var securedEndpoints = []Endpoint{
	EndpointTextCheck, EndpointMediaCheck, EndpointPhone, EndpointUnlimitedCode, EndpointCode, EndpointQRCode,
	EndpointQuota, EndpointClearQuota, EndpointRID,
}

// NewSecurity returns the Security of an app. The error joins all mistakes, each with its key and
// without a value.
func NewSecurity(app string, c SecurityConfig) (*Security, error) {
	s := &Security{app: app, symmetricSN: c.SymmetricSN, privateSN: c.PrivateSN, certificates: make(map[string]*x509.Certificate)}
	var faults []error
	fault := func(key, format string, args ...any) {
		faults = append(faults, fmt.Errorf(key+": "+format, args...))
	}
	if c.SymmetricSN == "" {
		fault("symmetric_sn", "required: the number of the symmetric key in WeChat's console")
	}
	key, err := base64.StdEncoding.DecodeString(c.SymmetricKey.Reveal())
	switch {
	case c.SymmetricKey == "":
		fault("symmetric_key", "required: the key in base64; set symmetric_key or symmetric_key_file")
	case err != nil || len(key) != 32:
		fault("symmetric_key", "not 32 bytes in base64, as WeChat's console gives an AES256 key")
	default:
		if s.aead, err = newGCM(key); err != nil {
			fault("symmetric_key", "%w", err)
		}
	}
	if c.PrivateSN == "" {
		fault("private_sn", "required: the number of the asymmetric key in WeChat's console")
	}
	if s.private, err = parsePrivateKey(c.PrivateKey); err != nil {
		fault("private_key", "%w", err)
	}
	if len(c.Certificates) == 0 {
		fault("certificates", "required: the platform certificate, from WeChat's console")
	}
	for i, pc := range c.Certificates {
		at := fmt.Sprintf("certificates[%d]", i)
		if pc.SN == "" {
			fault(at+".sn", "required: the number of the certificate in WeChat's console")
		}
		if _, twice := s.certificates[pc.SN]; twice {
			fault(at+".sn", "the same number twice")
		}
		if s.certificates[pc.SN], err = parseCertificate(pc.PEM); err != nil {
			fault(at+".pem", "%w", err)
		}
	}
	for i, path := range c.Paths {
		if !plainPath(Endpoint(path)) {
			fault(fmt.Sprintf("paths[%d]", i), "%q is not the path of an endpoint, such as /wxa/getuserriskrank", path)
		}
		s.paths = append(s.paths, Endpoint(path))
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return s, nil
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// parsePrivateKey parses an RSA key in PEM, of PKCS #1 or PKCS #8.
func parsePrivateKey(text Secret) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text.Reveal()))
	if block == nil {
		return nil, errors.New("required: a private key in PEM; set private_key or private_key_file")
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("not an RSA private key; of the algorithms in WeChat's console, RSAwithSHA256 is supported and SM2withSM3 is not")
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("not an RSA private key; of the algorithms in WeChat's console, RSAwithSHA256 is supported and SM2withSM3 is not")
	}
	return key, nil
}

func parseCertificate(text string) (*x509.Certificate, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil || !strings.Contains(block.Type, "CERTIFICATE") {
		return nil, errors.New("required: a certificate in PEM; set pem or file")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, errors.New("not a certificate")
	}
	if _, ok := certificate.PublicKey.(*rsa.PublicKey); !ok {
		return nil, errors.New("its key is not an RSA key; SM2 is not supported")
	}
	return certificate, nil
}

// CertificatesEnd returns when the last of the platform certificates expires.
func (s *Security) CertificatesEnd() time.Time {
	var end time.Time
	for _, c := range s.certificates {
		if c.NotAfter.After(end) {
			end = c.NotAfter
		}
	}
	return end
}

// supports reports whether requests to an endpoint are encrypted.
func (s *Security) supports(ep Endpoint) bool {
	return slices.Contains(securedEndpoints, ep) || slices.Contains(s.paths, ep)
}
