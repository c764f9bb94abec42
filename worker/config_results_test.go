package worker

import (
	"strings"
	"testing"
	"time"
)

// TestDefaultStreamCoversRetention: the default cap does not cut the results of an app that sends 100
// messages a second before the default retention is over.
func TestDefaultStreamCoversRetention(t *testing.T) {
	c := DefaultResultsConfig()
	if need := int64(100 * c.Retention / time.Second); c.StreamMaxLen < need {
		t.Errorf("stream_max_len is %d, a day of 100 a second needs %d", c.StreamMaxLen, need)
	}
	if c.StreamMaxLen = 0; c.Validate() != nil {
		t.Errorf("no maximum: %v", c.Validate())
	}
	if c.StreamMaxLen = -1; c.Validate() == nil || !strings.Contains(c.Validate().Error(), "stream_max_len: -1") {
		t.Errorf("negative: %v", c.Validate())
	}
	c = DefaultResultsConfig()
	if c.StreamLagMaxLen = 0; c.Validate() != nil {
		t.Errorf("nothing longer for webhooks: %v", c.Validate())
	}
	if c.StreamLagMaxLen = -1; c.Validate() == nil || !strings.Contains(c.Validate().Error(), "stream_lag_max_len: -1") {
		t.Errorf("negative: %v", c.Validate())
	}
}
