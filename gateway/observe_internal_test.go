package gateway

import "testing"

func TestLoggedPathHasNoOpenID(t *testing.T) {
	const app = "wx0123456789abcdef"
	for path, want := range map[string]string{
		"/v1/consents/" + app + "/oPerson":       "/v1/consents/" + app + "/{openid}",
		"/v1/consents/" + app + "/oPerson/x/../": "/v1/consents/" + app + "/{openid}",
		"/v1/consents/" + app:                    "/v1/consents/" + app,
		"/v1/tasks/" + app + "/id":               "/v1/tasks/" + app + "/id",
	} {
		if got := loggedPath(path); got != want {
			t.Errorf("%s is logged as %s; want %s", path, got, want)
		}
	}
}
