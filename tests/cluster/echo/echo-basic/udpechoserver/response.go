// Package udpechoserver is what client and server of the UDP echo agree on.
package udpechoserver

// EchoResponse is the answer to one datagram, as JSON.
type EchoResponse struct {
	// The datagram's payload.
	Request   string `json:"request"`
	Namespace string `json:"namespace"`
	Ingress   string `json:"ingress"`
	Service   string `json:"service"`
	Pod       string `json:"pod"`
}
