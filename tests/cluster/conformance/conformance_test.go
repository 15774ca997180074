// Package conformance runs the official suite of the Gateway API, unchanged. What it tests is chosen by its own flags;
// `python -m tests.cluster.conformance` starts a cluster and gives them.
package conformance

import (
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
)

func TestConformance(t *testing.T) {
	conformance.RunConformance(t)
}
