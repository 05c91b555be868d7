"""What a stranger's Python program may expect of a session: credit, pause, resume, what a slow one gets."""

from google.rpc import code_pb2

from bench import Bench, changes, new_event
from bowline.v1 import stream_pb2, topic_pb2

EARLIEST = stream_pb2.StartPosition(earliest=stream_pb2.Earliest())
NOTHING_YET = stream_pb2.Credit()


def events_in_all(count):
    return stream_pb2.Credit(events=count)


def payloads(events):
    return [event.payload.decode() for event in events]


class Sessions(Bench):
    def test_no_more_comes_than_was_granted_and_more_once_more_is_granted(self):
        self.store_payloads(*"abcdefgh")
        connection = self.connect()
        connection.open(1, "", self.topic, start=EARLIEST, credit=events_in_all(2))
        self.assertEqual(payloads(connection.receive(2)), ["a", "b"])
        self.assertEqual(connection.settled(), [])
        connection.flow(1, credit=events_in_all(1))
        self.assertEqual(connection.settled(), [], "totals, not increments: a lower one is ignored")
        connection.flow(1, credit=events_in_all(5))
        self.assertEqual(payloads(connection.receive(3)), ["c", "d", "e"])
        self.assertEqual(connection.settled(), [])
        connection.flow(1, credit=stream_pb2.Credit(events=100, bytes=6))
        self.assertEqual(payloads(connection.receive(3)), ["f", "g", "h"], "what had no limit of bytes gets none")

    def test_the_event_that_crosses_the_granted_bytes_is_the_last(self):
        self.store_payloads("four", "four", "four")
        connection = self.connect()
        connection.open(1, "", self.topic, start=EARLIEST, credit=stream_pb2.Credit(events=10, bytes=5))
        connection.receive(2)
        self.assertEqual(connection.settled(), [])

    def test_a_pause_is_answered_and_nothing_follows_until_resume(self):
        connection = self.connect()
        connection.open(1, "", self.topic)
        self.store_payloads("a")
        connection.receive(1)
        reply = connection.ask(flow=stream_pb2.Flow(session=1, paused=True))
        self.assertFalse(reply.HasField("failure"), reply)
        self.store_payloads("b", "c")
        self.assertEqual(connection.settled(), [])
        connection.flow(1, paused=False)
        self.assertEqual(payloads(connection.receive(2)), ["b", "c"])

    def test_a_session_goes_on_at_its_cursor_after_its_transport_was_lost(self):
        doomed = self.new_channel()
        first = self.connect(channel=doomed)
        opened = first.open(1, "desk", self.topic)
        first.publish(1, 1, b"mine")
        while first.cursors[1].offset < 1:
            first.receive(1)
        cursor = first.cursors[1]
        doomed.close()
        self.store_payloads("missed")

        second = self.connect(channel=self.new_channel())
        start = stream_pb2.StartPosition(cursor=cursor)
        again = second.open(1, "desk", self.topic, start=start, last_attach=opened.attach)
        self.assertEqual(again.recovery, stream_pb2.RECOVERY_FULL)
        self.assertEqual(again.published_seq, 1)
        self.assertEqual(payloads(second.receive(1)), ["missed"])
        # Not knowing whether it was stored, a client says it again.
        repeated = second.publish(1, 1, b"mine")
        self.assertTrue(repeated.duplicate)
        self.assertEqual(repeated.cursor.offset, 1)

    def test_a_client_that_is_killed_again_and_again_has_every_event_once(self):
        self.store(self.topic, [new_event(b"%d" % n) for n in range(1000)])
        seen, start, attach = [], EARLIEST, 0
        while len(seen) < 1000:
            connection = self.connect()
            opened = connection.open(
                1, "desk", self.topic, start=start, last_attach=attach, credit=events_in_all(300)
            )
            self.assertGreater(opened.attach, attach)
            attach = opened.attach
            seen += payloads(connection.receive(min(300, 1000 - len(seen))))
            start = stream_pb2.StartPosition(cursor=connection.cursors[1])
            connection.vanish()
        self.assertEqual(seen, [str(n) for n in range(1000)])

    def test_what_was_acknowledged_is_where_a_client_without_memory_goes_on(self):
        self.store_payloads("a", "b", "c")
        first = self.connect()
        first.open(1, "desk", self.topic, start=EARLIEST)
        first.receive(3)
        first.ask(flow=stream_pb2.Flow(session=1, acked=2))
        first.vanish()
        second = self.connect()
        second.open(1, "desk", self.topic, start=stream_pb2.StartPosition(acked=stream_pb2.Acked()))
        self.assertEqual(payloads(second.receive(1)), ["c"])

    def test_a_place_that_is_not_kept_is_not_taken_for_a_new_session(self):
        connection = self.connect()
        acked = stream_pb2.StartPosition(acked=stream_pb2.Acked())
        request = stream_pb2.OpenSession(session=1, session_id="lost", topic=self.topic, start=acked, last_attach=7)
        connection.send(open_session=request)
        failure = connection.next("session_closed").failure
        self.assertEqual((failure.code, failure.reason), (code_pb2.NOT_FOUND, "SESSION_EXPIRED"))
        self.assertEqual(failure.advice, topic_pb2.ADVICE_NEW_SESSION)

    def test_drop_oldest_goes_on_with_the_newest_and_says_what_it_left_out(self):
        connection = self.connect()
        policy = stream_pb2.DELIVERY_POLICY_DROP_OLDEST
        opened = connection.open(1, "", self.topic, delivery_policy=policy, credit=NOTHING_YET)
        self.assertEqual(opened.delivery_policy, policy)
        self.store(self.topic, [new_event(b"%d" % n) for n in range(1, 601)])
        connection.flow(1, credit=events_in_all(10))
        gap = connection.next("gap")
        connection.skip(gap)
        self.assertEqual(gap.reason, stream_pb2.GAP_REASON_SLOW)
        self.assertEqual(gap.count, connection.cursors[1].offset)
        self.assertGreater(gap.count, 0)
        (first, *_) = connection.receive(10)
        self.assertEqual(first.payload, b"%d" % (gap.count + 1))

    def test_disconnect_ends_a_session_that_does_not_keep_up(self):
        connection = self.connect()
        policy = stream_pb2.DELIVERY_POLICY_DISCONNECT
        connection.open(1, "", self.topic, delivery_policy=policy, credit=NOTHING_YET)
        self.store(self.topic, [new_event(b"x")] * 600)
        failure = connection.next("session_closed").failure
        self.assertEqual((failure.code, failure.reason), (code_pb2.RESOURCE_EXHAUSTED, "SLOW_SESSION"))
        self.assertEqual(failure.advice, topic_pb2.ADVICE_RETRY)

    def test_conflate_delivers_the_latest_of_each_key_and_counts_the_rest(self):
        connection = self.connect()
        policy = stream_pb2.DELIVERY_POLICY_CONFLATE
        opened = connection.open(
            1, "", self.state, delivery_policy=policy, max_rate_hz=5, credit=NOTHING_YET
        )
        self.assertEqual((opened.topic_class, opened.max_rate_hz), (topic_pb2.TOPIC_CLASS_STATE, 5))
        self.store_changes("a=1", "b=1", "a=2", "c=1", "-c", "a=3")
        connection.flow(1, credit=events_in_all(100))
        delivery = connection.next("delivery")
        self.assertEqual(changes(connection.advance(delivery)), ["b=1", "-c", "a=3"])
        self.assertEqual(delivery.skipped, 3)

    def test_a_policy_that_the_topic_does_not_allow_is_refused(self):
        connection = self.connect()
        conflate = stream_pb2.DELIVERY_POLICY_CONFLATE
        connection.send(open_session=stream_pb2.OpenSession(session=1, topic=self.topic, delivery_policy=conflate))
        failure = connection.next("session_closed").failure
        self.assertEqual((failure.code, failure.reason), (code_pb2.UNIMPLEMENTED, "UNSUPPORTED"))

    def test_an_idle_session_is_marked_on_heartbeats(self):
        connection = self.connect()
        connection.open(1, "", self.topic)
        self.store_payloads("a", "b")
        connection.receive(2)
        marks = {}
        while 1 not in marks:
            marks = {mark.session: mark.offset for mark in connection.next("heartbeat").marks}
        self.assertEqual(marks, {1: 2})
