package interop

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
	_ "unsafe" // for go:linkname

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	pb "bowline.test/interop/gen/bowline/v1"
)

// leastTime is grpc-go's own lower bound of keepalive.ClientParameters.Time, 10 s. A test in which every time is a
// fraction of the real one lowers it as well.
//
//go:linkname leastTime google.golang.org/grpc/internal.KeepaliveMinPingTime
var leastTime time.Duration

// fromEnvironment returns a duration that the caller of this program has set.
func fromEnvironment(t *testing.T, name string) time.Duration {
	t.Helper()
	value, err := time.ParseDuration(os.Getenv(name))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return value
}

// TestGuardKeepalive keeps a conversation on one channel, and begins it anew whenever it is lost, until a transport has
// lived over so many of the pings that the server would have counted. That it pings less often each time is grpc-go's
// doing, and is seen on the wire.
func TestGuardKeepalive(t *testing.T) {
	if os.Getenv("BOWLINE_LEAST_TIME") != "" {
		leastTime = fromEnvironment(t, "BOWLINE_LEAST_TIME")
	}
	every, interval := fromEnvironment(t, "BOWLINE_KEEPALIVE"), fromEnvironment(t, "BOWLINE_INTERVAL")
	lives, err := strconv.Atoi(os.Getenv("BOWLINE_LIVES"))
	if err != nil {
		t.Fatal(err)
	}
	// What it comes to by doubling what it begins with.
	last := max(every, leastTime)
	for last < interval {
		last *= 2
	}
	settled := time.Duration(lives+2) * last
	deadline := time.Now().Add(fromEnvironment(t, "BOWLINE_PATIENCE"))

	b := newBench(t)
	b.channel.Close()
	b.channel, err = grpc.NewClient(os.Getenv("BOWLINE_ADDRESS"),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: every, Timeout: 20 * time.Second}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.channel.Close() })
	for time.Now().Before(deadline) {
		c, begun := b.connect(), time.Now()
		select {
		case frame, ok := <-c.frames:
			if ok {
				t.Fatalf("the server was to say nothing: %v", frame)
			}
			if status.Code(c.err) != codes.Unavailable || !strings.Contains(c.err.Error(), "too_many_pings") {
				t.Fatal(c.err)
			}
			t.Logf("ended after %v: %v", time.Since(begun).Round(time.Millisecond), c.err)
		case <-time.After(settled):
			t.Logf("lives after %v", settled)
			return
		}
	}
	t.Fatal("it never lived")
}

// TestGuardLoad publishes and reads what it publishes as fast as it can, with a channel as anybody makes it.
func TestGuardLoad(t *testing.T) {
	const duration = 4 * time.Second
	c := newBench(t).connect()
	c.open(&pb.OpenSession{Session: 1, SessionId: "load", Topic: c.topic})
	begun, published := time.Now(), make(chan uint64, 1)
	go func() {
		seq := uint64(0)
		for time.Since(begun) < duration {
			seq++
			c.publish(seq, 1, seq, "what everybody wants to know, and in so many words")
		}
		published <- seq
	}()
	var sent, received, replies, events uint64
	count := published
	for count != nil || replies < sent || events < sent {
		select {
		case sent = <-count:
			count = nil
			continue
		case frame, ok := <-c.frames:
			if !ok {
				t.Fatal(c.err)
			}
			received++
			switch frame := frame.Frame.(type) {
			case *pb.StreamDataResponse_Reply:
				if frame.Reply.Failure != nil {
					t.Fatalf("%v", frame.Reply)
				}
				replies++
			case *pb.StreamDataResponse_Delivery:
				events += uint64(len(c.advance(frame.Delivery)))
			}
		case <-time.After(wait):
			t.Fatalf("nothing came: %d sent, %d replies, %d events", sent, replies, events)
		}
	}
	fmt.Printf("load: %d %d %d %d\n", sent, received, events, time.Since(begun).Milliseconds())
}
