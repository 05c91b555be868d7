// Package interop holds what a stranger's Go program may expect of Bowline. It is written from the .proto files and
// their comments, with stock grpc-go; tests/interop.rs generates the code and runs it.
package interop

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	pb "bowline.test/interop/gen/bowline/v1"
)

// reason returns the ErrorInfo of a failed call.
func reason(t *testing.T, err error) *errdetails.ErrorInfo {
	t.Helper()
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info
		}
	}
	t.Fatalf("no ErrorInfo in %v", err)
	return nil
}

func (b *bench) store(payloads ...string) {
	b.Helper()
	for _, payload := range payloads {
		b.put("", payload)
	}
}

// put stores an event of a key, past any session.
func (b *bench) put(key, payload string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	request := &pb.PublishRequest{Topic: b.topic, Event: &pb.NewEvent{Key: []byte(key), Payload: []byte(payload)}}
	answer, err := pb.NewTopicServiceClient(b.channel).Publish(ctx, request)
	if err != nil || answer.Durability != pb.Durability_DURABILITY_ACCEPTED {
		b.Fatalf("publish: %v, %v", answer, err)
	}
}

func TestPublishedEventsComeBackInOrderAndTheChainHolds(t *testing.T) {
	const count = 500
	c := newBench(t).connect()
	c.open(&pb.OpenSession{Session: 1, SessionId: "echo", Topic: c.topic})
	for seq := uint64(1); seq <= count; seq++ {
		c.publish(seq, 1, seq, fmt.Sprint("event ", seq))
	}
	replies := map[uint64]uint64{}
	var events []*pb.Event
	for len(replies) < count || len(events) < count {
		switch frame := c.next().Frame.(type) {
		case *pb.StreamDataResponse_Reply:
			if frame.Reply.Failure != nil || frame.Reply.ThroughSeq < frame.Reply.RequestId {
				t.Fatalf("%v", frame.Reply)
			}
			replies[frame.Reply.RequestId] = frame.Reply.Cursor.Offset
		case *pb.StreamDataResponse_Delivery:
			events = append(events, c.advance(frame.Delivery)...)
		default:
			t.Fatalf("unexpected %v", frame)
		}
	}
	for i, event := range events {
		seq := uint64(i + 1)
		if string(event.Payload) != fmt.Sprint("event ", seq) || event.Offset != replies[seq] {
			t.Fatalf("event %d: %v, reply said %d", seq, event, replies[seq])
		}
		if event.Publisher != c.clientID {
			t.Fatalf("publisher %q", event.Publisher)
		}
	}
}

func TestASessionResumesByCursorOnANewConnection(t *testing.T) {
	b := newBench(t)
	b.store("1", "2", "3")
	first := b.connect()
	opened := first.open(&pb.OpenSession{Session: 3, SessionId: "resumed", Topic: b.topic, Start: earliest})
	if got := first.receive(3); !slices.Equal(got, []string{"1", "2", "3"}) {
		t.Fatal(got)
	}
	first.vanish()
	b.store("4", "5")

	second := b.connect()
	start := &pb.StartPosition{Position: &pb.StartPosition_Cursor{Cursor: first.cursors[3]}}
	again := second.open(&pb.OpenSession{
		Session: 1, SessionId: "resumed", Topic: b.topic, Start: start, LastAttach: opened.Attach,
	})
	if again.Recovery != pb.Recovery_RECOVERY_FULL || again.Attach <= opened.Attach {
		t.Fatalf("%v after %v", again, opened)
	}
	b.store("6")
	if got := second.receive(3); !slices.Equal(got, []string{"4", "5", "6"}) {
		t.Fatal(got)
	}
}

func TestAProbeIsAnsweredAndKeepsTheConnection(t *testing.T) {
	c := newBench(t).connect()
	deadline := time.Now().Add(time.Duration(c.welcome.ReceiveTimeoutMs)*time.Millisecond + wait)
	for c.probes.Load() < 2 && time.Now().Before(deadline) {
		if c.take() == nil {
			t.Fatalf("closed though it answered: %v", c.err)
		}
	}
	if c.probes.Load() < 2 {
		t.Fatal("never probed twice")
	}
}

func TestANewerConnectionTakesTheSessionOver(t *testing.T) {
	b := newBench(t)
	older, newer := b.connect(), b.connect()
	open := &pb.OpenSession{Session: 1, SessionId: "one", Topic: b.topic}
	older.open(open)
	newer.open(open)
	closed := older.next().GetSessionClosed()
	if closed.GetFailure().GetReason() != "TAKEN_OVER" || closed.Failure.Advice != pb.Advice_ADVICE_FATAL {
		t.Fatalf("%v", closed)
	}
	b.store("for the newer one")
	newer.receive(1)
}

