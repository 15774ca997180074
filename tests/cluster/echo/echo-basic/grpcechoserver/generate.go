// Package grpcechoserver holds the messages and the client of the gRPC echo, generated from grpcecho.proto.
//
// To make them again: `go generate ./...` with a python3 in the path that has grpcio-tools, which brings protoc.
package grpcechoserver

//go:generate sh -c "python3 -m grpc_tools.protoc --proto_path=. --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative --plugin=protoc-gen-go=$(go tool -n protoc-gen-go) --plugin=protoc-gen-go-grpc=$(go tool -n protoc-gen-go-grpc) grpcecho.proto"
