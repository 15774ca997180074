// Package tcpserver is what client and server of the TCP echo agree on.
package tcpserver

// WelcomeMessage is sent to each connection before anything is read from it, over TLS after the handshake.
const WelcomeMessage = "Gateway API Test TCP Server\n"

// TCPAssertions is the answer to `TEST`, as one line of JSON.
type TCPAssertions struct {
	Namespace string `json:"namespace"`
	Ingress   string `json:"ingress"`
	Service   string `json:"service"`
	Pod       string `json:"pod"`
	// The ports that the program listens on, whichever of them was connected to.
	TCPPort string `json:"tcpport"`
	TLSPort string `json:"tlsport"`
	IsTLS   bool   `json:"isTLS"`
	// nil without TLS.
	TLSAssertion *TLSAssertion `json:"tls,omitempty"`
}

// TLSAssertion is what the handshake agreed on.
type TLSAssertion struct {
	Version            string `json:"version"`
	ServerName         string `json:"serverName"`
	NegotiatedProtocol string `json:"negotiatedProtocol"`
	Curves             string `json:"curves"`
	CipherSuite        string `json:"cipherSuite"`
}