func TestHalfCloseEndsTheStreamWithOK(t *testing.T) {
	c := newBench(t).connect()
	close(c.outbox)
	if err := c.end(); err.Error() != "EOF" {
		t.Fatal(err)
	}
}

func TestASecondHelloEndsTheStreamWithItsReason(t *testing.T) {
	c := newBench(t).connect()
	c.outbox <- &pb.StreamDataRequest{Frame: &pb.StreamDataRequest_Hello{Hello: &pb.Hello{}}}
	err := c.end()
	if status.Code(err) != codes.InvalidArgument || reason(t, err).Reason != "PROTOCOL" {
		t.Fatal(err)
	}
}

func TestAFailedRequestIsAnsweredAndLeavesTheStreamAlone(t *testing.T) {
	c := newBench(t).connect()
	c.publish(9, 42, 1, "to nobody")
	reply := c.next().GetReply()
	if reply.GetRequestId() != 9 || codes.Code(reply.Failure.GetCode()) != codes.NotFound ||
		reply.Failure.Reason != "UNKNOWN_SESSION" {
		t.Fatalf("%v", reply)
	}
	c.open(&pb.OpenSession{Session: 42, Topic: c.topic, Mode: pb.SessionMode_SESSION_MODE_READ_ONLY})
	c.publish(10, 42, 1, "not allowed")
	if reply := c.next().GetReply(); reply.GetFailure().GetReason() != "READ_ONLY" {
		t.Fatalf("%v", reply)
	}
}

func TestABatchIsStoredInOrderAndReadBackInPages(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	topics := pb.NewTopicServiceClient(b.channel)
	batch := &pb.PublishBatchRequest{Topic: b.topic}
	for n := range 250 {
		batch.Events = append(batch.Events, &pb.NewEvent{Payload: []byte(fmt.Sprint(n))})
	}
	stored, err := topics.PublishBatch(ctx, batch)
	if err != nil || len(stored.Stored) != 250 || stored.Failure != nil {
		t.Fatalf("%v, %v", stored, err)
	}
	request, read := &pb.ReadHistoryRequest{Topic: b.topic, Limit: 100}, 0
	for {
		page, err := topics.ReadHistory(ctx, request)
		if err != nil || page.Gap {
			t.Fatalf("%v, %v", page, err)
		}
		for _, event := range page.Events {
			if string(event.Payload) != fmt.Sprint(read) {
				t.Fatalf("event %d is %v", read, event)
			}
			read++
		}
		if page.Next.Offset == page.Head.Offset {
			break
		}
		request.After = page.Next
	}
	if read != 250 {
		t.Fatal(read)
	}
}

func TestAnOperatorSeesAndEndsAConnection(t *testing.T) {
	b := newBench(t)
	c := b.connect()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	operator := pb.NewConnectionServiceClient(b.channel)
	list, err := operator.ListConnections(ctx, &pb.ListConnectionsRequest{ClientId: b.clientID})
	if err != nil || len(list.Connections) != 1 || list.Connections[0].ConnectionId != c.welcome.ConnectionId {
		t.Fatalf("%v, %v", list, err)
	}
	target := &pb.DisconnectRequest_ConnectionId{ConnectionId: c.welcome.ConnectionId}
	if _, err := operator.Disconnect(ctx, &pb.DisconnectRequest{Target: target}); err != nil {
		t.Fatal(err)
	}
	if err := c.end(); status.Code(err) != codes.Unavailable || reason(t, err).Reason != "DISCONNECTED" {
		t.Fatal(err)
	}
}

func TestTheStandardHealthServiceSaysServing(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	health := healthpb.NewHealthClient(b.channel)
	listed, err := health.List(ctx, &healthpb.HealthListRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, service := range []string{"", "bowline.v1.StreamService"} {
		asked := &healthpb.HealthCheckRequest{Service: service}
		answer, err := health.Check(ctx, asked)
		if err != nil || answer.Status != healthpb.HealthCheckResponse_SERVING {
			t.Fatalf("%q: %v, %v", service, answer, err)
		}
		watched, err := health.Watch(ctx, asked)
		if err != nil {
			t.Fatalf("%q: %v", service, err)
		}
		answer, err = watched.Recv()
		if err != nil || answer.Status != healthpb.HealthCheckResponse_SERVING {
			t.Fatalf("watch %q: %v, %v", service, answer, err)
		}
		if status := listed.Statuses[service].GetStatus(); status != healthpb.HealthCheckResponse_SERVING {
			t.Fatalf("list %q: %v", service, status)
		}
	}
}
