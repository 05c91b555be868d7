package interop

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	pb "bowline.test/interop/gen/bowline/v1"
)

// Longest wait for one answer.
const wait = 10 * time.Second

// bench is what one test works with: a channel of its own, and a topic nobody else uses.
type bench struct {
	*testing.T
	channel  *grpc.ClientConn
	clientID string
	topic    string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	address := os.Getenv("BOWLINE_ADDRESS")
	if address == "" {
		t.Fatal("BOWLINE_ADDRESS is not set")
	}
	channel, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { channel.Close() })
	name := fmt.Sprintf("%08x", rand.Uint32())
	return &bench{T: t, channel: channel, clientID: "go-" + name, topic: "interop.go." + name}
}

// connection is one StreamData call. It holds each session's cursor, checks the chain, and answers probes.
type connection struct {
	*bench
	stream  grpc.BidiStreamingClient[pb.StreamDataRequest, pb.StreamDataResponse]
	cancel  context.CancelFunc
	frames  chan *pb.StreamDataResponse
	outbox  chan *pb.StreamDataRequest
	err     error // why the stream ended; read it after frames is closed
	probes  atomic.Int32
	welcome *pb.Welcome
	cursors map[uint32]*pb.Cursor
	// Sessions whose snapshot has not ended.
	inSnapshot map[uint32]bool
}

// dial opens a connection without a Hello.
func (b *bench) dial() *connection {
	b.Helper()
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(context.Background(), "x-client-id", b.clientID))
	b.Cleanup(cancel)
	stream, err := pb.NewStreamServiceClient(b.channel).StreamData(ctx)
	if err != nil {
		b.Fatal(err)
	}
	c := &connection{
		bench: b, stream: stream, cancel: cancel, cursors: map[uint32]*pb.Cursor{}, inSnapshot: map[uint32]bool{},
		frames: make(chan *pb.StreamDataResponse, 1024), outbox: make(chan *pb.StreamDataRequest, 1024),
	}
	go c.write()
	go c.read()
	return c
}

// connect opens a connection and greets.
func (b *bench) connect() *connection {
	b.Helper()
	c := b.dial()
	c.outbox <- &pb.StreamDataRequest{Frame: &pb.StreamDataRequest_Hello{
		Hello: &pb.Hello{VersionMin: 1, VersionMax: 1, Agent: "interop-go"},
	}}
	c.welcome = c.next().GetWelcome()
	if c.welcome == nil {
		b.Fatal("the first frame was no Welcome")
	}
	return c
}

// write sends what stands in the outbox; a closed outbox half-closes the stream.
func (c *connection) write() {
	for request := range c.outbox {
		if c.stream.Send(request) != nil {
			return // read learns why
		}
	}
	c.stream.CloseSend()
}

func (c *connection) read() {
	for {
		response, err := c.stream.Recv()
		if err != nil {
			c.err = err
			close(c.frames)
			return
		}
		if heartbeat := response.GetHeartbeat(); heartbeat.GetReplyRequested() {
			c.outbox <- &pb.StreamDataRequest{Frame: &pb.StreamDataRequest_Heartbeat{
				Heartbeat: &pb.Heartbeat{Nonce: heartbeat.Nonce},
			}}
			c.probes.Add(1)
		}
		c.frames <- response
	}
}

// take returns the next frame, heartbeats included; nil when the stream has ended.
func (c *connection) take() *pb.StreamDataResponse {
	c.Helper()
	select {
	case frame := <-c.frames:
		return frame
	case <-time.After(wait):
		c.Fatal("no frame came")
		return nil
	}
}

// next returns the next frame that is no heartbeat.
func (c *connection) next() *pb.StreamDataResponse {
	c.Helper()
	for {
		frame := c.take()
		if frame == nil {
			c.Fatalf("the stream ended: %v", c.err)
		}
		if frame.GetHeartbeat() == nil {
			return frame
		}
	}
}

// end waits for the end of the stream and returns its error.
func (c *connection) end() error {
	c.Helper()
	for c.take() != nil {
	}
	return c.err
}

// vanish ends the call without a word.
func (c *connection) vanish() {
	c.cancel()
	c.end()
}

