"""Credit, pause, resume, policies, keyed topics and presence, from the .proto files alone. See test_interop.py."""

import unittest

from bowline.v1 import stream_pb2, topic_pb2
from bowline_client import WAIT, Connection
from test_interop import Bench, new_event


def credit(events, payload_bytes=0):
    return stream_pb2.Credit(events=events, bytes=payload_bytes)


def at(cursor):
    return stream_pb2.StartPosition(cursor=cursor)


EARLIEST = stream_pb2.StartPosition(earliest=stream_pb2.Earliest())
SNAPSHOT = stream_pb2.StartPosition(snapshot=stream_pb2.Snapshot())


class Sessions(Bench):
    def store(self, *payloads, topic=None):
        events = [payload if isinstance(payload, topic_pb2.NewEvent) else new_event(payload) for payload in payloads]
        request = topic_pb2.PublishBatchRequest(topic=topic or self.topic, events=events)
        answer = self.topics.PublishBatch(request, timeout=WAIT)
        self.assertFalse(answer.HasField("failure"), answer)

    def test_no_more_comes_than_was_granted(self):
        self.store(*[b"%d" % n for n in range(20)])
        connection = self.connect()
        connection.open(1, "credit", self.topic, start=EARLIEST, credit=credit(3))
        self.assertEqual(len(connection.receive(3)), 3)
        self.assertTrue(connection.is_quiet())
        connection.send(flow=stream_pb2.Flow(session=1, credit=credit(10)))
        connection.send(flow=stream_pb2.Flow(session=1, credit=credit(5)))
        self.assertEqual(len(connection.receive(7)), 7)
        self.assertTrue(connection.is_quiet(), "a lower total is ignored")

    def test_nothing_follows_the_reply_to_a_pause_until_the_session_is_resumed(self):
        connection = self.connect()
        connection.open(1, "pause", self.topic)
        self.store(*[b"%d" % n for n in range(500)])
        before, reply = connection.ask(1, flow=stream_pb2.Flow(session=1, paused=True))
        self.assertFalse(reply.HasField("failure"), reply)
        self.store(b"while paused")
        self.assertTrue(connection.is_quiet())
        connection.send(flow=stream_pb2.Flow(session=1, paused=False))
        events = before + connection.receive(501 - len(before))
        self.assertEqual(events[-1].payload, b"while paused")

    def test_a_killed_client_resumes_and_has_every_event_once(self):
        self.store(*[b"%d" % n for n in range(1000)])
        payloads, cursor, attach = [], None, 0
        while len(payloads) < 1000:
            connection = self.connect()
            opened = connection.open(
                1, "resumed", self.topic, start=at(cursor) if cursor else EARLIEST, last_attach=attach, credit=credit(300)
            )
            self.assertEqual(opened.recovery, stream_pb2.RECOVERY_FULL if cursor else stream_pb2.RECOVERY_FRESH)
            self.assertGreater(opened.attach, attach)
            attach = opened.attach
            payloads += [event.payload for event in connection.receive(min(300, 1000 - len(payloads)))]
            cursor = connection.cursors[1]
            connection.vanish()
        self.assertEqual(payloads, [b"%d" % n for n in range(1000)])

    def test_a_slow_session_is_told_what_was_dropped(self):
        connection = self.connect()
        connection.open(
            1, "slow", self.topic, credit=credit(1), delivery_policy=stream_pb2.DELIVERY_POLICY_DROP_OLDEST
        )
        self.store(b"0")
        connection.receive(1)
        self.store(*[b"%d" % n for n in range(1, 1000)])
        connection.send(flow=stream_pb2.Flow(session=1, credit=credit(200)))
        gap = connection.next("gap")
        self.assertEqual(gap.reason, stream_pb2.GAP_REASON_SLOW)
        self.assertEqual(getattr(gap, "from").offset, connection.cursors[1].offset)
        connection.cursors[1] = gap.to
        self.assertEqual(len(connection.receive(199)), 199)

    def test_a_keyed_topic_gives_a_snapshot_then_changes_and_conflates(self):
        topic = f"state.{self.topic}"
        self.store(new_event(b"1", key=b"a"), new_event(b"2", key=b"b"), new_event(b"3", key=b"a"), topic=topic)
        connection = self.connect()
        opened = connection.open(
            1,
            "board",
            topic,
            start=SNAPSHOT,
            delivery_policy=stream_pb2.DELIVERY_POLICY_CONFLATE,
            max_rate_hz=5,
            credit=credit(2),
        )
        self.assertEqual((opened.topic_class, opened.max_rate_hz), (topic_pb2.TOPIC_CLASS_STATE, 5))
        self.assertEqual(connection.snapshot(1), {b"a": b"3", b"b": b"2"})
        self.store(*[new_event(b"%d" % n, key=b"ab"[n % 2 : n % 2 + 1]) for n in range(100)], topic=topic)
        connection.send(flow=stream_pb2.Flow(session=1, credit=credit(100)))
        delivery = connection.next("delivery")
        events = connection.advance(delivery)
        self.assertEqual([(event.key, event.payload) for event in events], [(b"a", b"98"), (b"b", b"99")])
        self.assertEqual(delivery.skipped, 98)

    def test_a_key_in_the_scope_of_a_session_goes_with_it(self):
        topic = f"state.{self.topic}"
        watcher = self.connect()
        watcher.open(1, "watcher", topic, start=SNAPSHOT)
        self.assertEqual(watcher.snapshot(1), {})
        writer = Connection(self.channel, f"{self.client_id}-writer")
        writer.open(1, "", topic, mode=stream_pb2.SESSION_MODE_PUBLISH_ONLY)
        event = new_event(b"here", key=b"me", session_scoped=True)
        _, reply = writer.ask(1, publish=stream_pb2.Publish(session=1, seq=1, event=event))
        self.assertFalse(reply.HasField("failure"), reply)
        self.assertEqual(watcher.receive(1)[0].payload, b"here")
        writer.vanish()
        (gone,) = watcher.receive(1)
        self.assertEqual((gone.key, gone.operation), (b"me", topic_pb2.OPERATION_DELETE))

    def test_presence_tells_who_is_there_and_who_comes_and_goes(self):
        watcher = self.connect()
        watcher.open(1, "watcher", f"~presence.{self.topic}", start=SNAPSHOT)
        self.assertEqual(watcher.snapshot(1), {})
        member = Connection(self.channel, f"{self.client_id}-member")
        member.open(1, "desk", self.topic, presence=stream_pb2.Presence(info=b"at work"))
        name = f"{self.client_id}-member desk".encode()
        (came,) = watcher.receive(1)
        self.assertEqual((came.key, came.payload), (name, b"at work"))
        there = self.topics.GetPresence(topic_pb2.GetPresenceRequest(topic=self.topic), timeout=WAIT)
        self.assertEqual([(m.client_id, m.session_id, m.info) for m in there.members],
                         [(f"{self.client_id}-member", "desk", b"at work")])
        # Lost and back again: nobody hears of it. Closed: everybody does.
        member.vanish()
        member = Connection(self.channel, f"{self.client_id}-member")
        member.open(1, "desk", self.topic, presence=stream_pb2.Presence(info=b"at work"))
        self.assertTrue(watcher.is_quiet())
        member.send(close_session=stream_pb2.CloseSession(session=1))
        member.next("session_closed")
        (left,) = watcher.receive(1)
        self.assertEqual((left.key, left.operation), (name, topic_pb2.OPERATION_DELETE))
        member.vanish()


if __name__ == "__main__":
    unittest.main()
