package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"

	"sigs.k8s.io/gateway-api-conformance-images/echo-basic/tcpserver"
)

// serveTCP speaks a protocol of lines on TCP_PORT and, with a certificate, on TLS_PORT.
func serveTCP(identity identity) error {
	config, err := serverTLS("TLS_SERVER_CERT", "TLS_SERVER_PRIV_KEY")
	if err != nil {
		return err
	}
	answers := tcpserver.TCPAssertions{
		Namespace: identity.Namespace, Ingress: identity.Ingress, Service: identity.Service, Pod: identity.Pod,
		TCPPort: port("TCP_PORT", "3000"), TLSPort: port("TLS_PORT", "8443"),
	}
	servers := []func() error{func() error {
		return acceptAll(answers.TCPPort, func(c net.Conn) { converse(c, answers) })
	}}
	if config != nil {
		servers = append(servers, func() error {
			return acceptAll(answers.TLSPort, func(c net.Conn) { converseEncrypted(tls.Server(c, config), answers) })
		})
	}
	return firstError(servers...)
}

func acceptAll(port string, serve func(net.Conn)) error {
	listener, err := listen(port)
	if err != nil {
		return err
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer connection.Close()
			serve(connection)
		}()
	}
}

// converseEncrypted shakes hands before it greets.
func converseEncrypted(connection *tls.Conn, answers tcpserver.TCPAssertions) {
	defer connection.Close()
	if err := connection.Handshake(); err != nil {
		logf("TLS handshake with %s: %v", connection.RemoteAddr(), err)
		return
	}
	state := connection.ConnectionState()
	answers.IsTLS = true
	answers.TLSAssertion = &tcpserver.TLSAssertion{
		Version:            tlsVersion(state.Version),
		ServerName:         state.ServerName,
		NegotiatedProtocol: state.NegotiatedProtocol,
		Curves:             state.CurveID.String(),
		CipherSuite:        tls.CipherSuiteName(state.CipherSuite),
	}
	converse(connection, answers)
}

// converse greets, then answers each line that it knows with exactly one line, until the client goes. One line, since
// the suite's client drops what it has buffered beyond it.
func converse(connection net.Conn, answers tcpserver.TCPAssertions) {
	io.WriteString(connection, tcpserver.WelcomeMessage)
	for lines := bufio.NewScanner(connection); lines.Scan(); {
		switch lines.Text() { // without CR
		case "PING":
			io.WriteString(connection, "PONG\n")
		case "IS_TLS":
			fmt.Fprintf(connection, "%t\n", answers.IsTLS)
		case "TEST":
			json.NewEncoder(connection).Encode(answers) // in one write, ended by a newline
		}
	}
}
