package main

import (
	"golang.org/x/net/websocket"
)

// frame is a message with its type, which the package's own codecs decide by the Go type instead.
type frame struct {
	kind byte
	data []byte
}

var frames = websocket.Codec{
	Marshal: func(v any) ([]byte, byte, error) {
		message := v.(*frame)
		return message.data, message.kind, nil
	},
	Unmarshal: func(data []byte, kind byte, v any) error {
		*v.(*frame) = frame{kind: kind, data: data}
		return nil
	},
}

// webSocketEcho sends each frame back, text as text and binary as binary. A Server, not a Handler: that would refuse
// clients that are no browser, for want of an Origin.
var webSocketEcho = websocket.Server{Handler: func(connection *websocket.Conn) {
	var message frame
	for frames.Receive(connection, &message) == nil && frames.Send(connection, &message) == nil {
	}
}}
