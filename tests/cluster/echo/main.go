// Echo plays a backend: it answers each request with what it saw of it and with who it is.
//
// One of four modes, chosen by the first of GRPC_ECHO_SERVER, TCP_ECHO_SERVER and UDP_ECHO_SERVER that is not empty,
// HTTP without any. Ports come from the environment too (settings.go); each is bound on all addresses. The program is
// configured by nothing else, so that one image serves all Deployments of the conformance suite.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// Ends at once, and explicitly: a process that is the first of its PID namespace has no default action for signals.
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	failed := make(chan error)
	go func() { failed <- serve() }()
	select {
	case <-stop:
	case err := <-failed:
		fmt.Fprintln(os.Stderr, "echo:", err)
		os.Exit(1)
	}
}

// serve runs the mode that the environment chooses and returns why it could not go on; it never returns nil.
func serve() error {
	identity := identityFromEnvironment()
	switch {
	case os.Getenv("GRPC_ECHO_SERVER") != "":
		return serveGRPC(identity)
	case os.Getenv("TCP_ECHO_SERVER") != "":
		return serveTCP(identity)
	case os.Getenv("UDP_ECHO_SERVER") != "":
		return serveUDP(identity)
	default:
		return serveHTTP(identity)
	}
}

// logf writes one line to the log at once: the mirror tests of the suite read it right after the answer.
func logf(format string, arguments ...any) {
	fmt.Fprintf(os.Stdout, format+"\n", arguments...)
}

// firstError runs servers side by side and returns the first one's error.
func firstError(servers ...func() error) error {
	failed := make(chan error, len(servers))
	for _, server := range servers {
		go func() { failed <- server() }()
	}
	return <-failed
}
