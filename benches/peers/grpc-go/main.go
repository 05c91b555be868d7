// What Bowline is measured beside: the same work as many a grpc-go server does it. Each call has two goroutines with a
// channel of 512 between them, whoever receives is found in a map behind an RWMutex. No sessions, no history, no
// identity, no limits.
//
// Its one message is `bytes value = 1`, which is BytesValue: nothing has to be generated. With the files of a certificate and
// of its key as arguments it speaks TLS.
package main

import (
	"fmt"
	"net"
	"os"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// What may wait to be sent to one call.
const queueSize = 512

type message = wrapperspb.BytesValue

// Everybody who subscribed.
type pool struct {
	mu          sync.RWMutex
	subscribers map[*call]struct{}
}

func (p *pool) add(c *call) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.subscribers[c] = struct{}{}
}

func (p *pool) remove(c *call) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.subscribers, c)
}

func (p *pool) broadcast(m *message) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for c := range p.subscribers {
		c.send(m)
	}
}

// One call, and what waits to be sent to it.
type call struct {
	stream grpc.ServerStream
	queue  chan *message
}

// Waits where the queue is full; a call that has ended takes nothing more.
func (c *call) send(m *message) {
	select {
	case c.queue <- m:
	case <-c.stream.Context().Done():
	}
}

// Sends what is queued until the call ends.
func (c *call) write() {
	for {
		select {
		case m := <-c.queue:
			if c.stream.SendMsg(m) != nil {
				return
			}
		case <-c.stream.Context().Done():
			return
		}
	}
}

// Receives until the call ends; each message is handed to `each`.
func serve(stream grpc.ServerStream, begin func(*call), each func(*call, *message), end func(*call)) error {
	c := &call{stream: stream, queue: make(chan *message, queueSize)}
	begin(c)
	defer end(c)
	go c.write()
	for {
		m := new(message)
		if err := stream.RecvMsg(m); err != nil {
			return err
		}
		each(c, m)
	}
}

func nothing(*call) {}

func main() {
	p := &pool{subscribers: map[*call]struct{}{}}
	handle := func(begin func(*call), each func(*call, *message), end func(*call)) grpc.StreamHandler {
		return func(_ any, stream grpc.ServerStream) error { return serve(stream, begin, each, end) }
	}
	echo := func(c *call, m *message) { c.send(m) }
	// Its echo is the acknowledgement.
	publish := func(c *call, m *message) {
		p.broadcast(m)
		c.send(m)
	}
	// An empty message says that it has been subscribed.
	subscribe := func(c *call) {
		p.add(c)
		c.send(new(message))
	}
	method := func(name string, handler grpc.StreamHandler) grpc.StreamDesc {
		return grpc.StreamDesc{StreamName: name, Handler: handler, ServerStreams: true, ClientStreams: true}
	}
	var options []grpc.ServerOption
	if len(os.Args) == 3 {
		tls, err := credentials.NewServerTLSFromFile(os.Args[1], os.Args[2])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		options = append(options, grpc.Creds(tls))
	}
	server := grpc.NewServer(options...)
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "peer.Peer",
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{
			method("Echo", handle(nothing, echo, nothing)),
			method("Publish", handle(nothing, publish, nothing)),
			method("Subscribe", handle(subscribe, func(*call, *message) {}, p.remove)),
		},
	}, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		fmt.Fprintln(os.Stderr, "listening", listener.Addr())
		err = server.Serve(listener)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
