"""What a stranger's Python program may expect of Bowline: the conversation, publishing, errors."""

import time

import grpc
from google.rpc import code_pb2, error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from bench import Bench, new_event
from bowline.v1 import stream_pb2, topic_pb2
from bowline_client import WAIT, Ended


def details_of(call):
    """The google.rpc details of a failed call, by type."""
    found = {}
    for detail in rpc_status.from_call(call).details:
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
            if detail.Is(kind.DESCRIPTOR):
                found[kind] = kind()
                detail.Unpack(found[kind])
    return found


class Conversation(Bench):
    def test_hello_is_answered_by_welcome(self):
        welcome = self.connect().welcome
        self.assertEqual(welcome.version, 1)
        self.assertEqual(welcome.client_id, self.client_id)
        self.assertTrue(welcome.connection_id)
        self.assertGreater(welcome.limits.max_payload_bytes, 0)
        self.assertGreater(welcome.receive_timeout_ms, 0)

    def test_published_events_come_back_in_order_and_the_chain_holds(self):
        connection = self.connect()
        opened = connection.open(1, "echo", self.topic)
        self.assertEqual(opened.recovery, stream_pb2.RECOVERY_FRESH)
        payloads = [b"event %d" % n for n in range(1, 201)]
        for seq, payload in enumerate(payloads, 1):
            publish = stream_pb2.Publish(session=1, seq=seq, event=new_event(payload, headers={"n": str(seq)}))
            connection.send(request_id=seq, publish=publish)

        replies, events = {}, []
        while len(replies) < len(payloads) or len(events) < len(payloads):
            (frame,) = connection.frames_of(("reply", "delivery"), 1)
            if frame.WhichOneof("frame") == "delivery":
                events += connection.advance(frame.delivery)
            else:
                self.assertNotIn(frame.reply.request_id, replies, "one reply for each request")
                replies[frame.reply.request_id] = frame.reply
        self.assertEqual([event.payload for event in events], payloads)
        self.assertEqual([event.headers["n"] for event in events], [str(n) for n in range(1, 201)])
        self.assertTrue(all(event.publisher == self.client_id for event in events))
        for event, seq in zip(events, range(1, 201)):
            self.assertFalse(replies[seq].HasField("failure"), replies[seq])
            self.assertEqual(replies[seq].cursor.offset, event.offset)
            self.assertEqual(replies[seq].durability, topic_pb2.DURABILITY_ACCEPTED)
            self.assertGreaterEqual(replies[seq].through_seq, seq)

    def test_a_session_resumes_by_cursor_on_a_new_connection(self):
        for n in range(5):
            self.publish_unary(b"before %d" % n)
        first = self.connect()
        earliest = stream_pb2.StartPosition(earliest=stream_pb2.Earliest())
        opened = first.open(7, "resumed", self.topic, start=earliest)
        self.assertEqual(len(first.receive(5)), 5)
        cursor = first.cursors[7]
        first.vanish()

        for n in range(3):
            self.publish_unary(b"meanwhile %d" % n)
        second = self.connect()
        start = stream_pb2.StartPosition(cursor=cursor)
        again = second.open(1, "resumed", self.topic, start=start, last_attach=opened.attach)
        self.assertEqual(again.recovery, stream_pb2.RECOVERY_FULL)
        self.assertEqual(again.start.offset, cursor.offset)
        self.assertGreater(again.attach, opened.attach)
        self.publish_unary(b"after")
        payloads = [event.payload for event in second.receive(4)]
        self.assertEqual(payloads, [b"meanwhile 0", b"meanwhile 1", b"meanwhile 2", b"after"])

    def test_a_repeated_seq_is_stored_once_and_a_hole_is_refused(self):
        connection = self.connect()
        connection.open(1, "seq", self.topic, mode=stream_pb2.SESSION_MODE_PUBLISH_ONLY)

        def publish(request_id, seq):
            frame = stream_pb2.Publish(session=1, seq=seq, event=new_event(b"x"))
            connection.send(request_id=request_id, publish=frame)
            return connection.next("reply")

        first, repeated, hole = publish(1, 1), publish(2, 1), publish(3, 3)
        self.assertFalse(first.duplicate)
        self.assertTrue(repeated.duplicate)
        self.assertEqual(repeated.cursor.offset, first.cursor.offset)
        self.assertEqual((hole.failure.code, hole.failure.reason), (code_pb2.FAILED_PRECONDITION, "WRONG_SEQ"))
        self.assertEqual(hole.through_seq, 1)

    def test_a_probe_is_answered_and_keeps_the_connection(self):
        connection = self.connect()
        silence = connection.welcome.receive_timeout_ms / 1000
        # The test's server takes a client for suspect after a second or two; then the probe comes.
        deadline = time.monotonic() + silence + WAIT
        while connection.probes_answered < 2 and time.monotonic() < deadline:
            connection.next("heartbeat")
        self.assertGreaterEqual(connection.probes_answered, 2, "silent twice, probed twice, still here")
        connection.send(heartbeat=stream_pb2.Heartbeat(nonce=42, reply_requested=True))
        nonce = None
        while nonce != 42:
            nonce = connection.next("heartbeat").nonce

    def test_half_close_ends_the_stream_with_ok(self):
        connection = self.connect()
        connection.open(1, "s", self.topic)
        connection.send(close_session=stream_pb2.CloseSession(session=1))
        self.assertFalse(connection.next("session_closed").HasField("failure"))
        connection.half_close()
        self.assertEqual(connection.end(), grpc.StatusCode.OK)

    def test_a_frame_before_hello_ends_the_stream_with_its_reason(self):
        connection = self.connect(hello=False)
        connection.send(heartbeat=stream_pb2.Heartbeat())
        with self.assertRaises(Ended) as ended:
            connection.next("welcome")
        self.assertEqual(ended.exception.status, grpc.StatusCode.INVALID_ARGUMENT)
        info = details_of(ended.exception.call)[error_details_pb2.ErrorInfo]
        self.assertEqual((info.reason, info.domain, info.metadata["advice"]), ("PROTOCOL", "bowline", "FATAL"))

    def test_a_failure_in_one_request_leaves_the_stream_alone(self):
        connection = self.connect()
        flow = stream_pb2.Flow(session=99, acked=1)
        connection.send(request_id=5, flow=flow)
        reply = connection.next("reply")
        self.assertEqual(reply.request_id, 5)
        self.assertEqual((reply.failure.code, reply.failure.reason), (code_pb2.NOT_FOUND, "UNKNOWN_SESSION"))

        bad = stream_pb2.OpenSession(session=2, session_id="bad", topic="no..such")
        connection.send(open_session=bad)
        closed = connection.next("session_closed")
        self.assertEqual((closed.session, closed.failure.code), (2, code_pb2.INVALID_ARGUMENT))
        connection.open(2, "good", self.topic)

    def test_back_ends_publish_once_and_read_history(self):
        first = self.publish_unary(b"one", dedupe_id="order-1")
        repeated = self.publish_unary(b"one", dedupe_id="order-1")
        self.assertFalse(first.duplicate)
        self.assertTrue(repeated.duplicate)
        self.assertEqual(repeated.cursor.offset, first.cursor.offset)
        self.publish_unary(b"two", key=b"k")

        page = self.topics.ReadHistory(topic_pb2.ReadHistoryRequest(topic=self.topic, limit=1), timeout=WAIT)
        self.assertEqual([event.payload for event in page.events], [b"one"])
        rest = topic_pb2.ReadHistoryRequest(topic=self.topic, after=page.next)
        page = self.topics.ReadHistory(rest, timeout=WAIT)
        self.assertEqual([(event.payload, event.key) for event in page.events], [(b"two", b"k")])
        self.assertEqual(page.next.offset, page.head.offset)
        self.assertFalse(page.gap)

    def test_an_unacceptable_topic_is_refused_with_the_field(self):
        request = topic_pb2.PublishRequest(topic="no such topic", event=new_event(b""))
        with self.assertRaises(grpc.RpcError) as refused:
            self.topics.Publish(request, timeout=WAIT)
        self.assertEqual(refused.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        details = details_of(refused.exception)
        self.assertEqual(details[error_details_pb2.ErrorInfo].reason, "INVALID_FIELD")
        self.assertEqual(details[error_details_pb2.BadRequest].field_violations[0].field, "topic")

    def test_the_standard_health_service_says_serving(self):
        health = health_pb2_grpc.HealthStub(self.channel)
        for service in ("", "bowline.v1.StreamService"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=WAIT)
            self.assertEqual(answer.status, health_pb2.HealthCheckResponse.SERVING)
        listed = health.List(health_pb2.HealthListRequest(), timeout=WAIT).statuses
        self.assertEqual({answer.status for answer in listed.values()}, {health_pb2.HealthCheckResponse.SERVING})
        self.assertLessEqual({"", "bowline.v1.StreamService"}, set(listed))
        watched = health.Watch(health_pb2.HealthCheckRequest(), timeout=WAIT)
        self.assertEqual(next(watched).status, health_pb2.HealthCheckResponse.SERVING)
        watched.cancel()
        with self.assertRaises(grpc.RpcError) as unknown:
            health.Check(health_pb2.HealthCheckRequest(service="no.such.Service"), timeout=WAIT)
        self.assertEqual(unknown.exception.code(), grpc.StatusCode.NOT_FOUND)
