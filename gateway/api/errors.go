package api

import (
	"errors"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wxcourier/wxcourier/internal/problem"
)

// useProblems makes huma answer errors as problems, without the values that it echoes by default:
// they may be openids or texts of messages. huma has one setting for the process.
var useProblems = sync.OnceFunc(func() {
	huma.NewError = func(status int, detail string, errs ...error) huma.StatusError {
		p := problem.New(status, detail)
		for _, err := range errs {
			var detailed huma.ErrorDetailer
			if errors.As(err, &detailed) {
				d := detailed.ErrorDetail()
				p.Errors = append(p.Errors, problem.Fault{Location: d.Location, Message: d.Message})
			}
		}
		return p
	}
})
