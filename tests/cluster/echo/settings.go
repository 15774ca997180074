package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
)

// identity is who answers, as the pod's environment says. Unset is empty.
type identity struct {
	Namespace string `json:"namespace"`
	Ingress   string `json:"ingress"`
	Service   string `json:"service"`
	Pod       string `json:"pod"`
}

func identityFromEnvironment() identity {
	return identity{
		Namespace: os.Getenv("NAMESPACE"),
		Ingress:   os.Getenv("INGRESS_NAME"),
		Service:   os.Getenv("SERVICE_NAME"),
		Pod:       os.Getenv("POD_NAME"),
	}
}

// port is the value of an environment variable, or its default when that is unset or empty.
func port(variable, otherwise string) string {
	if value := os.Getenv(variable); value != "" {
		return value
	}
	return otherwise
}

// listen binds a TCP port on all addresses.
func listen(port string) (net.Listener, error) {
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return nil, err
	}
	logf("Listening on %s", listener.Addr())
	return listener, nil
}

// serverTLS reads the server's certificate from the files that two environment variables name, once. It is nil when
// one of them is not set: there is no TLS then.
//
// The suite spells the second one TLS_SERVER_PRIVKEY for HTTP and TLS_SERVER_PRIV_KEY for gRPC and TCP.
func serverTLS(certificateVariable, keyVariable string) (*tls.Config, error) {
	certificate, key := os.Getenv(certificateVariable), os.Getenv(keyVariable)
	if certificate == "" || key == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", certificateVariable, keyVariable, err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}

// askForClientCertificate makes the server ask for a certificate of one of the authorities in a PEM file. Without one
// a client is served all the same; a foreign one ends the handshake.
func askForClientCertificate(config *tls.Config, file string) error {
	authorities, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("TLS_CLIENT_CACERTS: %w", err)
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(authorities) {
		return fmt.Errorf("TLS_CLIENT_CACERTS: %s holds no certificate", file)
	}
	config.ClientAuth = tls.VerifyClientCertIfGiven
	return nil
}

// tlsVersion names a version as OpenSSL does, which is what the suite's client expects.
func tlsVersion(version uint16) string {
	switch version {
	case tls.VersionTLS13:
		return "TLSv1.3"
	case tls.VersionTLS12:
		return "TLSv1.2"
	default:
		return tls.VersionName(version)
	}
}

// peerCertificates is what the client showed, in PEM, its own first. nil when it showed none.
func peerCertificates(state *tls.ConnectionState) []string {
	var certificates []string
	for _, certificate := range state.PeerCertificates {
		block := &pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}
		certificates = append(certificates, string(pem.EncodeToMemory(block)))
	}
	return certificates
}
