package main

import (
	"context"
	"crypto/tls"
	"maps"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/reflection"
	pb "sigs.k8s.io/gateway-api-conformance-images/echo-basic/grpcechoserver"
)

// grpcEcho leaves EchoThree to what is embedded: code 12.
type grpcEcho struct {
	pb.UnimplementedGrpcEchoServer
	identity identity
}

// serveGRPC serves without TLS on HTTP_PORT and, with a certificate, with TLS on HTTPS_PORT.
func serveGRPC(identity identity) error {
	config, err := serverTLS("TLS_SERVER_CERT", "TLS_SERVER_PRIV_KEY")
	if err != nil {
		return err
	}
	service := &grpcEcho{identity: identity}
	servers := []func() error{func() error { return service.serve(port("HTTP_PORT", "3000")) }}
	if config != nil {
		encrypted := grpc.Creds(credentials.NewTLS(config)) // offers h2 by itself
		servers = append(servers, func() error { return service.serve(port("HTTPS_PORT", "8443"), encrypted) })
	}
	return firstError(servers...)
}

func (g *grpcEcho) serve(port string, options ...grpc.ServerOption) error {
	listener, err := listen(port)
	if err != nil {
		return err
	}
	server := grpc.NewServer(options...)
	pb.RegisterGrpcEchoServer(server, g)
	reflection.Register(server)
	return server.Serve(listener)
}

// Echo answers with what came beside the empty request.
func (g *grpcEcho) Echo(ctx context.Context, request *pb.EchoRequest) (*pb.EchoResponse, error) {
	return g.answer(ctx, request), nil
}

// EchoTwo answers as Echo does.
func (g *grpcEcho) EchoTwo(ctx context.Context, request *pb.EchoRequest) (*pb.EchoResponse, error) {
	return g.answer(ctx, request), nil
}

func (g *grpcEcho) answer(ctx context.Context, request *pb.EchoRequest) *pb.EchoResponse {
	method, _ := grpc.Method(ctx)
	seen := &pb.Assertions{
		FullyQualifiedMethod: method,
		Context: &pb.Context{
			Namespace: g.identity.Namespace, Ingress: g.identity.Ingress,
			ServiceName: g.identity.Service, Pod: g.identity.Pod,
		},
	}
	received, _ := metadata.FromIncomingContext(ctx)
	for _, key := range slices.Sorted(maps.Keys(received)) {
		for _, value := range received[key] {
			seen.Headers = append(seen.Headers, &pb.Header{Key: key, Value: value})
		}
	}
	if authority := received.Get(":authority"); len(authority) > 0 {
		seen.Authority = authority[0]
	}
	if client, ok := peer.FromContext(ctx); ok {
		logf("Echoing back request made to %s to client (%s)", method, client.Addr)
		if info, ok := client.AuthInfo.(credentials.TLSInfo); ok {
			seen.TlsAssertions = &pb.TLSAssertions{
				Version:            tlsVersion(info.State.Version),
				NegotiatedProtocol: info.State.NegotiatedProtocol,
				ServerName:         info.State.ServerName,
				CipherSuite:        tls.CipherSuiteName(info.State.CipherSuite),
				PeerCertificates:   peerCertificates(&info.State),
			}
		}
	}
	return &pb.EchoResponse{Assertions: seen, Request: request}
}
