package configs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wxcourier/wxcourier/wechat"
)

const securityYAML = `apps:
  - id: wxba6223c06417af7b
    secret: s
    security:
      symmetric_sn: fa05fe1e5bcc79b81ad5ad4b58acf787
      symmetric_key_file: KEY
      private_sn: 97845f6ed842ea860df6fdf65941ff56
      private_key_file: ../wechat/testdata/security_private.pem
      certificates:
        - {sn: 79ba700ea147819f640941bceb38b1d1, file: ../wechat/testdata/security_platform.pem}
      paths: [/wxa/getuserriskrank]
`

// TestSecurityFiles: the keys of the API security mode come from files, which are watched.
func TestSecurityFiles(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	write(t, key, "otUpngOjU+nVQaWJIC3D/yMLV17RKaP6t4Ot9tbnzLY=\n")
	file := filepath.Join(t.TempDir(), "wxcourier.yaml")
	write(t, file, strings.Replace(securityYAML, "KEY", key, 1))
	cfg, paths, err := Read(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wechat.NewSecurity(cfg.Apps[0].ID, cfg.Apps[0].Security); err != nil {
		t.Error(err)
	}
	if all := strings.Join(paths, " "); !strings.Contains(all, key) || !strings.Contains(all, "security_private.pem") || !strings.Contains(all, "security_platform.pem") {
		t.Errorf("watched are %s", all)
	}
}

// TestSecurityEnvironment: a variable takes the place of a key file, and of a key.
func TestSecurityEnvironment(t *testing.T) {
	const key = "otUpngOjU+nVQaWJIC3D/yMLV17RKaP6t4Ot9tbnzLY="
	file := filepath.Join(t.TempDir(), "wxcourier.yaml")
	write(t, file, strings.Replace(securityYAML, "KEY", "/nowhere", 1))
	cfg, err := Load(file, []string{"WXCOURIER_APPS_WXBA6223C06417AF7B_SECURITY_SYMMETRIC_KEY=" + key})
	if err != nil || cfg.Apps[0].Security.SymmetricKey.Reveal() != key {
		t.Error(err)
	}
	pem, err := os.ReadFile("../wechat/testdata/security_private.pem")
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, strings.NewReplacer("KEY", "/nowhere", "private_key_file: ../wechat/testdata/security_private.pem", "private_key: x").Replace(securityYAML))
	cfg, err = Load(file, []string{
		"WXCOURIER_APPS_WXBA6223C06417AF7B_SECURITY_SYMMETRIC_KEY=" + key,
		"WXCOURIER_APPS_WXBA6223C06417AF7B_SECURITY_PRIVATE_KEY_FILE=../wechat/testdata/security_private.pem",
	})
	if err != nil || cfg.Apps[0].Security.PrivateKey.Reveal() != string(pem) {
		t.Error(err)
	}
}

// TestSecurityMistakesAreNamed: each with its key, and a missing file once.
func TestSecurityMistakesAreNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "wxcourier.yaml")
	text := strings.Replace(securityYAML, "symmetric_key_file: KEY", "symmetric_key: c2hvcnQ=", 1)
	text = strings.Replace(text, "security_platform.pem", "missing.pem", 1)
	text = strings.Replace(text, "/wxa/getuserriskrank", "wxa", 1)
	write(t, file, text)
	_, err := Load(file, nil)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"security.symmetric_key: not 32 bytes", "security.certificates[0].file: cannot read it", "security.paths[0]: "} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "certificates[0].pem") || strings.Contains(err.Error(), "c2hvcnQ") {
		t.Errorf("got %v", err)
	}
}
