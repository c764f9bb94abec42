package tasks

import "strings"

// Priority says which of its lane's two queues a task waits in.
type Priority string

// The priorities. Urgent tasks of a lane always leave before its bulk tasks.
const (
	Urgent Priority = "urgent" // the default
	Bulk   Priority = "bulk"
)

const bulkSuffix = ":bulk"

// QueueName is the asynq queue of an app's tasks of one type: "<app>:<type>" for
// urgent ones, "<app>:<type>:bulk" for bulk ones.
func QueueName(app, typ string, p Priority) string {
	if p == Bulk {
		return app + ":" + typ + bulkSuffix
	}
	return app + ":" + typ
}

// ParseQueue takes a queue name apart. It is not ok for names that [QueueName]
// does not make. The type has the shape kind:api but need not be in the catalog:
// a newer version may know it.
func ParseQueue(q string) (app, typ string, p Priority, ok bool) {
	app, typ, found := strings.Cut(q, ":")
	if !found || !ValidApp(app) {
		return "", "", "", false
	}
	p = Urgent
	if strings.Count(typ, ":") == 2 && strings.HasSuffix(typ, bulkSuffix) {
		typ, p = strings.TrimSuffix(typ, bulkSuffix), Bulk
	}
	if !isTypeName(typ) {
		return "", "", "", false
	}
	return app, typ, p, true
}

// isTypeName: two words of small letters and digits around one colon.
func isTypeName(typ string) bool {
	kind, api, found := strings.Cut(typ, ":")
	return found && isLowerAlnum(kind) && isLowerAlnum(api)
}

func isLowerAlnum(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
