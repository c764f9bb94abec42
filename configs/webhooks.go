package configs

import (
	"fmt"
	"strings"

	"github.com/wxcourier/wxcourier/gateway/webhook"
)

func webhookKey(i int) string { return fmt.Sprintf("webhooks[%d]", i) }

// checkWebhooks records the problems of the endpoints, each of the form "[0].url: problem". A secret
// whose file cannot be read is reported once.
func (d *decoder) checkWebhooks(endpoints []webhook.Endpoint) {
	for _, fault := range flatten(webhook.Validate(endpoints)) {
		key, problem, _ := strings.Cut(fault.Error(), ": ")
		key = "webhooks" + key
		if strings.HasSuffix(key, ".secret") && d.hasProblem(key+"_file") {
			continue
		}
		d.problem(key, "%s", problem)
	}
}
