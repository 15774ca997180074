package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// captured is the body of an echo.
type captured struct {
	Path     string              `json:"path"` // the request target as received: neither cleaned nor decoded
	Host     string              `json:"host"`
	Method   string              `json:"method"`
	Protocol string              `json:"proto"`
	Headers  map[string][]string `json:"headers"`
	HTTPPort string              `json:"httpPort"`
	identity
	TLS *capturedTLS `json:"tls,omitempty"`
}

type capturedTLS struct {
	Version            string   `json:"version"`
	PeerCertificates   []string `json:"peerCertificates,omitempty"`
	ServerName         string   `json:"serverName"`
	NegotiatedProtocol string   `json:"negotiatedProtocol,omitempty"`
	CipherSuite        string   `json:"cipherSuite"`
}

// echo answers all HTTP requests of one process.
type echo struct {
	identity identity
	httpPort string // reported on every port
	retries  retries
}

// serveHTTP serves HTTP/1.1 on HTTP_PORT, HTTP/2 without TLS on H2C_PORT and, with a certificate, both on HTTPS_PORT.
func serveHTTP(identity identity) error {
	httpPort := port("HTTP_PORT", "3000")
	handler := &echo{identity: identity, httpPort: httpPort, retries: retries{failed: map[string]int{}}}
	servers := []func() error{
		func() error {
			return serveProtocols(httpPort, handler, nil, func(p *http.Protocols) { p.SetHTTP1(true) })
		},
		func() error {
			return serveProtocols(port("H2C_PORT", "3001"), http.HandlerFunc(handler.http2Only), nil,
				func(p *http.Protocols) { p.SetHTTP1(true); p.SetUnencryptedHTTP2(true) })
		},
	}
	config, err := serverTLS("TLS_SERVER_CERT", "TLS_SERVER_PRIVKEY")
	if err != nil {
		return err
	}
	if config != nil {
		if file := os.Getenv("TLS_CLIENT_CACERTS"); file != "" {
			if err := askForClientCertificate(config, file); err != nil {
				return err
			}
		}
		servers = append(servers, func() error {
			return serveProtocols(port("HTTPS_PORT", "8443"), handler, config,
				func(p *http.Protocols) { p.SetHTTP1(true); p.SetHTTP2(true) })
		})
	}
	return firstError(servers...)
}

func serveProtocols(port string, handler http.Handler, config *tls.Config, allow func(*http.Protocols)) error {
	listener, err := listen(port)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, TLSConfig: config, Protocols: new(http.Protocols)}
	allow(server.Protocols)
	if config != nil {
		return server.ServeTLS(listener, "", "")
	}
	return server.Serve(listener)
}

// http2Only refuses HTTP/1, which the server has to read for that: a gateway that speaks it upstream shall see why.
func (e *echo) http2Only(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor < 2 {
		http.Error(w, "this port wants HTTP/2 with prior knowledge", http.StatusBadRequest)
		return
	}
	e.ServeHTTP(w, r)
}

var (
	slashes = regexp.MustCompile(`/{2,}`)
	status  = regexp.MustCompile(`^/status/([1-9][0-9]{2})$`)
)

// ServeHTTP chooses by path. A ServeMux would redirect paths that are not clean, and those have to be echoed.
func (e *echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := slashes.ReplaceAllString(r.URL.Path, "/")
	switch {
	case path == "/health":
		io.WriteString(w, "OK")
	case strings.HasPrefix(path, "/status/"):
		answerStatus(w, path)
	case strings.HasPrefix(path, "/retry/"):
		e.failSomeTimes(w, r)
	case path == "/ws":
		webSocketEcho.ServeHTTP(w, r)
	default:
		e.echo(w, r)
	}
}

func answerStatus(w http.ResponseWriter, path string) {
	found := status.FindStringSubmatch(path)
	if found == nil {
		http.Error(w, "a status of three digits must follow /status/", http.StatusBadRequest)
		return
	}
	code, _ := strconv.Atoi(found[1]) // three digits
	w.WriteHeader(code)
}

// echo answers with the request, after `?delay=`.
func (e *echo) echo(w http.ResponseWriter, r *http.Request) {
	logf("Echoing back request made to %s to client (%s)", r.RequestURI, r.RemoteAddr)
	if err := sleep(r, "delay"); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	body, err := json.MarshalIndent(e.capture(r), "", " ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	setAskedHeaders(w.Header(), r.Header.Values("X-Echo-Set-Header"))
	w.Header().Set("Content-Type", "application/json") // exactly: the suite decodes no other
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Write(body)
}

func (e *echo) capture(r *http.Request) captured {
	seen := captured{
		Path: r.RequestURI, Host: r.Host, Method: r.Method, Protocol: r.Proto, Headers: r.Header,
		HTTPPort: e.httpPort, identity: e.identity,
	}
	if r.TLS != nil {
		seen.TLS = &capturedTLS{
			Version:            tlsVersion(r.TLS.Version),
			PeerCertificates:   peerCertificates(r.TLS),
			ServerName:         r.TLS.ServerName,
			NegotiatedProtocol: r.TLS.NegotiatedProtocol,
			CipherSuite:        tls.CipherSuiteName(r.TLS.CipherSuite),
		}
	}
	return seen
}

// setAskedHeaders sets `name:value` items, separated by commas. The name's case stays, a name that comes again has
// its values joined with a comma, and an item without a name sets nothing.
func setAskedHeaders(headers http.Header, asked []string) {
	for item := range strings.SplitSeq(strings.Join(asked, ","), ",") {
		name, value, _ := strings.Cut(item, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		switch {
		case name == "":
		case headers[name] == nil:
			headers[name] = []string{value}
		default:
			headers[name][0] += "," + value
		}
	}
}

var errNotADuration = errors.New("not a duration such as 300ms")

// sleep waits for as long as a query parameter says, or until the client has gone.
func sleep(r *http.Request, parameter string) error {
	text := r.URL.Query().Get(parameter)
	if text == "" {
		return nil
	}
	delay, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%s %q: %w", parameter, text, errNotADuration)
	}
	select {
	case <-time.After(delay):
	case <-r.Context().Done():
	}
	return nil
}
