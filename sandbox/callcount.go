package sandbox

import "time"

// CallCount counts calls, and those among them that were delivered.
type CallCount struct {
	Calls     int `json:"calls"`
	Delivered int `json:"delivered"`
}

// recentCounts counts by key in bounded memory: when the newer half is full, it replaces the older half, whose keys are dropped. A
// key that is counted again moves to the newer half.
type recentCounts struct {
	half         int
	newer, older map[uint64]recentCount
}

type recentCount struct{ calls, delivered uint32 }

func newRecentCounts(keep int) *recentCounts {
	return &recentCounts{half: max(1, keep/2), newer: map[uint64]recentCount{}}
}

func (t *recentCounts) get(key uint64) recentCount {
	if c, ok := t.newer[key]; ok {
		return c
	}
	return t.older[key]
}

func (t *recentCounts) add(key uint64, delivered bool) recentCount {
	c := t.get(key)
	c.calls++
	if delivered {
		c.delivered++
	}
	if len(t.newer) >= t.half {
		t.newer, t.older = map[uint64]recentCount{}, t.newer
	}
	t.newer[key] = c
	return c
}

// dedupeSpan is how long a client_msg_id suppresses a second message.
// Source: https://developers.weixin.qq.com/doc/service/api/notify/template/api_sendtemplatemessage.html
const dedupeSpan = 10 * time.Minute

// sentMessages keeps the keys of messages for dedupeSpan, and drops them when newer ones replace them.
type sentMessages struct {
	newer, older map[uint64]sentMessage
	since        time.Time // when newer was created
}

type sentMessage struct {
	at    time.Time
	msgID int64
}

// find returns the message that was sent with the key within dedupeSpan.
func (m *sentMessages) find(key uint64, at time.Time) (sentMessage, bool) {
	sent, ok := m.newer[key]
	if !ok {
		sent, ok = m.older[key]
	}
	return sent, ok && at.Sub(sent.at) < dedupeSpan
}

func (m *sentMessages) add(key uint64, sent sentMessage) {
	if m.newer == nil || sent.at.Sub(m.since) >= dedupeSpan {
		m.newer, m.older, m.since = map[uint64]sentMessage{}, m.newer, sent.at
	}
	m.newer[key] = sent
}
