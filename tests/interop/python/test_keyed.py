"""What a stranger's Python program may expect of keyed topics: snapshots, keys of a session, presence."""

from google.rpc import code_pb2

from bench import Bench, changes, new_event
from bowline.v1 import stream_pb2, topic_pb2
from bowline_client import WAIT

SNAPSHOT = stream_pb2.StartPosition(snapshot=stream_pb2.Snapshot())


class Keyed(Bench):
    def reader(self, topic):
        """A connection that has read what is there, and hears of every change."""
        reader = self.connect(client_id=f"{self.client_id}-reader")
        reader.open(1, "", topic, start=SNAPSHOT)
        reader.snapshot(1)
        return reader

    def members(self, **page):
        request = topic_pb2.GetPresenceRequest(topic=self.topic, **page)
        return self.topics.GetPresence(request, timeout=WAIT)

    def test_a_snapshot_is_what_is_there_and_changes_follow(self):
        self.store_changes("a=1", "b=1", "a=2", "c=1", "-b")
        connection = self.connect()
        opened = connection.open(1, "", self.state, start=SNAPSHOT)
        self.assertEqual(opened.start.offset, 5)
        self.assertEqual(changes(connection.snapshot(1)), ["a=2", "c=1"])
        self.store_changes("b=2", "-a")
        self.assertEqual(changes(connection.receive(2)), ["b=2", "-a"])

    def test_a_snapshot_comes_at_the_clients_pace_while_keys_change(self):
        self.store_changes("a=1", "b=1", "c=1")
        connection = self.connect()
        connection.open(1, "", self.state, start=SNAPSHOT, credit=stream_pb2.Credit(events=1))
        self.assertEqual(changes(connection.receive(1)), ["a=1"])
        self.assertEqual(connection.settled(), [])
        self.store_changes("c=2", "-a")
        connection.flow(1, credit=stream_pb2.Credit(events=100))
        self.assertEqual(changes(connection.snapshot(1)), ["b=1"])
        self.assertEqual(changes(connection.receive(2)), ["c=2", "-a"])

    def test_an_event_of_a_keyed_topic_needs_a_key(self):
        connection = self.connect()
        connection.open(1, "", self.state)
        failure = connection.publish(1, 1, b"keyless").failure
        self.assertEqual((failure.code, failure.reason), (code_pb2.INVALID_ARGUMENT, "INVALID_FIELD"))
        self.assertEqual(failure.metadata["field"], "event.key")

    def test_a_key_of_a_session_is_removed_when_the_session_is_closed(self):
        reader, owner = self.reader(self.state), self.connect()
        owner.open(1, "desk", self.state, mode=stream_pb2.SESSION_MODE_PUBLISH_ONLY)
        owner.publish(1, 1, b"here", key=b"mine", session_scoped=True)
        owner.publish(1, 2, b"here", key=b"ours")
        self.assertEqual(changes(reader.receive(2)), ["mine=here", "ours=here"])
        owner.close(1)
        (removed,) = reader.receive(1)
        self.assertEqual((changes([removed]), removed.publisher), (["-mine"], self.client_id))

    def test_a_key_of_a_session_outlives_its_connection_for_the_grace_and_is_then_removed(self):
        reader, owner = self.reader(self.state), self.connect()
        owner.open(1, "desk", self.state, mode=stream_pb2.SESSION_MODE_PUBLISH_ONLY)
        owner.publish(1, 1, b"here", key=b"mine", session_scoped=True)
        (put,) = reader.receive(1)
        owner.vanish()
        (removed,) = reader.receive(1)
        self.assertEqual(changes([removed]), ["-mine"])
        grace = owner.welcome.limits.key_grace_ms * 1000
        self.assertGreaterEqual(removed.time_us - put.time_us, grace)

    def test_who_is_in_a_topic_is_heard_of_and_can_be_asked_for(self):
        self.assertEqual(self.members(), topic_pb2.GetPresenceResponse())
        reader, member = self.reader(f"~presence.{self.topic}"), self.connect()
        name = f"{self.client_id} desk"
        presence = stream_pb2.Presence(info=b"busy")
        member.open(1, "desk", self.topic, presence=presence)
        self.assertEqual(changes(reader.receive(1)), [f"{name}=busy"])
        (there,) = self.members().members
        self.assertEqual((there.client_id, there.session_id, there.info), (self.client_id, "desk", b"busy"))
        # Away for a moment, with nobody the wiser; then with something else to say.
        member.vanish()
        member = self.connect()
        member.open(1, "desk", self.topic, presence=presence)
        self.assertEqual(reader.settled(), [])
        member.close(1, keep=True)
        member.open(1, "desk", self.topic, presence=stream_pb2.Presence(info=b"idle"))
        self.assertEqual(changes(reader.receive(1)), [f"{name}=idle"])
        member.close(1)
        self.assertEqual(changes(reader.receive(1)), [f"-{name}"])
        self.assertEqual(self.members().member_count, 0)

    def test_members_come_in_pages(self):
        member = self.connect()
        for session in range(1, 8):
            member.open(session, f"s{session}", self.topic, presence=stream_pb2.Presence())
        seen, token, sizes = [], "", []
        while token or not sizes:
            page = self.members(page_size=3, page_token=token)
            self.assertEqual(page.member_count, 7)
            seen += [there.session_id for there in page.members]
            sizes.append(len(page.members))
            token = page.next_page_token
        self.assertEqual((seen, sizes), ([f"s{session}" for session in range(1, 8)], [3, 3, 1]))

    def test_presence_is_not_written_by_clients(self):
        connection = self.connect()
        connection.open(1, "", f"~presence.{self.topic}")
        failure = connection.publish(1, 1, b"", key=b"forged desk").failure
        self.assertEqual((failure.code, failure.reason), (code_pb2.FAILED_PRECONDITION, "READ_ONLY"))

    def test_a_signal_is_for_those_who_are_there(self):
        topic = f"signal.{self.topic}"
        self.store(topic, [new_event(b"nobody hears this")])
        connection = self.connect()
        earliest = stream_pb2.StartPosition(earliest=stream_pb2.Earliest())
        opened = connection.open(1, "", topic, start=earliest)
        self.assertEqual((opened.topic_class, opened.start), (topic_pb2.TOPIC_CLASS_SIGNAL, opened.head))
        self.store(topic, [new_event(b"this is heard")])
        self.assertEqual([event.payload for event in connection.receive(1)], [b"this is heard"])
