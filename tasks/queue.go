package tasks

import "strings"

// Priority selects one of the two queues of a task's lane.
type Priority string

// The priorities. A lane dequeues bulk tasks only when no urgent task is pending.
const (
	Urgent Priority = "urgent" // the default
	Bulk   Priority = "bulk"
)

const bulkSuffix = ":bulk"

// QueueName returns the name of the asynq queue for an app's tasks of one type:
// "<app>:<type>" for urgent tasks, "<app>:<type>:bulk" for bulk tasks.
func QueueName(app, typ string, p Priority) string {
	if p == Bulk {
		return app + ":" + typ + bulkSuffix
	}
	return app + ":" + typ
}

// QueueNames returns the names of both queues of an app's tasks of one type, the urgent one first.
func QueueNames(app, typ string) []string {
	return []string{QueueName(app, typ, Urgent), QueueName(app, typ, Bulk)}
}

// ParseQueue parses a queue name. ok is false for names that [QueueName] does not return.
// The type has the form kind:api but need not be in the catalog: a newer version may have it.
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

// isTypeName reports whether typ has the form kind:api, of lower-case letters and digits.
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
