// Package pushes handles what WeChat pushed: it joins receipts and answers of media checks to their
// tasks, and keeps what persons chose.
package pushes

import (
	"context"

	"github.com/wxcourier/wxcourier/wechat/callback"
)

// A Handler handles pushes to one app, in the order in which they came. The same push may come again,
// also to another process. After an error the pushes come again later, all of them.
type Handler interface {
	Handle(ctx context.Context, app string, pushes []callback.Push) error
}
