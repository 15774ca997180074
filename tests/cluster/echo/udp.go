package main

import (
	"encoding/json"
	"net"

	"sigs.k8s.io/gateway-api-conformance-images/echo-basic/udpechoserver"
)

// largestDatagram is what the suite's clients send and read at most, in bytes. What is longer is cut.
const largestDatagram = 1024

// serveUDP answers each datagram on UDP_PORT with one.
func serveUDP(identity identity) error {
	socket, err := net.ListenPacket("udp", ":"+port("UDP_PORT", "8080"))
	if err != nil {
		return err
	}
	logf("Listening on %s", socket.LocalAddr())
	buffer := make([]byte, largestDatagram)
	for {
		size, client, err := socket.ReadFrom(buffer)
		if err != nil {
			return err
		}
		answer, err := json.Marshal(udpechoserver.EchoResponse{
			Request: string(buffer[:size]), Namespace: identity.Namespace, Ingress: identity.Ingress,
			Service: identity.Service, Pod: identity.Pod,
		})
		if err != nil {
			return err
		}
		if _, err := socket.WriteTo(answer, client); err != nil {
			logf("answer to %s: %v", client, err) // its port may be closed already
		}
	}
}
