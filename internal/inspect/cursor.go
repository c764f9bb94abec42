package inspect

import "errors"

// ErrCursor means that a cursor is not that of a page.
var ErrCursor = errors.New("inspect: not the cursor of a page")
