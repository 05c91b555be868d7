package interop

import (
	"context"
	"slices"
	"testing"

	pb "bowline.test/interop/gen/bowline/v1"
)

var (
	earliest = &pb.StartPosition{Position: &pb.StartPosition_Earliest{Earliest: &pb.Earliest{}}}
	snapshot = &pb.StartPosition{Position: &pb.StartPosition_Snapshot{Snapshot: &pb.Snapshot{}}}
)

// changes says what events do to keys: key=payload, or -key.
func changes(events []*pb.Event) []string {
	var out []string
	for _, event := range events {
		if event.Operation == pb.Operation_OPERATION_DELETE {
			out = append(out, "-"+string(event.Key))
		} else {
			out = append(out, string(event.Key)+"="+string(event.Payload))
		}
	}
	return out
}

func expect(t *testing.T, got []string, expected ...string) {
	t.Helper()
	if !slices.Equal(got, expected) {
		t.Fatalf("%q instead of %q", got, expected)
	}
}

func TestNoMoreComesThanTheCreditAllows(t *testing.T) {
	b := newBench(t)
	b.store("1", "2", "3", "4", "5")
	c := b.connect()
	c.open(&pb.OpenSession{Session: 1, Topic: b.topic, Start: earliest, Credit: &pb.Credit{}})
	c.quiet()
	c.flow(&pb.Flow{Session: 1, Credit: &pb.Credit{Events: 2}})
	expect(t, c.receive(2), "1", "2")
	c.quiet()
	c.flow(&pb.Flow{Session: 1, Credit: &pb.Credit{Events: 1}})
	c.quiet()
	c.flow(&pb.Flow{Session: 1, Credit: &pb.Credit{Events: 4}})
	expect(t, c.receive(2), "3", "4")
	c.quiet()
}

func TestAPauseIsAnsweredAndNothingFollowsUntilResume(t *testing.T) {
	b := newBench(t)
	c := b.connect()
	c.open(&pb.OpenSession{Session: 1, Topic: b.topic})
	paused, resumed := true, false
	c.flow(&pb.Flow{Session: 1, Paused: &paused})
	b.store("1", "2")
	c.quiet()
	c.outbox <- &pb.StreamDataRequest{Frame: &pb.StreamDataRequest_Flow{Flow: &pb.Flow{Session: 1, Paused: &resumed}}}
	expect(t, c.receive(2), "1", "2")
}

func TestASnapshotIsWhatIsThereAndChangesFollow(t *testing.T) {
	b := newBench(t)
	b.topic = "state." + b.topic
	b.put("a", "1")
	b.put("b", "1")
	b.put("a", "2")
	c := b.connect()
	c.open(&pb.OpenSession{Session: 1, Topic: b.topic, Start: snapshot})
	expect(t, changes(c.snapshot(1)), "b=1", "a=2")
	b.put("c", "1")
	expect(t, changes(c.events(1)), "c=1")
}

func TestMembersAreHeardOfAndListed(t *testing.T) {
	b := newBench(t)
	reader, member := b.connect(), b.connect()
	reader.open(&pb.OpenSession{Session: 1, Topic: "~presence." + b.topic, Start: snapshot})
	expect(t, changes(reader.snapshot(1)))
	member.open(&pb.OpenSession{
		Session: 1, SessionId: "desk", Topic: b.topic, Presence: &pb.Presence{Info: []byte("busy")},
	})
	name := b.clientID + " desk"
	expect(t, changes(reader.events(1)), name+"=busy")

	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	page, err := pb.NewTopicServiceClient(b.channel).GetPresence(ctx, &pb.GetPresenceRequest{Topic: b.topic})
	if err != nil || page.MemberCount != 1 || page.Members[0].ClientId != b.clientID ||
		page.Members[0].SessionId != "desk" || string(page.Members[0].Info) != "busy" {
		t.Fatalf("%v, %v", page, err)
	}
	member.outbox <- &pb.StreamDataRequest{Frame: &pb.StreamDataRequest_CloseSession{
		CloseSession: &pb.CloseSession{Session: 1},
	}}
	expect(t, changes(reader.events(1)), "-"+name)
}
