package tasks_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/wxcourier/wxcourier/tasks"
)

// Both links have one shape in Go, and WeChat's two shapes in JSON.
func TestLinkPayloads(t *testing.T) {
	expiry := tasks.Expiry{IsExpire: true, ExpireType: 1, ExpireInterval: 30}
	scheme := tasks.SchemePayload{Path: "pages/index/index", Query: "id=1&b=2", EnvVersion: "trial", Expiry: expiry}
	link := tasks.URLLinkPayload{Path: "pages/index/index", Query: "id=1&b=2", EnvVersion: "trial", Expiry: expiry}
	tests := []struct {
		payload any
		want    string
	}{
		{scheme, `{"jump_wxa":{"path":"pages/index/index","query":"id=1&b=2","env_version":"trial"},"is_expire":true,"expire_type":1,"expire_interval":30}`},
		{link, `{"path":"pages/index/index","query":"id=1&b=2","env_version":"trial","is_expire":true,"expire_type":1,"expire_interval":30}`},
		{tasks.SchemePayload{}, `{}`}, // opens the home page
		{tasks.SchemePayload{Query: "id=1"}, `{"jump_wxa":{"query":"id=1"}}`},
		{tasks.URLLinkPayload{}, `{}`},
	}
	for _, tt := range tests {
		text, err := json.Marshal(tt.payload)
		if err != nil {
			t.Fatal(err)
		}
		var got, want any
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(tt.want), &want); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%+v is %s, want %s", tt.payload, text, tt.want)
		}
		back := reflect.New(reflect.TypeOf(tt.payload))
		if err := json.Unmarshal(text, back.Interface()); err != nil || !reflect.DeepEqual(back.Elem().Interface(), tt.payload) {
			t.Errorf("%s is read as %+v (%v), want %+v", text, back.Elem(), err, tt.payload)
		}
	}
	task, err := tasks.NewSchemeTask("wx0123456789abcdef", scheme, tasks.ID("i"))
	if err != nil {
		t.Fatal(err)
	}
	e, err := tasks.DecodePayload(task.Payload())
	if err != nil {
		t.Fatal(err)
	}
	if want := tests[0].want; string(e.Body) != want {
		t.Errorf("the body of the task is %s, want %s", e.Body, want)
	}
}