func (c *connection) open(open *pb.OpenSession) *pb.SessionOpened {
	c.Helper()
	c.outbox <- &pb.StreamDataRequest{Frame: &pb.StreamDataRequest_OpenSession{OpenSession: open}}
	frame := c.next()
	opened := frame.GetSessionOpened()
	if opened == nil {
		c.Fatalf("expected SessionOpened, got %v", frame)
	}
	c.cursors[open.Session] = opened.Start
	keyed := opened.TopicClass == pb.TopicClass_TOPIC_CLASS_STATE
	c.inSnapshot[open.Session] = keyed && open.Start.GetSnapshot() != nil
	return opened
}

// flow sends a Flow and waits for its Reply; deliveries that come before it are taken.
func (c *connection) flow(flow *pb.Flow) {
	c.Helper()
	const request = 1_000_000
	c.outbox <- &pb.StreamDataRequest{RequestId: request, Frame: &pb.StreamDataRequest_Flow{Flow: flow}}
	for {
		frame := c.next()
		if reply := frame.GetReply(); reply != nil {
			if reply.RequestId != request || reply.Failure != nil {
				c.Fatalf("%v", reply)
			}
			return
		}
		c.advance(frame.GetDelivery())
	}
}

// quiet fails the test if the server has anything to say before it answers two heartbeats. Two, because answers go
// before deliveries; what was due when the first was given comes before the second.
func (c *connection) quiet() {
	c.Helper()
	for nonce := uint64(1); nonce <= 2; nonce++ {
		c.outbox <- &pb.StreamDataRequest{Frame: &pb.StreamDataRequest_Heartbeat{
			Heartbeat: &pb.Heartbeat{Nonce: nonce, ReplyRequested: true},
		}}
		for {
			frame := c.take()
			heartbeat := frame.GetHeartbeat()
			if heartbeat == nil {
				c.Fatalf("unexpected %v", frame)
			}
			if heartbeat.Nonce == nonce && !heartbeat.ReplyRequested {
				break
			}
		}
	}
}

func (c *connection) publish(requestID uint64, session uint32, seq uint64, payload string) {
	c.outbox <- &pb.StreamDataRequest{RequestId: requestID, Frame: &pb.StreamDataRequest_Publish{
		Publish: &pb.Publish{Session: session, Seq: seq, Event: &pb.NewEvent{Payload: []byte(payload)}},
	}}
}

// advance checks the chain and moves the cursor.
func (c *connection) advance(delivery *pb.Delivery) []*pb.Event {
	c.Helper()
	cursor := c.cursors[delivery.Session]
	if delivery.Prev != cursor.Offset {
		c.Fatalf("chain broken: prev %d, cursor %d", delivery.Prev, cursor.Offset)
	}
	if delivery.Snapshot != c.inSnapshot[delivery.Session] {
		c.Fatalf("out of place: %v", delivery)
	}
	if delivery.Snapshot {
		c.inSnapshot[delivery.Session] = len(delivery.Events) > 0
		return delivery.Events
	}
	for _, event := range delivery.Events {
		if event.Offset <= cursor.Offset {
			c.Fatalf("offset %d after %d", event.Offset, cursor.Offset)
		}
		cursor.Offset = event.Offset
	}
	return delivery.Events
}

// events returns count events, whatever the runs they come in.
func (c *connection) events(count int) []*pb.Event {
	c.Helper()
	var events []*pb.Event
	for len(events) < count {
		frame := c.next()
		if frame.GetDelivery() == nil {
			c.Fatalf("expected Delivery, got %v", frame)
		}
		events = append(events, c.advance(frame.GetDelivery())...)
	}
	return events
}

// snapshot returns the events of a snapshot that is due, up to its end.
func (c *connection) snapshot(session uint32) []*pb.Event {
	c.Helper()
	var events []*pb.Event
	for c.inSnapshot[session] {
		frame := c.next()
		if frame.GetDelivery() == nil {
			c.Fatalf("expected Delivery, got %v", frame)
		}
		events = append(events, c.advance(frame.GetDelivery())...)
	}
	return events
}

// receive returns count payloads.
func (c *connection) receive(count int) []string {
	c.Helper()
	var payloads []string
	for _, event := range c.events(count) {
		payloads = append(payloads, string(event.Payload))
	}
	return payloads
}
